"""The documentation: it builds, its links lead somewhere, and the commands it shows are accepted or run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Owb

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
Shown = Callable[[str], tuple[int, str]]

ELSEWHERE = ("mine", "split_mine", "source=mvtec", "preset=mvtec", "preset=visa")
"""What the reader is to write or has on a disk of his own."""


def _commands(page: Path) -> list[str]:
    """Return the `owb` commands in the blocks of a page that show a shell, comments cut off."""
    blocks = re.findall(
        r"^```(?:sh|bash)?\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.join(shlex.split(line, comments=True)) for line in lines if line.startswith("owb ")]


EVERY = sorted({command for page in PAGES for command in _commands(page)})
RUNS = [
    command
    for command in EVERY
    if command.startswith("owb run") and not any(name in command for name in ELSEWHERE)
]
LISTS = [command for command in EVERY if command.startswith(("owb list", "owb doctor", "owb data"))]


@pytest.fixture
def owb(call_owb: Owb) -> Shown:
    """Return a function that calls the command line as it is shown and returns its exit code and what it
    printed.
    """

    def call(command: str) -> tuple[int, str]:
        said = call_owb(*shlex.split(command)[1:])
        return said.code, said.out + said.err

    return call


@pytest.mark.parametrize("command", RUNS)
def test_a_run_that_the_docs_show_can_be_planned(
    command: str, owb: Shown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OWB_STORE", str(tmp_path))
    code, said = owb(f"{command} --plan")
    assert code == 0, said
    assert "would run" in said


@pytest.mark.parametrize("command", EVERY)
def test_a_command_of_the_docs_names_a_verb_that_exists(command: str, owb: Shown) -> None:
    words = shlex.split(command)
    verb = words[1:3] if words[1] in ("board", "new", "data") else words[1:2]
    assert owb(shlex.join(["owb", *verb, "--help"]))[0] == 0


@pytest.mark.parametrize("command", LISTS)
def test_a_listing_that_the_docs_show_is_printed(command: str, owb: Shown) -> None:
    code, said = owb(command)
    assert code == 0
    assert said.strip()


def test_the_first_example_of_adding_a_strategy_runs_as_it_stands(
    owb: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_ray: None
) -> None:
    monkeypatch.chdir(tmp_path)
    block = [command for command in _commands(ROOT / "docs" / "extend.md") if "mine" in command][:3]
    assert [command.split()[1] for command in block] == ["new", "check", "run"]
    for command in block:
        code, said = owb(command)
        assert code == 0, said
    assert "mine.py:Mine" in said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in _anchors(there), f"{page.name}: {target}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_site_builds_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        check=True,
    )
    for name in ("run", "extend", "trust", "submit"):
        text = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="https?:', text)
