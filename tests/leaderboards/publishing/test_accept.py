"""`owb accept` takes what the gate lets through into its board, all of it or nothing, and never twice."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import forgeries
import pytest
import typer
from forgeries import METADATA, SCENARIO, World
from site_records import records_of
from typer.testing import CliRunner

from harness.errors import UserError
from harness.protocol.cells import cells, contenders, protocols, read_suite
from harness.results.ranking import rankings
from leaderboards.cli.accept import accept as accept_verb
from leaderboards.publishing import accept
from leaderboards.publishing.accept import check_is_new, merging
from leaderboards.publishing.accepted import Moved, moved
from leaderboards.publishing.board import entry_folder, read_board
from leaderboards.publishing.check import check_board
from leaderboards.publishing.metadata import read_submission
from leaderboards.publishing.publish import publish
from leaderboards.publishing.submission import submit

APP = typer.Typer()
APP.command()(accept_verb)
DAY = date(2026, 3, 1)
LABELS = {name: f"{name}.py:{name.capitalize()}{more}" for name, more in forgeries.EXAMPLES.items()}


@pytest.fixture(scope="module")
def made() -> World:
    return forgeries.world()


@pytest.fixture
def boards(made: World, tmp_path: Path) -> Path:
    """Return a folder with the board `tiny` that a test may change."""
    shutil.copytree(made.board, tmp_path / "boards" / "tiny")
    return tmp_path / "boards"


def taken(submission: Path, boards: Path, day: date = DAY) -> accept.Merged:
    with merging(submission, boards, digest=read_submission(submission).digest, day=day) as merged:
        pass
    return merged


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def _who_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "x")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "x@example.org")


def revised(made: World, which: str, folder: Path, **said: Any) -> Path:
    """Submit the same cells with other metadata."""
    label = f"{made.base}/{LABELS[which]}"
    return submit(label, made.board, METADATA.model_copy(update=said), made.store, folder)


def test_the_verb_verifies_merges_renders_checks_and_says_what_to_commit(
    made: World, boards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgeries.copies(made.submissions["second"], tmp_path / "submissions" / "second")
    monkeypatch.chdir(tmp_path)
    for words in (["init", "-q"], ["add", "submissions"], ["commit", "-qm", "handed in"]):
        git(*words)
    call = ["submissions/second", "--root", "boards", "--out", "pages"]
    result = CliRunner().invoke(APP, call)
    assert result.exit_code == 0, result.output
    assert "Passed: nothing to object to." in result.stdout
    label = LABELS["second"]
    assert f"wrote boards/tiny: An example, revision 1, by A. Person, as {label}\n" in result.stdout
    assert f"  {SCENARIO} | {label}: place " in result.stdout
    assert check_board(boards / "tiny") == []
    assert label in (boards / "tiny" / "board.csv").read_text()
    assert label in (tmp_path / "pages" / "tiny" / "index.html").read_text()
    assert 'href="tiny/index.html"' in (tmp_path / "pages" / "index.html").read_text()
    assert 'href="changes.atom"' in (tmp_path / "pages" / "tiny" / "index.html").read_text()
    assert f"{label}: place " in (tmp_path / "pages" / "tiny" / "changes.atom").read_text()
    assert (tmp_path / "pages" / "tiny" / "badges" / "replay.svg").is_file()
    again = CliRunner().invoke(APP, call)
    assert isinstance(again.exception, UserError)
    assert "'An example' was accepted on board 'tiny' already: revision 1" in str(again.exception)
    command = result.stdout.partition("commit it with:\n  ")[2].strip()
    assert command == (
        "git add --all boards/tiny && git rm -r --quiet --ignore-unmatch submissions/second && "
        "git commit --message 'Accept An example, revision 1, on board tiny'"
    )
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    listed = git("ls-files").split("\n")
    assert "boards/tiny/accepted.yaml" in listed
    assert not any(name.startswith("submissions") for name in listed)
    assert not (tmp_path / "submissions").exists()


def test_what_the_gate_refuses_changes_nothing(made: World, boards: Path, tmp_path: Path) -> None:
    folder = forgeries.copies(made.submissions["first"], tmp_path / "forged")
    forgeries.edited_metric(folder)
    before = content(boards)
    result = CliRunner().invoke(
        APP, [str(folder), "--root", str(boards), "--out", str(tmp_path / "pages"), "--json"]
    )
    assert result.exit_code == 3
    said = json.loads(result.stdout)
    assert (said["accepted"], forgeries.stages_that_refuse(said["report"])) == (False, ["metrics"])
    assert content(boards) == before
    assert not (tmp_path / "pages").exists()


def test_the_board_holds_the_submission_byte_by_byte_and_keeps_its_hash(made: World, boards: Path) -> None:
    folder = made.submissions["bayes"]
    merged = taken(folder, boards)
    before, after = read_board(made.board), read_board(boards / "tiny")
    assert content(boards / "tiny" / entry_folder(LABELS["bayes"])) == content(folder)
    assert after.header.hash == before.header.hash
    assert after.header.suite.strategies == (*before.header.suite.strategies, LABELS["bayes"])
    assert after.submissions[LABELS["bayes"]] == read_submission(folder)
    assert after.accepted.versions == (merged.version,)
    assert (merged.version.day, merged.version.revision, merged.earlier) == (DAY, 1, None)
    assert [path.name for path in boards.iterdir()] == ["tiny"]
    page = (boards / "tiny" / "README.md").read_text()
    assert "An example, revision 1" in page
    assert "A. Person" in page
    assert f"cp leaderboards/boards/tiny/{entry_folder(LABELS['bayes'])}/strategy.py bayes.py" in page


def test_places_that_moved_are_those_that_differ_between_the_two_rankings(made: World, boards: Path) -> None:
    merged = taken(made.submissions["first"], boards)
    (was,), (now,) = read_board(made.board).rankings(), read_board(boards / "tiny").rankings()
    places = {row.strategy: row.place for row in was.rows}
    expected = tuple(
        Moved(scenario=SCENARIO, strategy=row.strategy, before=places.get(row.strategy, ""), after=row.place)
        for row in now.rows
        if places.get(row.strategy) != row.place
    )
    assert merged.version.moved == expected
    assert (LABELS["first"], "") in {(place.strategy, place.before) for place in expected}


def test_a_bound_has_no_place_that_could_move() -> None:
    figures = {"joint": [0.9, 0.91, 0.9], "replay": [0.5, 0.52, 0.51]}
    (before,) = rankings(records_of(figures))
    (after,) = rankings(records_of({**figures, "joint[epochs=3]": [0.8, 0.81, 0.8]}))
    assert moved([before], [after]) == ()


def test_the_same_acceptance_gives_the_same_bytes(made: World, boards: Path, tmp_path: Path) -> None:
    shutil.copytree(boards, tmp_path / "again")
    taken(made.submissions["first"], boards)
    taken(made.submissions["first"], tmp_path / "again")
    assert content(boards) == content(tmp_path / "again")


def test_a_version_is_accepted_once_and_another_under_its_name_is_newer(
    made: World, boards: Path, tmp_path: Path
) -> None:
    taken(made.submissions["first"], boards)
    refusals = {
        "was accepted on board 'tiny' already: revision 1, 2026-03-01": made.submissions["first"],
        "revision 1 of 'An example' with another digest .*: a newer version says revision: 2": revised(
            made, "first", tmp_path / "same", method="something else"
        ),
        "has an entry 'first.py:First' already, which is 'An example'": revised(
            made, "first", tmp_path / "taken", name="Mine", revision=7
        ),
    }
    before = content(boards)
    for sentence, folder in refusals.items():
        with pytest.raises(UserError, match=sentence):
            check_is_new(folder, boards)
        with pytest.raises(UserError, match=sentence):
            taken(folder, boards)
    assert content(boards) == before


def test_a_higher_revision_takes_the_place_of_the_earlier_one(
    made: World, boards: Path, tmp_path: Path
) -> None:
    first = taken(made.submissions["first"], boards).version
    folder = revised(made, "bayes", tmp_path / "new", revision=2)
    call = [str(folder), "--root", str(boards), "--out", str(tmp_path / "pages"), "--json"]
    result = CliRunner().invoke(APP, call)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["accepted"], said["board"]) == (True, "tiny")
    assert said["earlier"] == {"revision": 1, "authors": ["A. Person"]}
    assert len(said["report"]["salt"]) == 32  # drawn after it was made
    assert said["commands"][-1] == "git commit --message 'Accept An example, revision 2, on board tiny'"
    board = read_board(boards / "tiny")
    assert {entry.label for entry in board.entries} == {*forgeries.RIVALS, LABELS["bayes"]}
    assert board.header.suite.strategies == (*forgeries.RIVALS, LABELS["bayes"])
    assert board.accepted.versions[0] == first
    (second,) = board.accepted.versions[1:]
    assert second.model_dump(mode="json") == said["version"]
    assert [place.strategy for place in second.moved if not place.after] == [LABELS["first"]]
    assert check_board(boards / "tiny") == []
    with pytest.raises(UserError, match="already: revision 1"):  # the first one does not come back
        check_is_new(made.submissions["first"], boards)


def test_an_accepted_strategy_is_run_again_from_the_file_that_the_board_keeps(
    made: World, boards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(made.submissions["second"], boards)
    (tmp_path / "leaderboards").mkdir()
    boards.rename(tmp_path / "leaderboards" / "boards")
    monkeypatch.chdir(tmp_path)
    folder = Path("leaderboards/boards/tiny")
    command = next(line for line in (folder / "README.md").read_text().splitlines() if line.startswith("cp "))
    subprocess.run(shlex.split(command), check=True)
    *_, mine = contenders(read_suite(folder / "protocol.yaml").strategies)
    entry = next(entry for entry in read_board(folder).entries if entry.label == LABELS["second"])
    assert (mine.label, mine.code, mine.params) == (entry.label, entry.code, entry.params)


def test_a_folder_that_is_not_there_is_named(boards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder '.*nowhere'"):
        check_is_new(tmp_path / "nowhere", boards)


def test_an_entry_that_nobody_submitted_is_not_replaced(made: World, boards: Path, tmp_path: Path) -> None:
    folder = submit(
        "replay", made.board, METADATA.model_copy(update={"revision": 3}), made.store, tmp_path / "theirs"
    )
    with pytest.raises(UserError, match="has an entry 'replay' already: a submission needs"):
        check_is_new(folder, boards)


def fails_in_the_body(submission: Path, boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with merging(submission, boards, digest=read_submission(submission).digest, day=DAY):
        raise UserError("the page cannot be written")


def fails_when_swapped(submission: Path, boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.parent.name.endswith(".tmp"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    taken(submission, boards)


def is_another_one_by_now(submission: Path, boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with merging(submission, boards, digest="0" * 64, day=DAY):
        raise AssertionError


def changes_after_it_was_verified(submission: Path, boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = forgeries.copies(submission, boards.parent / "copy")
    (copy / "strategy.py").write_text("# nothing")
    taken(copy, boards)


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (fails_in_the_body, "the page cannot be written"),
        (fails_when_swapped, "cannot write board .*: No space left on device"),
        (is_another_one_by_now, "is not what was verified any more"),
        (changes_after_it_was_verified, "would not hold: first.py:First: strategy.py is not the file"),
    ],
)
def test_a_step_that_fails_leaves_everything_as_it_was(
    step: Callable[[Path, Path, pytest.MonkeyPatch], None],
    sentence: str,
    made: World,
    boards: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = content(boards)
    with pytest.raises(UserError, match=sentence):
        step(made.submissions["first"], boards, monkeypatch)
    assert content(boards) == before
    assert [path.name for path in boards.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda board: (board / "accepted.yaml").unlink(), "names no such submission"),
        (
            lambda board: forgeries.edit(
                board / "accepted.yaml", lambda said: said["versions"][0].update(revision=2)
            ),
            "is not the one that was accepted",
        ),
        (
            lambda board: forgeries.edit(
                board / "accepted.yaml", lambda said: said["versions"][0].update(day="yesterday")
            ),
            "accepted.yaml: versions.0.day: ",
        ),
        (
            lambda board: (board / "entries" / "second" / "submission.yaml").unlink(),
            "it has no submission.yaml",
        ),
        (
            lambda board: forgeries.edit(
                board / "entries" / "second" / "submission.yaml", lambda said: said.update(licence="GPL")
            ),
            "its submission.yaml is not the one that was accepted",
        ),
        (
            lambda board: (board / "entries" / "second" / "strategy.py").write_text("# other"),
            "strategy.py is not the file that was handed in",
        ),
    ],
)
def test_what_is_edited_after_it_was_accepted_is_named(
    spoil: Callable[[Path], object], sentence: str, made: World, boards: Path
) -> None:
    taken(made.submissions["second"], boards)
    own = boards / "tiny" / entry_folder(LABELS["second"])
    own.rename(own.with_name("second"))
    (own.parent / own.name).symlink_to("second")
    spoil(boards / "tiny")
    assert any(sentence in problem for problem in check_board(boards / "tiny")), check_board(boards / "tiny")


def test_a_board_with_accepted_submissions_is_not_published_over(made: World, boards: Path) -> None:
    taken(made.submissions["first"], boards)
    suite = read_board(made.board).header.suite
    todo = cells(protocols(suite.scenarios), contenders(suite.strategies), suite.seeds)
    before = content(boards)
    with pytest.raises(UserError, match="holds accepted submissions, which are in no store"):
        publish("tiny", suite, todo, made.store, boards)
    assert content(boards) == before
