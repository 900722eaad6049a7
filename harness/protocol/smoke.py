"""Suites that try whether data, disk and code fit together, before anything long is started."""

from __future__ import annotations

from harness.protocol.cells import Suite
from harness.selection import Selection, expand

SCENARIO = "smoke"
"""The scenario that deals a few items and steps of another one."""

SUFFIX = "-smoke"
"""What the names of such suites end in, so that they are recorded apart."""


def smoke_of(suite: Suite, *, backbone: str = "") -> Suite:
    """Return the smoke run of a suite: one seed, a few items and two steps a stage, under a name of its own.

    Args:
        suite: what is tried.
        backbone: in place of the network of its scenarios.
    """
    network = {"backbone": backbone} if backbone else {}
    scenarios = [
        each if each.name == SCENARIO else Selection(SCENARIO, {"over": each.as_written, **network})
        for text in suite.scenarios
        for each in expand(text)
    ]
    changes = {
        "name": f"{suite.name.removesuffix(SUFFIX)}{SUFFIX}",
        "title": f"smoke run: {suite.title or suite.name}",
        "scenarios": tuple(each.as_written for each in scenarios),
        "seeds": 1,
    }
    return suite.model_copy(update=changes)


__all__ = ["smoke_of"]
