"""A board says only what its predictions give; whoever edits one byte of it is named."""

from __future__ import annotations

import doctest
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from runs import BLOBS, world

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.contracts import Status, StoredPrediction, TrainingBudget
from harness.errors import UserError
from harness.execution.environment import environment
from harness.execution.machine import Machine
from harness.plugins import Plugin, find
from harness.protocol.cells import Cell, Contender, Suite, cells, contenders, protocols, read_suite
from harness.store.mlflow_store import PREDICTIONS, Store
from harness.store.predictions import digest, read_answers, write_answers
from harness.store.record import Ending
from leaderboards.publishing import board
from leaderboards.publishing import publish as publishing
from leaderboards.publishing.board import Board, predictions_file, read_board, slug
from leaderboards.publishing.check import check_board
from leaderboards.publishing.publish import publish

SEEDS = 2
MEANS, RAISES = world("Means"), world("Raises")
SCENARIOS = (f"{BLOBS}[items=5]", f"{BLOBS}[items=6]")


@dataclass(frozen=True)
class World:
    """A store with two scenarios, two contenders and both bounds, and a board made from it."""

    suite: Suite
    cells: list[Cell]
    store: Store
    folder: Path


def _bound(label: str, cls: str) -> Contender:
    """Return a contender with the name of a bound that runs something quick."""
    return Contender(
        label=label,
        plugin=Plugin(kind="strategy", name=label, cls=find("strategy", world(cls)).cls),
        params={},
        code=label,
    )


