"""Probes as they are asked for: found, with all parameters, and with a digest of what their figures depend on.

Probes are in no protocol and in no key of a cell: they change no prediction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.cell.looks import DEFAULT_AT, SHARE, AskedProbe, Looks, moments
from harness.errors import UserError
from harness.parameters import model_of
from harness.plugins import find
from harness.probes.contract import Probe
from harness.protocol import fingerprint
from harness.selection import expand, resolved

_NOT_IN_NAMES = re.compile(r"[^\w\-.]+")
"""What the name of a figure may not hold."""


def looks_of(texts: Iterable[str], at: str = "", *, share: float = SHARE) -> Looks | None:
    """Return what is looked at for these probes, None where there are none.

    Args:
        texts: selections such as `dse[sigma=10]`.
        at: when (`harness.cell.looks.moments`).
        share: the part of the time of learning that looks may take.

    Raises:
        UserError: no such probe, parameter or way to say when; or a class that is no probe.
    """
    asked = tuple({probe.identity: probe for text in texts for probe in _asked(text)}.values())
    if not asked:
        if at:
            raise UserError("--probe-at says when probes look: name one with --probe too")
        return None
    moments(at or DEFAULT_AT)
    return Looks(probes=asked, at=at or DEFAULT_AT, share=share)


def _asked(text: str) -> Iterable[AskedProbe]:
    for said in expand(text):
        plugin = find("probe", said.name)
        if not issubclass(plugin.cls, Probe):
            raise UserError(
                f"{plugin.name} is no probe: it does not derive from harness.probes.contract.Probe"
            )
        params = resolved(plugin, said)
        owner: type = plugin.cls
        fields = model_of(owner).model_fields
        changed = [
            _NOT_IN_NAMES.sub("-", f"{name} {value}")
            for name, value in params.items()
            if name != "of" and value != fields[name].default
        ]
        code = fingerprint.of_code(plugin.cls.__module__, plugin.source, plugin.folder, engine=())
        name = plugin.name.rpartition("/")[2]
        yield AskedProbe(
            name=plugin.address,
            source=plugin.source,
            params=params,
            suffix="".join(f" {each}" for each in changed),
            identity=fingerprint.of_value({"probe": name, "params": params, "code": code}),
        )


__all__ = ["looks_of"]
