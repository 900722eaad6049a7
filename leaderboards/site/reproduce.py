"""One line that makes a cell again. `owb run` takes a number of seeds, counted from 0: seed k needs k + 1 of
them.

>>> command_of("replay[memory=50]", "class-incremental", seeds=3)
"owb run 'replay[memory=50]' --scenario class-incremental --seeds 3 --no-bounds"
"""

from __future__ import annotations

import shlex

from harness.protocol.cells import Suite

SEED_PLACE = "{seeds}"
"""Stands for the number of seeds in `one_seed`."""


def command_of(strategy: str, scenario: str, *, seeds: int | str, suite: Suite | None = None) -> str:
    """Return the command that runs `strategy` alone on `scenario` under the first `seeds` seeds, within the
    limits of `suite`.
    """
    parts = ["owb", "run", strategy, "--scenario", scenario]
    said = " ".join(shlex.quote(" ".join(part.split())) for part in parts)
    return f"{said} --seeds {seeds} --no-bounds{_limits(suite)}"


def one_seed(strategy: str, scenario: str, *, suite: Suite | None = None) -> str:
    """Return the same command with `SEED_PLACE` where the number of seeds belongs."""
    return command_of(strategy, scenario, seeds=SEED_PLACE, suite=suite)


def _limits(suite: Suite | None) -> str:
    """Say the limits that are not those of `owb run` itself."""
    if suite is None:
        return ""
    defaults = {name: field.default for name, field in Suite.model_fields.items()}
    timeout = f" --timeout {suite.timeout_s:g}" if suite.timeout_s != defaults["timeout_s"] else ""
    return timeout + (f" --memory {suite.memory_mib}" if suite.memory_mib != defaults["memory_mib"] else "")


__all__ = ["SEED_PLACE", "command_of", "one_seed"]
