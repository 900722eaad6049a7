"""Boards that pages are made of: the committed ones, and records whose labels would like to be markup."""

from __future__ import annotations

import math
from collections.abc import Sequence

from checkout import ROOT

from harness.contracts import Status
from harness.store.record import Record

BOARDS = ROOT / "leaderboards" / "boards"
NAN = math.nan
HOSTILE = ("<script>alert(1)</script>", r"\input{/etc/passwd}", "a|b`c*_d</style>&amp;\n% $x$", "__proto__")


def records_of(
    figures: dict[str, Sequence[float]], scenario: str = "class-incremental", protocol: str = "p"
) -> list[Record]:
    """Return one record per figure; NaN stands for a cell that timed out."""
    return [
        Record(
            key=f"{protocol}{label}{seed}",
            run_id="",
            protocol_hash=protocol,
            scenario=scenario,
            strategy=label,
            seed=seed,
            status=Status.TIMEOUT if math.isnan(value) else Status.DONE,
            reason="took <b>more</b> than 5 s" if math.isnan(value) else "",
            metrics={} if math.isnan(value) else {"average_accuracy": value, "forgetting": 1 - value},
            seconds=10.0 * (1 + len(label)) + seed,
            peak_mib=100.0 + seed,
            params={"lr": label, "seed": "0", "scenario.epochs": "1"},
        )
        for label, values in figures.items()
        for seed, value in enumerate(values)
    ]


def hostile_records() -> list[Record]:
    """Return records with failures and with labels that would like to be markup, on two scenarios."""
    bounds = {"fine-tune": [0.2, 0.21, 0.19], "joint": [0.95, 0.96, 0.95]}
    field = {
        label: [0.5 + 0.1 * at, 0.52 + 0.1 * at, NAN if at == 1 else 0.51 + 0.1 * at]
        for at, label in enumerate(HOSTILE)
    }
    other = "class-incremental[dataset=glyphs]"
    return records_of({**bounds, **field}) + records_of({**bounds, **field}, other, protocol="q")
