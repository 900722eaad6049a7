"""One honest world, and what a forger makes of a submission from it.

`world` runs a small board and four strategies, two as `owb new` writes them, a network and one of
scikit-learn, through the real store, and submits these. A forgery changes a copy of a submission and, where the
forger is careful, makes every digest, key and figure fit again, so that only the stage that is meant to can tell.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.cli.scaffolds import STRATEGY
from harness.contracts import Status, StoredPrediction
from harness.execution.environment import environment
from harness.execution.machine import Machine
from harness.protocol import fingerprint
from harness.protocol.cells import Cell, Suite, cells, contenders, protocols
from harness.store.mlflow_store import PREDICTIONS, Store
from harness.store.predictions import digest, read_answers, write_answers
from harness.store.record import Ending
from leaderboards.publishing.board import Entry, cell_key, read_entry, read_header, yaml_text
from leaderboards.publishing.publish import publish
from leaderboards.publishing.rescore import eval_set_of
from leaderboards.publishing.rescore import rescore as rescored_cell
from leaderboards.publishing.submission import (
    Metadata,
    Submission,
    read_submission,
    sha256,
    submit,
    submitted_file,
)

SCENARIO = "class-incremental[dataset=digits,stages=2,epochs=4]"
SEEDS = 3
RIVALS = ("fine-tune", "joint", "replay")
EXAMPLES = {"first": "", "second": "[power=1.0]", "network": "", "bayes": ""}
METADATA = Metadata(name="An example", authors=("A. Person",), method="nearest class mean", licence="MIT")
NETWORK = '''
import numpy as np
import torch

from harness.contracts import Prediction, Query, Stage, Strategy


class Network(Strategy):
    """A layer of 32 units, trained by Adam on one stage after the other."""

    def setup(self) -> None:
        """Begin with the first stage, which says how large an input is."""
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(32), torch.nn.ReLU(), torch.nn.Linear(32, 10))

    def learn(self, stage: Stage) -> None:
        """Train for three epochs."""
        inputs = torch.tensor(np.asarray(stage.inputs[np.arange(len(stage.ids))], dtype=np.float32))
        inputs = inputs / inputs.max()
        labels = torch.tensor(stage.labels)
        self.net(inputs[:1])
        optimiser = torch.optim.Adam(self.net.parameters(), lr=0.01)
        draws = self.context.stream("batches")
        for _ in range(3):
            for batch in np.array_split(draws.permutation(len(labels)), 1 + len(labels) // 32):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(self.net(inputs[batch]), labels[batch]).backward()
                optimiser.step()

    def predict(self, query: Query) -> Prediction:
        """Answer the class of the largest output."""
        inputs = torch.tensor(np.asarray(query.inputs[np.arange(len(query.ids))], dtype=np.float32))
        with torch.no_grad():
            return Prediction(classes=self.net(inputs / inputs.max()).argmax(dim=1).numpy())
'''

BAYES = '''
import numpy as np
from sklearn.naive_bayes import GaussianNB

from harness.contracts import Prediction, Query, Stage, Strategy


class Bayes(Strategy):
    """Gaussian naive Bayes of scikit-learn, fitted to all that was handed over."""

    def setup(self) -> None:
        """Begin with nothing."""
        self.inputs, self.labels = [], []

    def learn(self, stage: Stage) -> None:
        """Keep the stage."""
        self.inputs.append(flat(stage))
        self.labels.append(stage.labels)

    def predict(self, query: Query) -> Prediction:
        """Answer the likeliest class."""
        model = GaussianNB(var_smoothing=0.01).fit(np.concatenate(self.inputs), np.concatenate(self.labels))
        return Prediction(classes=model.predict(flat(query)).astype(np.int64))


def flat(items: Stage | Query) -> np.ndarray:
    """Return the inputs, a row each."""
    return np.asarray(items.inputs[np.arange(len(items.ids))], dtype=np.float64).reshape(len(items.ids), -1)
'''

CLUMSY = '''

class Clumsy(First):
    """Raise for data it does not like."""

    def learn(self, stage: Stage) -> None:
        """Raise where the mean of the inputs is odd in its fifth digit, which is up to the seed."""
        if int(1e5 * stage.inputs.mean()) % 2 == 0:
            raise ValueError("no such luck, see /home/me/notes/luck.txt")
        super().learn(stage)
'''


@dataclass(frozen=True)
class World:
    """A store, the boards folder with one board, and honest submissions by name."""

    base: Path
    store: Store
    board: Path
    submissions: dict[str, Path]

    @property
    def boards(self) -> Path:
        return self.board.parent


@cache
def world() -> World:
    """Build it once per process."""
    base = Path(tempfile.mkdtemp(prefix="owb-forgeries-"))
    scaffolded = {name: STRATEGY.format(name=name, cls=name.capitalize()) for name in ("first", "second")}
    for name, source in {**scaffolded, "network": NETWORK, "bayes": BAYES}.items():
        (base / f"{name}.py").write_text(source)
    (base / "clumsy.py").write_text(STRATEGY.format(name="first", cls="First") + CLUMSY)
    labels = {name: f"{base}/{name}.py:{name.capitalize()}{params}" for name, params in EXAMPLES.items()}
    labels["clumsy"] = f"{base}/clumsy.py:Clumsy"
    suite = Suite(name="tiny", scenarios=(SCENARIO,), strategies=RIVALS, seeds=SEEDS)
    dealt = protocols(suite.scenarios)
    todo = cells(dealt, contenders(RIVALS), SEEDS)
    store = Store(str(base / "store"))
    for cell in [*todo, *cells(dealt, contenders(labels.values()), SEEDS)]:
        record(cell, store, base / "scratch")
    board = publish("tiny", suite, todo, store, base / "boards")
    made = {
        name: submit(label, board, METADATA, store, base / "submissions" / name)
        for name, label in labels.items()
    }
    return World(base, store, board, made)


def record(cell: Cell, store: Store, scratch: Path) -> None:
    """Run and record one cell in this process, as pool and recording thread do together."""
    scratch.mkdir(exist_ok=True)
    scenario = cell.protocol.scenario
    run_id = store.begin(cell, experiment="tiny", environment=environment(Machine()))
    sealed = build(scenario, cell.seed, reveal=cell.contender.label == "joint")
    settings = CellSettings(
        root_seed=learner_seed(cell.seed), budget=scenario.budget(), needed=scenario.answers
    )
    answers: list[StoredPrediction] = []
    ending = Ending(status=Status.DONE, seconds=0.1, peak_mib=100.0)
    try:
        for result in run_cell(
            cell.contender.plugin.cls(**cell.contender.params), sealed.episodes, settings, scratch=scratch
        ):
            answers += result.answers
    except ValueError as error:
        ending = Ending(status=Status.FAILED, reason=f"ValueError: {error}")
    write_answers(scratch / PREDICTIONS, answers)
    scores = scenario.score(sealed.truth, answers) if ending.status is Status.DONE else None
    store.end(run_id, replace(ending, digest=digest(answers)), scores=scores, files=scratch)


# --- a forger's tools ---------------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the content of a YAML file."""
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def sign(folder: Path) -> None:
    """State the SHA-256 of every file as it is now."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: sha256(folder / name) for name in names if name != "submission.yaml"}
    edit(folder / "submission.yaml", lambda content: content.update(files=files))


def rekey(folder: Path, board: Path | None = None) -> None:
    """State the code digest and the keys that go with source and configuration as they are now, for a board,
    `world`'s if none is named; sign.
    """
    entry = read_entry(folder / "entry.yaml")
    source = folder / "strategy.py"
    entry = entry.model_copy(update={"code": fingerprint.of_code("", source.read_text())})
    _write(folder, entry, board)


def rescore(folder: Path, board: Path | None = None) -> None:
    """State the digests and figures that go with the predictions as they are now, for a board, `world`'s if
    none is named; sign.
    """
    entry = read_entry(folder / "entry.yaml")
    rows = []
    for cell in entry.cells:
        if cell.status is Status.DONE:
            marked = rescored_cell(
                eval_set_of(protocols([cell.scenario])[0].scenario, cell.seed), folder / submitted_file(cell)
            )
            cell = cell.model_copy(update={"digest": marked.digest, "metrics": dict(marked.metrics)})
        rows.append(cell)
    _write(folder, entry.model_copy(update={"cells": tuple(rows)}), board)


def _write(folder: Path, entry: Entry, board: Path | None = None) -> None:
    protocols = {each.label: each for each in read_header(board or world().board).protocols}
    rows = tuple(
        cell.model_copy(update={"key": cell_key(protocols[cell.scenario], entry, cell)})
        for cell in entry.cells
    )
    (folder / "entry.yaml").write_text(yaml_text(entry.model_copy(update={"cells": rows})))
    sign(folder)


def with_source(folder: Path, text: str) -> None:
    """Hand in another source; everything fits."""
    (folder / "strategy.py").write_text(text)
    rekey(folder)


def with_attack(folder: Path, lines: str) -> None:
    """Put lines at the beginning of `learn`; everything fits, the predictions are those of the honest source."""
    indented = "".join(f"        {line}\n" for line in lines.strip().splitlines())
    source = (folder / "strategy.py").read_text()
    mark_ = "        for label in np.unique"
    assert source.count(mark_) == 1
    with_source(folder, source.replace(mark_, f"{indented}{mark_}"))


def predictions(folder: Path, seed: int = 0) -> Path:
    """Return the file of predictions of a seed."""
    (path,) = (folder / "predictions").glob(f"*--seed-{seed}.npz")
    return path


def change_answers(
    folder: Path, seed: int, change: Callable[[StoredPrediction], dict[str, np.ndarray]]
) -> None:
    """Replace the arrays of every answer of a seed."""
    path = predictions(folder, seed)
    write_answers(path, [replace(answer, arrays=change(answer)) for answer in read_answers(path)])


def submission(folder: Path) -> Submission:
    """Return what `submission.yaml` says."""
    return read_submission(folder)


# --- paper forgeries: what was handed in gives them away ----------------------------------------------------


def edited_metric(folder: Path) -> None:
    edit(folder / "entry.yaml", lambda entry: entry["cells"][0]["metrics"].update(average_accuracy=0.999))
    sign(folder)


def true_classes(folder: Path, seed: int) -> Callable[[StoredPrediction], dict[str, np.ndarray]]:
    truth = eval_set_of(protocols([SCENARIO])[0].scenario, seed).truth
    return lambda answer: {"classes": truth.labels[answer.ids]}


def edited_prediction(folder: Path) -> None:
    change_answers(folder, 0, true_classes(folder, 0))


def swapped_seeds(folder: Path) -> None:
    """The better answers under the name of the other seed, with their figures."""
    first, second = predictions(folder, 0), predictions(folder, 1)
    aside = folder / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)

    def swap(entry: dict[str, Any]) -> None:
        a, b = entry["cells"][0], entry["cells"][1]
        for name in ("digest", "metrics"):
            a[name], b[name] = b[name], a[name]

    edit(folder / "entry.yaml", swap)
    sign(folder)


def stale_protocol(folder: Path) -> None:
    """Made for a board of the same name with one seed less."""
    header = read_header(world().board)
    from leaderboards.publishing.board import board_hash

    earlier = board_hash(header.suite.model_copy(update={"seeds": SEEDS - 1}), header.protocols)
    edit(folder / "submission.yaml", lambda content: content.update(board_hash=earlier))


def missing_failed_cell(folder: Path) -> None:
    """Leave out the cell that failed; `folder` is a copy of a submission that has one."""

    def leave_out(entry: dict[str, Any]) -> None:
        entry["cells"] = [cell for cell in entry["cells"] if cell["status"] == "done"]

    edit(folder / "entry.yaml", leave_out)
    sign(folder)


def duplicate(folder: Path) -> None:
    """The predictions of an entry of the board under one's own name."""
    theirs = world().board / "entries" / "replay"
    entry = read_entry(theirs / "entry.yaml")
    mine = read_entry(folder / "entry.yaml")
    rows = []
    for cell, other in zip(mine.cells, entry.cells, strict=True):
        shutil.copyfile(theirs / submitted_file(other), folder / submitted_file(cell))
        rows.append(cell.model_copy(update={"digest": other.digest, "metrics": other.metrics}))
    _write(folder, mine.model_copy(update={"cells": tuple(rows)}))


