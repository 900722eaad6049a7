"""Stage 2, integrity: every digest and key is taken again, and the protocol is the one that the board has
today.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from harness.errors import UserError
from harness.parameters import with_new_names
from harness.plugins import find, is_by_path
from harness.protocol import fingerprint
from harness.protocol.cells import Protocol, code_of_components, with_components
from harness.selection import recorded, single, split_outside
from harness.store import predictions
from leaderboards.gate.case import Case, where
from leaderboards.publishing.board import SOURCE, BoardProtocol, cell_key
from leaderboards.publishing.submission import SUBMISSION, sha256


def integrity(case: Case) -> Iterator[str]:
    """Say what does not fit together."""
    yield from _files(case)
    yield from _protocols(case)
    yield from _configuration(case)
    yield from _code(case)
    for cell in case.entry.cells:
        protocol = case.protocols.get(cell.scenario)
        if protocol is not None and cell.key != cell_key(protocol, case.entry, cell):
            yield f"{where(cell)}: its key is not that of the board's protocol, configuration, seed, code and libraries"
    for cell in case.readable:
        try:
            found = predictions.digest(case.answers(cell))
        except UserError as error:
            yield f"{where(cell)}: {error}"
            continue
        if found != cell.digest:
            yield f"{where(cell)}: the digest of its predictions is not the one stated: they were edited after the run"


def _files(case: Case) -> Iterator[str]:
    stated = case.submission.files
    there = case.sound - {SUBMISSION}
    yield from (f"{name} is there but not listed in {SUBMISSION}" for name in sorted(there - stated.keys()))
    yield from (f"{name} is listed in {SUBMISSION} but not there" for name in sorted(stated.keys() - there))
    for name in sorted(stated.keys() & there):
        if sha256(case.folder / name) != stated[name]:
            yield f"{name} is not the file whose SHA-256 is stated"


def _protocols(case: Case) -> Iterator[str]:
    header = case.board.header
    if case.submission.board_hash != header.hash:
        yield (
            f"its protocol hash {case.submission.board_hash[:12]} is stale: board {header.name!r} has "
            f"{header.hash[:12]} today"
        )
    for protocol in header.protocols:
        try:
            scenario = protocol.scenario()
            here = BoardProtocol.of(
                Protocol(label=protocol.label, scenario_name=protocol.content["scenario"], scenario=scenario)
            )
        except UserError as error:
            yield f"{protocol.label} cannot be dealt here, so nothing can be recomputed: {error}"
            continue
        if here != protocol:
            yield (
                f"{protocol.label} is dealt otherwise by this installation than on the board, so nothing "
                "can be recomputed"
            )


def _configuration(case: Case) -> Iterator[str]:
    """What the label says must be in the resolved configuration; of an installed strategy, the whole of it is
    known.
    """
    entry = case.entry
    said = single(entry.label)
    if _names_file(said.text("components")) or _names_file(str(entry.params.get("components", ""))):
        yield f"{entry.label} names a component in a file, which nobody else has"
        return
    if case.source is not None:
        for name, value in said.params.items():
            if name != "preset" and entry.params.get(name) not in (value, said.text(name)):
                yield f"the label says {name}={value}, the configuration {name}={entry.params.get(name)!r}"
        return
    try:
        plugin = find("strategy", entry.strategy)
        here, stated = recorded(plugin, said), with_new_names(plugin.cls, entry.params)
    except UserError as error:
        yield str(error)
        return
    for name in sorted(here.keys() | stated.keys()):
        if here.get(name) != stated.get(name):
            yield f"{entry.label} means {name}={here.get(name)!r}, the configuration says {stated.get(name)!r}"


def _names_file(components: str) -> bool:
    try:
        return any(is_by_path(single(part).name) for part in split_outside(components, "+"))
    except UserError:
        return False  # a strategy of somebody else may mean something else by the word


def _code(case: Case) -> Iterator[str]:
    source = case.source
    try:
        if source is None:
            code = fingerprint.of_code(find("strategy", case.entry.strategy).cls.__module__)
        else:
            code = fingerprint.of_code("", source)
    except UserError:
        return  # said with the configuration
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield f"{SOURCE} is not Python: {type(error).__name__}"
        return
    components = str(case.entry.params.get("components", ""))
    if not _names_file(components):
        with suppress(UserError):
            code = with_components(code, code_of_components(components))
    if code != case.entry.code:
        what = SOURCE if source is not None else f"the installed {case.entry.strategy}"
        yield f"{what}, with what it imports and the engine, is not the code that ran: run it again as it is now"


__all__ = ["integrity"]
