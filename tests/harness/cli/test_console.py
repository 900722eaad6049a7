"""What is printed where the output is narrow: an encoding that lacks a character, a reader that is gone, a
full disk, closed streams.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import console

TABLE = "from harness.cli import console; console.grid(['forgetting % ↓', 'mean'], [['é', '2 ± 1'], ['ß漢', '\\udcc3']])"


def _run(code: str, encoding: str = "utf-8", **more: object) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, check=False, **{"capture_output": True, **more}
    )  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("encoding", "table"),
    [
        ("utf-8", ["forgetting % ↓  mean", "é               2 ± 1", "ß漢              ?"]),
        ("cp1252", ["forgetting % v  mean", "é               2 ± 1", "ß?              ?"]),
        ("latin-1", ["forgetting % v  mean", "é               2 ± 1", "ß?              ?"]),
        ("ascii", ["forgetting % v  mean", "e               2 +- 1", "ss?             ?"]),
        ("cp437", ["forgetting % v  mean", "é               2 ± 1", "ß?              ?"]),
        ("ascii:strict", ["forgetting % v  mean", "e               2 +- 1", "ss?             ?"]),
    ],
)
def test_a_table_shows_what_the_output_can(encoding: str, table: list[str]) -> None:
    done = _run(TABLE, encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding.partition(":")[0]).splitlines() == table


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8", "cp1252"])
def test_json_loses_nothing(encoding: str) -> None:
    done = _run(
        "from harness.cli import console; console.dump({'ü': ['↓', 'é', '\\udcc3', float('nan')]})", encoding
    )
    assert json.loads(done.stdout.decode(encoding)) == {"ü": ["↓", "é", "\udcc3", None]}


def test_notes_and_mistakes_are_shown_too() -> None:
    done = _run(
        (
            "from harness.cli import console; console.note('↓ → ±'); console.complain('no ↓'); console.say('x "
            ":bug: [b]↓[/b]')"
        ),
        "ascii",
    )
    assert (done.stderr, done.stdout) == (b"v -> +-\nerror: no v\n", b"x :bug: [b]v[/b]\n")


RUN = """
from types import SimpleNamespace
from harness.cli import console
def update(status, number):
    cell = SimpleNamespace(key=str(number))
    further = dict(reason="\\u2193 \\u6f22", step=1, total=2, stage=0)
    return SimpleNamespace(cell=cell, status=status, figure=0.5, seconds=1.0, **further)
with console.RunView(2000, remaining_s=1e6) as view:
    view.meet([("vm, process 7, since 18:24", 3)])
    for number in range(2000):
        view(update("running", number))
        view(update("failed", number))
