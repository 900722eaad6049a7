"""`owb submit` writes what the gate wants, names no machine, and says in a sentence what is missing."""

from __future__ import annotations

import doctest
import getpass
import shlex
import socket
from pathlib import Path

import forgeries
import pytest
import typer
import yaml
from forgeries import METADATA, World
from typer.testing import CliRunner

from harness.errors import UserError
from harness.protocol.cells import cells, contenders, protocols
from leaderboards.cli.submit import submit as submit_verb
from leaderboards.publishing import submission
from leaderboards.publishing.board import read_entry
from leaderboards.publishing.submission import read_metadata, read_submission, sha256, submit

APP = typer.Typer()
APP.command()(submit_verb)


@pytest.fixture(scope="module")
def made() -> World:
    return forgeries.world()


def test_it_holds_metadata_configuration_predictions_source_and_digests(made: World) -> None:
    folder = made.submissions["second"]
    said, entry = read_submission(folder), read_entry(folder / "entry.yaml")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"submission.yaml", *said.files}
    assert all(sha256(folder / name) == stated for name, stated in said.files.items())
    assert (said.name, said.authors, said.licence, said.board) == (
        "An example",
        ("A. Person",),
        "MIT",
        "tiny",
    )
    assert (entry.label, entry.strategy, entry.params) == (
        "second.py:Second[power=1.0]",
        "second.py:Second",
        {"power": 1.0},
    )
    assert (folder / "strategy.py").read_text() == (made.base / "second.py").read_text()
    assert [(cell.seed, str(cell.status)) for cell in entry.cells] == [(0, "done"), (1, "done"), (2, "done")]


def test_it_names_neither_host_nor_user_nor_home_nor_folder(made: World) -> None:
    for name in ("first", "second", "network"):
        text = "".join(path.read_text() for path in made.submissions[name].glob("*.yaml"))
        for secret in (socket.gethostname(), str(Path.home()), str(made.base), f"/{getpass.getuser()}/"):
            assert secret not in text


def test_a_failed_cell_is_a_row_with_its_reason_less_the_folders(made: World) -> None:
    rows = read_entry(made.submissions["clumsy"] / "entry.yaml").cells
    failed = [cell for cell in rows if cell.status == "failed"]
    assert 0 < len(failed) < len(rows) == forgeries.SEEDS
    assert {cell.reason for cell in failed} == {"ValueError: no such luck, see luck.txt"}


def test_the_same_records_give_the_same_bytes(made: World, tmp_path: Path) -> None:
    again = submit(f"{made.base}/first.py:First", made.board, METADATA, made.store, tmp_path / "again")
    assert read_submission(again).digest == read_submission(made.submissions["first"]).digest


def test_cells_that_have_not_run_are_counted_and_the_command_that_runs_them_is_said(
    made: World, tmp_path: Path
) -> None:
    strategy = f"{made.base}/first.py:First[power=3.0]"
    with pytest.raises(UserError, match="3 of 3 cells have not run; run them with: owb run ") as caught:
        submit(strategy, made.board, METADATA, made.store, tmp_path / "new")
    words = shlex.split(str(caught.value).partition("with: ")[2])
    assert words[:3] == ["owb", "run", strategy]
    assert words[3:] == [
        "-s",
        forgeries.SCENARIO,
        "--seeds",
        "3",
        "--no-bounds",
        "--timeout",
        "3600",
        "--memory",
        "4096",
    ]
    cells_of_command = cells(protocols([words[4]]), contenders([words[2]]), int(words[6]))
    assert len(cells_of_command) == 3  # the selection in it reads back
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_there_is_left_alone(made: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is there already"):
        submit(f"{made.base}/first.py:First", made.board, METADATA, made.store, tmp_path)


def test_several_alternatives_are_no_submission(made: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stands for 2 alternatives; a submission is one configuration"):
        submit(f"{made.base}/first.py:First[power=[1,2]]", made.board, METADATA, made.store, tmp_path / "new")


def test_metadata_come_from_a_file_and_options_go_before_it(tmp_path: Path) -> None:
    path = tmp_path / "about.yaml"
    path.write_text(yaml.safe_dump({"name": "X", "authors": ["A", "B"], "method": "m", "licence": "MIT"}))
    assert read_metadata(path, {"name": "Y", "authors": None, "method": ""}).model_dump() == {
        "name": "Y",
        "authors": ("A", "B"),
        "method": "m",
        "reference": "none",
        "licence": "MIT",
    }
    with pytest.raises(
        UserError,
        match="the metadata: name: field required; authors: field required; method: field required; licence",
    ):
        read_metadata(None, {})
    path.write_text("- a list")
    with pytest.raises(UserError, match="should hold the keys name, authors, method, reference, licence"):
        read_metadata(path, {})


def test_the_verb_writes_it_and_says_what_comes_next(made: World, tmp_path: Path) -> None:
    options = [
        "--name",
        "Mine",
        "--author",
        "A. Person",
        "--method",
        "means",
        "--licence",
        "MIT",
        "--out",
        str(tmp_path / "mine"),
    ]
    strategy = f"{made.base}/second.py:Second[power=1.0]"
    where = ["--board", "tiny", "--root", str(made.boards), "--store", str(made.base / "store")]
    result = CliRunner().invoke(APP, [strategy, *where, *options])
    assert result.exit_code == 0, result.exception
    assert f"owb verify {tmp_path / 'mine'}" in result.stdout
    assert read_submission(tmp_path / "mine").name == "Mine"
    wrong = CliRunner().invoke(APP, [strategy, "--board", "tny", "--root", str(made.boards), *options])
    assert str(wrong.exception).startswith("unknown board 'tny'; did you mean 'tiny'?")


def test_the_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(submission).attempted > 0
    assert doctest.testmod(submission).failed == 0


@pytest.mark.parametrize(
    "statement",
    ["import helper", "from helper import mean", "from .helper import mean", "from . import helper"],
)
def test_a_strategy_of_several_files_is_told_at_once_that_it_cannot_be_handed_in(
    made: World, tmp_path: Path, statement: str
) -> None:
    """Before any cell has run."""
    (tmp_path / "helper.py").write_text("def mean(): ...\n")
    path = tmp_path / "mine.py"
    path.write_text((made.base / "first.py").read_text() + f"\ndef unused():\n    {statement}\n")
    with pytest.raises(
        UserError, match=r"^mine.py imports helper from beside it, and a submission is one file"
    ):
        submit(f"{path}:First", made.board, METADATA, made.store, tmp_path / "new")


def test_without_boards_it_says_where_they_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        APP, ["replay", "--board", "tiny", "--name", "x", "--author", "x", "--method", "x", "--licence", "x"]
    )
    assert str(result.exception) == (
        "there are no boards in leaderboards/boards: say this in the checkout that holds them, or name their folder with --root"
    )


def test_what_the_gate_will_refuse_is_said_when_it_is_written(made: World, tmp_path: Path) -> None:
    """The board's own entry is a duplicate."""
    about = ["--name", "x", "--author", "x", "--method", "x", "--licence", "x"]
    where = ["--store", str(made.base / "store"), "--root", str(made.boards), "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(APP, ["replay", "--board", "tiny", *about, *where])
    assert result.exit_code == 0, result.exception
    assert "the gate will refuse it:" in result.output
    assert "is a duplicate of the board's entry 'replay': 3 of 3 cells" in result.output
