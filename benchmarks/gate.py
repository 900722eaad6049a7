"""How long the gate takes over 100 cells without running their code: 20 scenarios under 5 seeds, real deals,
synthetic answers.

The scenarios are class-incremental digits in 2 to 5 stages with 1 to 5 epochs; the answers are the truth with
a tenth of the rows drawn anew, so that every stage of the gate has something to compute. The board has two
entries besides.

Run: python benchmarks/gate.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness import seeds
from harness.cli.scaffolds import STRATEGY
from harness.contracts import Status, StoredPrediction
from harness.execution.environment import environment
from harness.execution.machine import Machine
from harness.protocol import fingerprint
from harness.protocol.cells import Protocol, Suite, protocols
from harness.store.predictions import digest, write_answers
from leaderboards.gate.examine import examine
from leaderboards.publishing.board import (
    BoardCell,
    BoardProtocol,
    Entry,
    Header,
    board_hash,
    cell_key,
    entry_folder,
    yaml_text,
)
from leaderboards.publishing.rescore import EvalSet, eval_set_of, rescore
from leaderboards.publishing.submission import Submission, sha256, submitted_file

SEEDS = 5
SCENARIOS = tuple(
    f"class-incremental[dataset=digits,stages={stages},epochs={epochs}]"
    for stages in (2, 3, 4, 5)
    for epochs in range(1, 6)
)


def main() -> None:
    """Make the board and the submission, then time the gate."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        source = STRATEGY.format(name="mine", cls="Mine")
        dealt = protocols(SCENARIOS)
        eval_sets = {
            (protocol.label, seed): eval_set_of(protocol.scenario, seed)
            for protocol in dealt
            for seed in range(SEEDS)
        }
        board = base / "boards" / "synthetic"
        suite = Suite(name="synthetic", scenarios=SCENARIOS, strategies=("fine-tune", "replay"), seeds=SEEDS)
        described = tuple(BoardProtocol.of(protocol) for protocol in dealt)
        header = Header(name="synthetic", hash=board_hash(suite, described), suite=suite, protocols=described)
        for label in suite.strategies:
            _write_entry(board / entry_folder(label), label, label, {}, label, dealt, eval_sets)
        (board / "protocol.yaml").write_text(yaml_text(header), encoding="utf-8")
        folder = base / "submission"
        _write_entry(
            folder,
            "mine.py:Mine",
            "mine.py:Mine",
            {"power": 2.0},
            fingerprint.of_code("", source),
            dealt,
            eval_sets,
        )
        (folder / "strategy.py").write_text(source, encoding="utf-8")
        files = {
            path.relative_to(folder).as_posix(): sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        said = Submission(
            name="Mine",
            authors=("A",),
            method="m",
            licence="MIT",
            board="synthetic",
            board_hash=header.hash,
            files=files,
        )
        (folder / "submission.yaml").write_text(yaml_text(said), encoding="utf-8")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        started = time.perf_counter()
        report = examine(folder, base / "boards", rerun=False)
        seconds = time.perf_counter() - started
    print(report.text())
    print(f"{len(eval_sets)} cells, {size:.1f} MB: {seconds:.1f} s")
    sys.exit(report.refused)


def _write_entry(
    folder: Path,
    label: str,
    strategy: str,
    params: dict[str, float],
    code: str,
    dealt: list[Protocol],
    eval_sets: dict[tuple[str, int], EvalSet],
) -> None:
    (folder / "predictions").mkdir(parents=True)
    rows = []
    entry = Entry(
        label=label,
        strategy=strategy,
        params=params,
        code=code,
        environments=(environment(Machine()),),
        cells=(),
    )
    for protocol in dealt:
        described = BoardProtocol.of(protocol)
        for seed in range(SEEDS):
            eval_set = eval_sets[protocol.label, seed]
            answers = _answers(eval_set, label, seed)
            cell = BoardCell(
                scenario=protocol.label,
                seed=seed,
                status=Status.DONE,
                key="",
                digest=digest(answers),
                environment=0,
            )
            path = folder / submitted_file(cell)
            write_answers(path, answers)
            found = {
                "metrics": dict(rescore(eval_set, path).metrics),
                "key": cell_key(described, entry, cell),
            }
            rows.append(cell.model_copy(update=found))
    (folder / "entry.yaml").write_text(
        yaml_text(entry.model_copy(update={"cells": tuple(rows)})), encoding="utf-8"
    )


def _answers(eval_set: EvalSet, label: str, seed: int) -> list[StoredPrediction]:
    rng = seeds.stream("answers", seed=seed, of=label)
    found = []
    for stage, ids in enumerate(eval_set.test_ids):
        drawn = rng.integers(0, eval_set.truth.named_classes[stage], len(ids))
        classes = np.where(rng.random(len(ids)) < 0.1, drawn, eval_set.truth.labels[ids])
        found.append(
            StoredPrediction(stage=stage, step=None, ids=ids, arrays={"classes": classes.astype(np.int64)})
        )
    return found


if __name__ == "__main__":
    main()