console.say(view.summary)
console.dump([1] * 50000)
"""
"""A run of two thousand cells that end badly, which is more than a pipe holds."""


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
@pytest.mark.parametrize("columns", ["1", "5", "80"])
def test_the_live_table_is_shown_on_any_terminal(columns: str) -> None:
    import pty

    ours, theirs = pty.openpty()
    code = RUN.replace("2000", "20").replace("50000", "5")
    env = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "COLUMNS": columns, "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # what Linux says where the other end is closed
                break
            shown += part
            if not part:
                break
    os.close(ours)
    assert process.returncode == 0, shown
    assert b"20 failed" in shown.replace(b"\r\n", b" " if columns == "80" else b"").replace(
        b"20failed", b"20 failed"
    )
    assert shown.isascii()
    assert columns != "80" or b"about 11 d 13 h left" in shown
    assert columns != "80" or b"another driver works" in shown


def test_whoever_else_works_on_the_cells_is_named_once_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with console.RunView(5) as view:
        for others in (
            [("vm, process 7", 3)],
            [("vm, process 7", 2), ("vm, process 8", 1)],
            [],
            [("vm, process 8", 1)],
        ):
            view.meet(others)
    with console.RunView(5, quiet=True) as view:
        view.meet([("vm, process 9", 1)])
    assert capsys.readouterr().err.splitlines() == [
        "another driver works on 3 of these cells: vm, process 7",
        "another driver works on 1 of these cells: vm, process 8",
    ]


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_is_gone_ends_no_run(stream: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = _run(
        RUN,
        capture_output=False,
        stdout=writing if stream == "stdout" else subprocess.PIPE,
        stderr=writing if stream == "stderr" else subprocess.PIPE,
    )
    os.close(writing)
    assert done.returncode == 0
    assert b"Traceback" not in (done.stderr or b"")
    if stream == "stderr":
        assert done.stdout.startswith(b"2000 failed\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_below_the_progress_ends_no_run_and_one_below_the_result_is_a_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        done = _run(RUN, capture_output=False, stdout=subprocess.PIPE, stderr=full)
        assert done.stdout.startswith(b"2000 failed\n")
        said = subprocess.run(
            [sys.executable, "-c", "from harness.cli import main; main()", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (said.returncode, said.stderr) == (2, b"error: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="file numbers of POSIX")
def test_closed_streams_lead_nowhere_and_their_numbers_are_taken(tmp_path: Path) -> None:
    code = (
        f"from harness.cli import console; file = open({str(tmp_path / 'x')!r}, 'w'); print('a'); "
        "console.say('b'); assert file.fileno() > 2"
    )
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code], check=False)
    assert done.returncode == 0
    assert (tmp_path / "x").read_text() == ""


@pytest.mark.parametrize("words", ["list --help", "run replay[memory=↓]"])
def test_the_command_line_shows_names_that_the_output_cannot(words: str) -> None:
    done = _run(
        f"import sys; from harness.cli import main; sys.argv[1:] = {words.split()!r}; main()", "ascii"
    )
    assert done.returncode == (0 if "--help" in words else 2)
    assert b"Traceback" not in done.stderr


def test_nothing_that_is_printed_steers_a_terminal() -> None:
    done = _run(
        "from harness.cli import console; t = 'a\\x1b[2J\\u202eb'; console.say(t); console.grid([t], [[t]], title=t); "
        "console.dump(t); console.note(t); console.complain(t)"
    )
    assert done.stdout.decode() == "a?[2J?b\n" * 4 + '"a\\u001b[2J\\u202eb"\n'
    assert done.stderr.decode() == "a?[2J?b\nerror: a?[2J?b\n"


def test_a_table_fits_the_terminal_and_cuts_nothing() -> None:
    name = "noisy-labels[noise=symmetric:0.4,over=class-incremental[dataset=digits,stages=1]]"
    cells = ["done", name, "replay[memory=200]", "0.912"]
    code = f"from harness.cli import console; console.grid(['status', 'scenario', 'strategy', 'figure'], [{cells!r}])"
    done = _run(f"import os; os.environ['FORCE_COLOR'] = '1'; os.environ['COLUMNS'] = '80'; {code}")
    header, *lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode()).splitlines()
    assert all(len(line) <= 80 for line in [header, *lines])
    starts = [header.index(title) for title in ("status", "scenario", "strategy", "figure")]
    columns = [
        "".join(line[start:end].strip() for line in lines)
        for start, end in zip(starts, [*starts[1:], 80], strict=True)
    ]
    assert columns == cells


def test_a_table_on_a_terminal_shows_brackets_as_they_are() -> None:
    """Titles, headers and cells name scenarios with their parameters, which look like marks of style."""
    name = "class-incremental[dataset=digits]"
    code = f"from harness.cli import console; console.grid([{name!r}, '[bold]'], [[{name!r}, '[/x]']], title={name!r})"
    done = _run(f"import os; os.environ['FORCE_COLOR'] = '1'; os.environ['COLUMNS'] = '120'; {code}")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode()).splitlines()
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in shown] == [[name], [name, "[bold]"], [name, "[/x]"]]