def _run(cell: Cell, store: Store, scratch: Path) -> None:
    """Run and record one cell in this process, as the pool and the recording thread do together."""
    run_id = store.begin(cell, experiment="tiny", environment=environment(Machine()))
    sealed = build(cell.protocol.scenario, cell.seed)
    settings = CellSettings(
        root_seed=learner_seed(cell.seed), budget=TrainingBudget(backbone="mlp", epochs=1, batch_size=8)
    )
    answers: list[StoredPrediction] = []
    ending = Ending(
        status=Status.DONE,
        seconds=0.25 + cell.seed,
        peak_mib=100.04,
        session="s" if cell.contender.label != "joint" else "",
    )
    try:
        for result in run_cell(
            cell.contender.plugin.cls(**cell.contender.params), sealed.episodes, settings, scratch=scratch
        ):
            answers += result.answers
    except ValueError as error:
        ending = Ending(status=Status.FAILED, reason=f"ValueError: {error}", seconds=0.1, session="s")
    scores = cell.protocol.scenario.score(sealed.truth, answers)
    write_answers(scratch / PREDICTIONS, answers)
    store.end(run_id, replace(ending, digest=digest(answers)), scores=scores, files=scratch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    base = tmp_path_factory.mktemp("world")
    suite = Suite(
        name="tiny", scenarios=SCENARIOS, strategies=(MEANS, RAISES, "joint", "fine-tune"), seeds=SEEDS
    )
    fighters = [*contenders([MEANS, RAISES]), _bound("joint", "Means"), _bound("fine-tune", "Guess")]
    todo = cells(protocols(suite.scenarios), fighters, SEEDS)
    store = Store(str(base / "store"))
    (base / "scratch").mkdir()
    for cell in todo:
        _run(cell, store, base / "scratch")
    return World(suite, todo, store, publish("tiny", suite, todo, store, base / "boards"))


@pytest.fixture
def copy(made: World, tmp_path: Path) -> Path:
    """Return a copy of the board that a test may spoil."""
    return Path(shutil.copytree(made.folder, tmp_path / "tiny"))


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _edit_yaml(path: Path, change: Callable[[dict], None]) -> None:
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _entry_file(folder: Path, label: str = MEANS) -> Path:
    return folder / "entries" / slug(label) / "entry.yaml"


def _predictions(folder: Path) -> Path:
    entry = next(entry for entry in read_board(folder).entries if entry.label == MEANS)
    return folder / predictions_file(entry, entry.cells[0])


# --- a sound board ------------------------------------------------------------------------------------------


def test_a_published_board_has_nothing_wrong_with_it(made: World) -> None:
    assert check_board(made.folder) == []


def test_the_board_holds_every_cell_failures_included(made: World) -> None:
    entries = read_board(made.folder).entries
    rows = {(cell.scenario, entry.label, cell.seed): cell for entry in entries for cell in entry.cells}
    assert len(rows) == 2 * 4 * SEEDS
    failed = rows[SCENARIOS[0], RAISES, 1]
    assert (failed.status, failed.reason) == (Status.FAILED, "ValueError: the second stage is too hard")
    assert failed.metrics == {}
    assert failed.digest == ""
    done = rows[SCENARIOS[0], MEANS, 1]
    assert (done.seconds, done.peak_mib) == (1.25, 100.0)
    assert 0.0 < done.metrics["average_accuracy"] <= 1.0


def test_the_costs_of_a_board_are_those_of_one_run(made: World) -> None:
    board = read_board(made.folder)
    rows = {row.strategy: row for row in board.rankings()[0].rows}
    assert (rows[MEANS].compares, rows["joint"].compares) == (True, False)
    page = (made.folder / "README.md").read_text()
    assert "in one run on one machine" in page
    assert (
        page.count("not comparable") == 2 * len(SCENARIOS) + 1
    )  # joint, twice in either table, and what it means


def test_a_strategy_from_a_file_keeps_its_text(made: World) -> None:
    assert "class Means(Strategy)" in (_entry_file(made.folder).parent / "strategy.py").read_text()
    assert not (made.folder / "entries" / "joint" / "strategy.py").exists()


def test_owb_run_reads_the_suite_of_a_board(made: World) -> None:
    assert read_suite(made.folder / "protocol.yaml") == made.suite


def test_the_page_shows_ranks_failures_and_how_to_run_it_again(made: World) -> None:
    text = (made.folder / "README.md").read_text()
    assert text.startswith("# tiny\n")
    assert read_board(made.folder).header.hash in text
    assert "the second stage is too hard" in text
    assert "owb run leaderboards/boards/tiny/protocol.yaml" in text
    assert "## Over all scenarios" in text
    assert "2 seeds cannot reach two-sided 5 % by sign flips" in text


def test_publishing_again_replaces_the_board_with_the_same_bytes(made: World, tmp_path: Path) -> None:
    root = tmp_path / "boards"
    (root / "tiny").mkdir(parents=True)
    (root / "tiny" / "left-over.txt").write_text("old")
    again = publish("tiny", made.suite, made.cells, made.store, root)
    assert _files(again) == _files(made.folder)
    assert [path.name for path in root.iterdir()] == ["tiny"]


def test_rendering_anew_changes_nothing(copy: Path) -> None:
    before = _files(copy)
    publishing.render(copy)
    assert _files(copy) == before


def test_a_new_strategy_leaves_the_board_hash_alone_and_a_new_limit_does_not(made: World) -> None:
    header = read_board(made.folder).header
    more = made.suite.model_copy(update={"strategies": ("replay",), "title": "other"})
    longer = made.suite.model_copy(update={"timeout_s": 1.0})
    assert publishing.board_hash(more, header.protocols) == header.hash
    assert publishing.board_hash(longer, header.protocols) != header.hash


# --- what is refused ----------------------------------------------------------------------------------------


def test_a_record_that_its_predictions_do_not_give_is_refused(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = made.store.finished

    def flattered(protocol_hashes: set[str]) -> dict:
        records = finished(protocol_hashes)
        key = next(key for key, record in records.items() if record.strategy == MEANS and record.seed == 1)
        return {**records, key: replace(records[key], metrics={"average_accuracy": 0.999})}

    monkeypatch.setattr(made.store, "finished", flattered)
    with pytest.raises(
        UserError, match=r"Means \| seed 1: average_accuracy is stated as 0\.999, recomputed as"
    ):
        publish("tiny", made.suite, made.cells, made.store, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_scenario_that_no_board_takes_is_refused_and_found(
    made: World, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(made.cells[0].protocol.scenario), "board_exclusion_reason", lambda _: "it peeks")
    with pytest.raises(UserError, match="cannot stand on a board: it peeks"):
        publish("tiny", made.suite, made.cells, made.store, tmp_path)
    assert any("cannot stand on a board: it peeks" in problem for problem in check_board(copy))


def test_cells_that_have_not_run_are_named(made: World, tmp_path: Path) -> None:
    more = cells([cell.protocol for cell in made.cells[:1]], contenders([world("Guess")]), 1)
    with pytest.raises(
        UserError, match=r"1 of 17 cells have not run: .*Guess \| seed 0; run the suite first"
    ):
        publish("tiny", made.suite, [*made.cells, *more], made.store, tmp_path)


def test_cells_that_ran_with_other_libraries_are_named(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = made.store.finished

    def elsewhere(protocol_hashes: set[str]) -> dict:
        records = finished(protocol_hashes)
        key = next(key for key, record in records.items() if record.strategy == MEANS and record.seed == 1)
        return {**records, key: replace(records[key], mixed="torch 1.0 instead of 2.0")}

    monkeypatch.setattr(made.store, "finished", elsewhere)
    said = r"1 of 16 cells ran with other libraries than their keys name: .*Means \| seed 1; run the suite without"
    with pytest.raises(UserError, match=said):
        publish("tiny", made.suite, made.cells, made.store, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_board_that_is_too_large_is_refused_and_leaves_the_old_one(
    copy: Path, made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _files(copy)
    monkeypatch.setattr(publishing, "LIMIT_MB", 0.01)
    with pytest.raises(
        UserError, match=r"board 'tiny' would take 0\.\d MB, more than 0; largest: entries/.* MB"
    ):
        publish("tiny", made.suite, made.cells, made.store, copy.parent)
    assert _files(copy) == before
    assert list(copy.parent.iterdir()) == [copy]


@pytest.mark.parametrize("name", ["../up", "", "Upper", ".hidden", "a/b"])
def test_a_name_that_is_no_folder_name_is_refused(made: World, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a board"):
        publish(name, made.suite, made.cells, made.store, tmp_path)


# --- what a check finds -------------------------------------------------------------------------------------


def test_an_edited_metric_is_named(copy: Path) -> None:
    def flatter(entry: dict) -> None:
        entry["cells"][0]["metrics"]["average_accuracy"] = 0.999

    _edit_yaml(_entry_file(copy), flatter)
    problems = check_board(copy)
    assert "Means | seed 0: average_accuracy is stated as 0.999, recomputed as" in problems[0]
    assert problems[1:] == [
        "README.md is not what the entries render to",
        "board.csv is not what the entries render to",
    ]


def _change_answers(answers: list[StoredPrediction]) -> list[StoredPrediction]:
    wrong = {**answers[-1].arrays, "classes": (answers[-1].arrays["classes"] + 1) % 6}
    return [*answers[:-1], replace(answers[-1], arrays=wrong)]


def _leave_out_items(answers: list[StoredPrediction]) -> list[StoredPrediction]:
    last = answers[-1]
    return [
        *answers[:-1],
        replace(last, ids=last.ids[1:], arrays={name: array[1:] for name, array in last.arrays.items()}),
    ]


def _leave_out_a_stage(answers: list[StoredPrediction]) -> list[StoredPrediction]:
    return answers[:-1]


def _leave_out_classes(answers: list[StoredPrediction]) -> list[StoredPrediction]:
    return [replace(answer, arrays={"scores": np.zeros((len(answer.ids), 2))}) for answer in answers]


def _shorten_a_column(answers: list[StoredPrediction]) -> list[StoredPrediction]:
    return [replace(answer, arrays={"classes": answer.arrays["classes"][1:]}) for answer in answers]


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (_change_answers, "average_accuracy is stated as"),
        (_leave_out_items, "the ids answered in stage 2 are not those of the query"),
        (_leave_out_a_stage, "answers after stages [0, 1], expected one after each of 3 stages"),
        (_leave_out_classes, "cannot be scored: KeyError: 'classes'"),
        (_shorten_a_column, "classes in stage 0 has not one row per id"),
    ],
)
def test_edited_predictions_are_named(
    copy: Path, spoil: Callable[[list[StoredPrediction]], list[StoredPrediction]], finding: str
) -> None:
    path = _predictions(copy)
    write_answers(path, spoil(read_answers(path)))
    problems = check_board(copy)
    assert problems[0].endswith("Means | seed 0: the digest of its predictions is not the one stated")
    assert any(finding in problem for problem in problems[1:])


def test_predictions_that_would_run_code_are_not_opened(copy: Path) -> None:
    path = _predictions(copy)
    with path.open("wb") as file:
        np.savez(file, **{"000.ids": np.array([{"an": "object"}], dtype=object)})
    assert any("cannot read predictions" in problem for problem in check_board(copy))


def _spoilings() -> Iterator[tuple[str, Callable[[Path], None], str]]:
    yield (
        "seed count",
        lambda b: _edit_yaml(b / "protocol.yaml", lambda h: h["suite"].update(seeds=1)),
        "the board hash is not that of",
    )
    yield (
        "direction",
        lambda b: _edit_yaml(b / "protocol.yaml", _turn_round),
        "metrics differ from what this installation has",
    )
    yield (
        "protocol",
        lambda b: _edit_yaml(b / "protocol.yaml", _other_items),
        "content differ from what this installation has",
    )
    yield (
        "other version",
        lambda b: _edit_yaml(b / "protocol.yaml", lambda h: h.update(version=9)),
        "tiny/protocol.yaml: version",
    )
    yield "not yaml", lambda b: (b / "protocol.yaml").write_text("{"), "tiny/protocol.yaml is not YAML"
    yield (
        "parameter",
        lambda b: _edit_yaml(_entry_file(b), lambda e: e["params"].update(offset=1.0)),
        "its key is not that of its protocol",
    )
    yield "cell dropped", lambda b: _edit_yaml(_entry_file(b), lambda e: e["cells"].pop()), "items=6] seed 1"
    yield (
        "cell twice",
        lambda b: _edit_yaml(_entry_file(b), lambda e: e["cells"].append(e["cells"][0])),
        "has cells twice",
    )
    yield (
        "failure hidden",
        lambda b: _edit_yaml(_entry_file(b, RAISES), _call_it_done),
        "cannot read predictions",
    )
    yield (
        "failure with a figure",
        lambda b: _edit_yaml(_entry_file(b, RAISES), _give_it_a_figure),
        "but has figures or a digest",
    )
    yield (
        "unknown key",
        lambda b: _edit_yaml(_entry_file(b), lambda e: e.update(rank=1)),
        "rank: extra inputs are not permitted",
    )
    yield (
        "environment",
        lambda b: _edit_yaml(_entry_file(b), lambda e: e.update(environments=[])),
        "an environment that is not there",
    )
    yield "entry gone", lambda b: shutil.rmtree(_entry_file(b).parent), "which has no readable entry"
    yield (
        "folder renamed",
        lambda b: _entry_file(b).parent.rename(b / "entries" / "best").touch(),
        "whose folder should be",
    )
    yield (
        "stranger",
        lambda b: (b / "entries" / "run.sh").write_text("rm -rf"),
        "entries/run.sh does not belong on a board",
    )
    yield (
        "link",
        lambda b: (b / "passwords").symlink_to("/etc/passwd"),
        "passwords does not belong on a board",
    )
    yield (
        "page",
        lambda b: (b / "README.md").write_text("we won"),
        "README.md is not what the entries render to",
    )


def _turn_round(header: dict) -> None:
    header["protocols"][0]["metrics"][0]["better"] = "lower"


def _other_items(header: dict) -> None:
    header["protocols"][0]["content"]["config"]["items"] = 7


def _call_it_done(entry: dict) -> None:
    entry["cells"][0]["status"] = "done"


def _give_it_a_figure(entry: dict) -> None:
    entry["cells"][0]["metrics"] = {"average_accuracy": 0.9}


@pytest.mark.parametrize(
    ("spoil", "finding"), [pytest.param(spoil, finding, id=name) for name, spoil, finding in _spoilings()]
)
def test_whatever_is_edited_is_found(copy: Path, spoil: Callable[[Path], None], finding: str) -> None:
    spoil(copy)
    assert any(finding in problem for problem in check_board(copy)), check_board(copy)


def test_all_problems_come_at_once(copy: Path) -> None:
    _edit_yaml(copy / "protocol.yaml", lambda header: header.update(hash="0"))
    _edit_yaml(_entry_file(copy), lambda entry: entry["params"].update(offset=1.0))
    (copy / "notes.txt").write_text("")
    problems = check_board(copy)
    assert len(problems) == 2 + 2 * SEEDS


# --- names --------------------------------------------------------------------------------------------------


def test_the_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(board).attempted > 0
    assert doctest.testmod(board).failed == 0


def test_slugs_are_safe_and_different_for_different_labels() -> None:
    labels = [
        "replay",
        "Replay",
        "replay[memory=50]",
        "replay-memory-50",
        "con",
        "../../etc",
        "my.py:Mine",
        "ünïcode",
        "[]",
        "a" * 300,
        ".",
    ]
    slugs = [slug(label) for label in labels]
    assert len({each.lower() for each in slugs}) == len(labels)
    assert all(
        each.strip("-.") == each and len(each) <= 90 and "/" not in each and ".." not in each
        for each in slugs
    )
    assert slug("replay") == "replay"


def test_a_board_reads_back_as_it_was_written(made: World) -> None:
    found = read_board(made.folder)
    assert isinstance(found, Board)
    assert found.header.suite == made.suite
    assert [ranking.best for ranking in found.rankings()] == [MEANS, MEANS]