def identical_across_seeds(folder: Path) -> None:
    """The answers of seed 0, row by row, also for the items of seed 1."""
    taken = {answer.stage: answer.arrays["classes"] for answer in read_answers(predictions(folder, 0))}
    change_answers(folder, 1, lambda answer: {"classes": np.resize(taken[answer.stage], len(answer.ids))})
    rescore(folder)


def other_configuration(folder: Path) -> None:
    edit(folder / "entry.yaml", lambda entry: entry["params"].update(power=9.0))
    sign(folder)


def traversal_in_files(folder: Path) -> None:
    edit(folder / "submission.yaml", lambda content: content["files"].update({"../../.bashrc": "0" * 64}))


def traversal_in_archive(folder: Path) -> None:
    with zipfile.ZipFile(predictions(folder), "a") as archive, archive.open("../../evil.npy", "w") as file:
        np.lib.format.write_array(file, np.zeros(3))
    sign(folder)


def traversal_in_strategy(folder: Path) -> None:
    edit(
        folder / "entry.yaml",
        lambda entry: entry.update(strategy="../../evil.py:First", label="../../evil.py:First"),
    )
    sign(folder)


def traversal_in_board(folder: Path) -> None:
    edit(folder / "submission.yaml", lambda content: content.update(board="../../tiny"))


