"""The script of the workflow refuses whatever it did not look at, and says why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

SCRIPT = ROOT / ".ci" / "verify-submissions"


class Checkout:
    """A pull request: a repository with one commit as the base, and what is written into it afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "-q", "-b", "main")
        self.write("submissions/old/entry.yaml")
        self.base = self.commit()

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        said = subprocess.run(
            ["git", "-C", str(self.folder), *who, *words], check=True, capture_output=True, text=True
        )
        return said.stdout.strip()

    def write(self, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "submitted")


def verified(folder: Path, base: str | None, tools: str = os.environ["PATH"]) -> tuple[int, str, list[str]]:
    """Return how the script ended, what it said of what it could not look at, and the names of its reports."""
    report = folder.parent / "report"
    known = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{tools}", "OMP_NUM_THREADS": "1"}
    told = known if base is None else {**known, "BASE": base}
    ended = subprocess.run(
        [shutil.which("bash") or "bash", str(SCRIPT), str(folder), str(report)],
        env=told,
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    other = report / "other.txt"
    return (
        ended.returncode,
        other.read_text() if other.is_file() else "",
        sorted(path.name for path in report.iterdir()),
    )


@pytest.mark.parametrize("base", [None, ""])
def test_without_a_base_nothing_is_known(checkout: Checkout, base: str | None) -> None:
    assert verified(checkout.folder, base) == (
        3,
        "BASE names no commit, so nothing is known of what was changed.\n",
        ["other.txt"],
    )


@pytest.mark.parametrize("base", ["0" * 40, "no-such-branch", "--output=x"])
def test_a_base_that_is_no_commit_is_refused(checkout: Checkout, base: str) -> None:
    code, said, _ = verified(checkout.folder, base)
    assert (code, said) == (3, f"The base {base} is no commit of the submitted checkout.\n")


def test_a_base_that_shares_no_history_is_refused(checkout: Checkout) -> None:
    checkout.git("checkout", "-q", "--orphan", "elsewhere")
    checkout.write("submissions/mine/entry.yaml")
    checkout.commit()
    code, said, _ = verified(checkout.folder, checkout.base)
    assert (code, said) == (3, f"What was changed since the base {checkout.base} cannot be told.\n")


def test_a_folder_that_is_no_checkout_is_refused_even_inside_one(checkout: Checkout, tmp_path: Path) -> None:
    nothing = (3, "What was submitted is no checkout.\n", ["other.txt"])
    (tmp_path / "empty").mkdir()
    assert verified(tmp_path / "empty", checkout.base) == nothing
    assert verified(checkout.folder / "submissions", checkout.base)[:2] == nothing[:2]
    assert verified(tmp_path / "none", checkout.base)[:2] == (3, nothing[1] * 2)


def test_a_checkout_without_a_commit_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    checkout.git("init", "-q", str(empty))
    assert verified(empty, checkout.base)[:2] == (3, "The submitted checkout is empty.\n")


def test_a_pull_request_without_a_submission_is_refused(checkout: Checkout) -> None:
    checkout.write("README.md")
    checkout.commit()
    assert verified(checkout.folder, checkout.base)[:2] == (
        3,
        "No submission was changed, so none was looked at.\n",
    )


def test_more_than_ten_submissions_are_refused_with_their_number(checkout: Checkout) -> None:
    for number in range(11):
        checkout.write(f"submissions/mine-{number}/entry.yaml")
    checkout.commit()
    assert verified(checkout.folder, checkout.base) == (
        3,
        "11 submissions are more than 10: none was looked at; hand them in by several pull requests.\n",
        ["other.txt"],
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("submissions/file.yaml", "submissions/file.yaml is in no submission folder"),
        ("submissions/Mine/entry.yaml", "submissions/Mine/entry.yaml is in no submission folder"),
        (
            "leaderboards/boards/ncd/entries/mine/entry.yaml",
            "leaderboards/boards/ncd/entries/mine/entry.yaml was changed: an entry comes to a board through submissions/",
        ),
        ("leaderboards/suites/ncd.yaml", "leaderboards/suites/ncd.yaml was changed"),
    ],
)
def test_what_lies_beside_submissions_is_refused(checkout: Checkout, name: str, sentence: str) -> None:
    checkout.write(name)
    checkout.commit()
    code, said, _ = verified(checkout.folder, checkout.base)
    assert code == 3
    assert sentence in said


def test_a_submission_that_is_taken_away_or_renamed_is_seen(checkout: Checkout) -> None:
    checkout.git("mv", "submissions/old", "submissions/Renamed")
    checkout.commit()
    code, said, _ = verified(checkout.folder, checkout.base)
    assert code == 3
    assert "submissions/old was taken away, so it cannot be looked at." in said
    assert "submissions/Renamed/entry.yaml is in no submission folder" in said


def test_what_a_name_holds_cannot_steer_the_log(checkout: Checkout) -> None:
    checkout.write("submissions/\x1b[2Jevil")
    checkout.commit()
    code, said, _ = verified(checkout.folder, checkout.base)
    assert (code, said.startswith("submissions/?[2Jevil is in no submission folder")) == (3, True)


def test_a_submission_that_is_there_is_looked_at_by_the_gate(checkout: Checkout) -> None:
    checkout.write("submissions/mine/notes.txt")
    checkout.commit()
    code, said, reports = verified(checkout.folder, checkout.base)
    assert (code, said, reports) == (3, "", ["mine.json", "mine.txt"])
    text = (checkout.folder.parent / "report" / "mine.txt").read_text()
    assert "'notes.txt' does not belong in a submission" in text


def test_where_the_walls_do_not_stand_nothing_is_looked_at(checkout: Checkout, tmp_path: Path) -> None:
    """On a machine without `unshare`, as one without namespaces."""
    checkout.write("submissions/mine/notes.txt")
    checkout.commit()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cat", "git", "mkdir", "mktemp", "rm", "tee", "tr"):
        (tools / name).symlink_to(shutil.which(name) or name)
    code, said, _ = verified(checkout.folder, checkout.base, str(tools))
    assert (code, said) == (3, "submissions/mine: the gate gave no report and ended with exit code 2.\n")
    assert (checkout.folder.parent / "report" / "mine.json").read_text() == ""