def symlink(folder: Path) -> None:
    predictions(folder).unlink()
    (folder / "predictions" / "passwords.npz").symlink_to("/etc/passwd")


def zip_bomb(folder: Path) -> None:
    with (
        zipfile.ZipFile(predictions(folder), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("0.gaps.npy", "w") as file,
    ):
        zeros = bytes(1 << 20)
        for _ in range(300):
            file.write(zeros)
    sign(folder)


def oversized_array(folder: Path) -> None:
    with zipfile.ZipFile(predictions(folder), "w") as archive, archive.open("0.gaps.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        )
        file.write(bytes(64))
    sign(folder)


def object_array(folder: Path) -> None:
    np.savez(predictions(folder), **{"0.gaps": np.array([{"an": "object"}], dtype=object)})
    sign(folder)


def yaml_tag(folder: Path) -> None:
    path = folder / "entry.yaml"
    path.write_text(path.read_text() + "reason: !!python/object/apply:os.system ['touch /tmp/owned']\n")


def yaml_aliases(folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    (folder / "submission.yaml").write_text("\n".join(lines) + "\n")


def yaml_depth(folder: Path) -> None:
    (folder / "submission.yaml").write_text("[" * 50_000)


def nan_figure(folder: Path) -> None:
    edit(
        folder / "entry.yaml",
        lambda entry: entry["cells"][0]["metrics"].update(average_accuracy=float("nan")),
    )
    sign(folder)


def _with_scores(folder: Path, value: float) -> None:
    change_answers(
        folder,
        0,
        lambda answer: {**answer.arrays, "scores": np.full((len(answer.ids), 10), value, dtype=np.float32)},
    )
    rescore(folder)


def nan_in_predictions(folder: Path) -> None:
    _with_scores(folder, float("nan"))


def infinity_in_predictions(folder: Path) -> None:
    _with_scores(folder, float("inf"))


def not_utf8(folder: Path) -> None:
    path = folder / "strategy.py"
    path.write_bytes(path.read_bytes() + b"# \xff\xfe\n")
    sign(folder)


def many_files(folder: Path) -> None:
    for number in range(10_000):
        (folder / "predictions" / f"x-{number}.npz").touch()


def large_file(folder: Path) -> None:
    with (folder / "strategy.py").open("a") as file:
        file.write("#" * (300 << 10))
    sign(folder)


def lines(*parts: str) -> str:
    """Join lines of an attack."""
    return "\n".join(parts)


def copies(folder: Path, where: Path) -> Path:
    """Return a copy of a submission that a test may spoil."""
    return Path(shutil.copytree(folder, where))


def stages_that_refuse(report: dict[str, Any]) -> list[str]:
    """Return the names of the stages with problems."""
    return [stage["name"] for stage in report["stages"] if stage["problems"]]


def problems_of(report: dict[str, Any]) -> Iterable[str]:
    """Return all problems."""
    return [problem for stage in report["stages"] for problem in stage["problems"]]
