"""Submitted code gets arrays and gives arrays; whatever else it tries fails, is told in a sentence, and
leaves nothing behind.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from checkout import ROOT, SUPPORT
from tries import EPISODES, SETTINGS, SOURCE, run_attack, source_of

from harness import sandbox
from harness.cell.run import run_cell
from harness.cell.sealing import Episode, Subset
from harness.contracts import Status, StoredPrediction
from harness.sandbox import launch
from harness.sandbox.arrays import npz_problems
from harness.sandbox.wire import (
    BadFrame,
    Task,
    answers_frame,
    answers_of,
    episode_frame,
    episode_of,
    packed,
    unpacked,
)
from harness.store.predictions import digest

Run = Callable[..., sandbox.Result]


@pytest.fixture(params=["walls", "hook alone"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return `run_attack` with the walls of this machine, and without them."""
    if request.param == "hook alone":
        monkeypatch.setattr(launch, "walls_here", lambda: launch.Walls(namespaces=False, filtered=False))
    elif sandbox.lacking():
        pytest.skip(sandbox.lacking()[0])
    return run_attack


def test_an_honest_strategy_answers_the_bytes_that_it_answers_outside(run: Run, tmp_path: Path) -> None:
    from harness.plugins import find

    strategy = find("strategy", "tries.py:Tries", source=SOURCE + "        pass\n").cls()
    outside = [
        answer
        for result in run_cell(strategy, EPISODES, SETTINGS, scratch=tmp_path)
        for answer in result.answers
    ]
    result = run()
    assert (result.status, result.reason, result.violations) == (Status.DONE, "", ())
    assert digest(result.answers) == digest(outside)


FORBIDDEN = {
    "a socket": ("socket.create_connection(('127.0.0.1', 9), timeout=1)", "opens the network"),
    "a look-up": ("socket.getaddrinfo('example.org', 80)", "opens the network"),
    "a fork": ("os.fork()", "starts a process"),
    "a command": ("subprocess.run(['true'])", "starts a process"),
    "a shell": ("os.system('true')", "starts a process"),
    "a file": ("open('/tmp/owb-outside', 'w')", "writes outside its scratch folder ('owb-outside')"),
    "a path": (
        "Path('/tmp/owb-outside').write_text('x')",
        "writes outside its scratch folder ('owb-outside')",
    ),
    "a folder": ("os.mkdir('/tmp/owb-outside')", "changes files outside its scratch folder (os.mkdir)"),
    "a removal": ("os.remove(np.__file__)", "changes files outside its scratch folder (os.remove)"),
    "a way out": (
        "(self.context.scratch / '..' / '..' / '..' / 'owb-outside').touch()",
        "writes outside its scratch folder ('owb-outside')",
    ),
    "a link": (
        "os.symlink('/etc/passwd', '/tmp/owb-outside')",
        "changes files outside its scratch folder (os.symlink)",
    ),
    "the scenario": (
        "import scenarios.class_incremental.scenario",
        "imports scenarios.class_incremental.scenario, which leads to the truth",
    ),
    "the C library": ("ctypes.CDLL(None).fork", "calls fork of the C library"),
    "a signal": ("os.kill(os.getppid(), 9)", "sends signals to other processes"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_is_not_allowed_fails_and_is_told_even_where_the_strategy_keeps_quiet(
    run: Run, name: str
) -> None:
    attack, sentence = FORBIDDEN[name]
    result = run(attack)
    assert sentence in result.violations
    assert result.status is Status.DONE
    assert not Path("/tmp/owb-outside").exists()


def test_a_process_started_behind_the_hooks_back_is_seen(run: Run) -> None:
    """`_posixsubprocess` forks without an audit event."""
    attack = """
import _posixsubprocess
a, b = os.pipe()
none = (-1,) * 6
rest = (True, False, 0, None, None, None, -1, None, False)
_posixsubprocess.fork_exec([b"/bin/sleep", b"30"], [b"/bin/sleep"], True, (b,), None, None, *none, a, b, *rest)
time.sleep(0.5)
"""
    result = run(attack)
    assert any(violation.startswith("starts a process") for violation in result.violations)
    assert not [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] == ["/bin/sleep", "30"]
    ]


def test_the_scratch_folder_is_its_own_and_empty_again_the_next_time(run: Run) -> None:
    attack = """
place = self.context.scratch / "notes.txt"
if stage.index == 0:
    assert not place.exists()
    place.write_text("x")
    os.rename(place, place.with_name("other.txt"))
assert (self.context.scratch / "other.txt").read_text() == "x"
return
"""
    for _ in range(2):
        result = run(f"{attack}\n")
        assert (result.status, result.violations) == (Status.DONE, ())


def test_an_endless_loop_ends_at_the_limit(run: Run) -> None:
    result = run("while True: pass", bounds=sandbox.Bounds(timeout_s=1))
    assert (result.status, result.reason) == (Status.TIMEOUT, "over its time limit of 1 s")


def test_memory_without_end_ends_at_the_limit(run: Run) -> None:
    attack = "eaten = []\nwhile True:\n    eaten.append(np.ones(10**6))\n    time.sleep(0.005)"
    result = run(attack, bounds=sandbox.Bounds(timeout_s=60, memory_mib=700))
    assert result.status is Status.OUT_OF_MEMORY
    assert result.reason.endswith("the limit is 700 MiB")


def test_what_a_task_sends_in_all_is_bounded() -> None:
    """Frames that are small enough each are too many together, unpacked or as they come."""
    attack = """
import io, json, struct
zeros = np.zeros((len(stage.ids), 9000), dtype=np.float32)
body = io.BytesIO()
np.savez_compressed(body, **{"0.ids": stage.ids, "0.scores": zeros})
header = json.dumps({"kind": "answers", "moments": [{"stage": 0, "step": 1}]}).encode()
frame = struct.pack(">IQ", len(header), body.tell()) + header + body.getvalue()
for _ in range(20):
    for number in range(3, 64):
        try:
            os.write(number, frame)
        except OSError:
            pass
"""
    result = run_attack(attack)
    assert result.status is Status.FAILED
    assert re.search(r"its process sent (more than 128 MiB in all|would unpack to \d+ MiB)", result.reason)
    assert sum(array.nbytes for answer in result.answers for array in answer.arrays.values()) <= 128 << 20


def test_sentences_without_end_are_bounded() -> None:
    attack = """
from harness.sandbox.wire import packed
frame = packed({"kind": "violation", "sentence": "x" * 60000})
for _ in range(4000):
    for number in range(3, 64):
        try:
            os.write(number, frame)
        except OSError:
            pass
"""
    result = run_attack(attack)
    assert (result.status, result.reason) == (Status.FAILED, "its process sent more than 128 MiB in all")


def test_a_strategy_that_ends_its_process_is_a_failure(run: Run) -> None:
    assert run("os._exit(0)").reason == "its process died"


def test_it_is_told_nothing_of_user_machine_or_scenario(run: Run) -> None:
    """What it finds, it brings out the only way there is: as predictions."""
    attack = """
text = repr(dict(os.environ)) + repr(sys.argv) + os.getcwd()
self.predict = lambda query: Prediction(classes=np.resize(np.frombuffer(text.encode(), dtype=np.uint8), len(query.ids)))
"""
    answer = run(attack).answers[0]
    text = bytes(answer.arrays["classes"][np.argsort(EPISODES[0].query.ids)].astype(np.uint8)).decode(
        errors="replace"
    )
    for word in ("class-incremental", "digits", str(Path.home()), os.environ.get("USER", "nobody at all")):
        assert word not in text or word == "/root" or word == "/"


def test_answers_to_stages_that_were_not_asked_are_not_taken(run: Run) -> None:
    """A strategy that finds the pipe to the gate and speaks for the harness."""
    attack = """
from harness.contracts import StoredPrediction
from harness.sandbox.wire import answers_frame
forged = answers_frame([StoredPrediction(stage=1, step=None, ids=stage.ids, arrays={"classes": stage.labels})])
for number in range(3, 64):
    try:
        os.write(number, forged)
    except OSError:
        pass
"""
    result = run(attack)
    assert result.status is Status.FAILED
    assert "its process sent answers to a stage that was not asked" in result.reason


def test_a_gate_that_is_killed_leaves_no_submitted_code_running(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path[:0] = {[str(ROOT / "tests"), str(SUPPORT), str(Path(__file__).parent)]!r}
import test_sandbox as here
print(here.launch.sandbox_here().process.pid, flush=True)
here.run_attack("while True: pass")
"""
    gate = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert gate.stdout is not None
    fork_server = psutil.Process(int(gate.stdout.readline()))
    _until(
        lambda: any(process.cpu_times().user > 0.2 for process in fork_server.children(recursive=True)[-1:])
    )
    home = Path(fork_server.cwd())
    gate.kill()
    gate.wait()
    gate.stdout.close()
    _until(lambda: not fork_server.is_running() or fork_server.status() == psutil.STATUS_ZOMBIE)
    assert not home.exists()


def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # pytest's own time limit ends it
        time.sleep(0.05)


# --- with namespaces: the kernel holds what the hook does not see -------------------------------------------


@pytest.mark.skipif(bool(sandbox.lacking()), reason="this machine lends no namespaces")
def test_the_kernel_keeps_files_network_and_other_processes_out_of_reach(tmp_path: Path) -> None:
    """Each of these is asked of the C library behind the hook's back, and adds its number to the answers
    where it succeeds.
    """
    (tmp_path / "answers.txt").write_text("secret")
    attack = f"""
libc = ctypes.CDLL(None, use_errno=True)
got = []
if getattr(libc, "creat")(b"{tmp_path}/written", 0o600) >= 0: got.append(1)
if getattr(libc, "open")(b"{tmp_path}/answers.txt", 0) >= 0: got.append(2)
if [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]: got.append(3)
if getattr(libc, "umount2")(b"{tmp_path}", 2) == 0: got.append(4)
if [line for line in open("/proc/net/dev").read().splitlines()[2:] if "lo:" not in line]: got.append(5)
if getattr(libc, "setuid")(1) == 0: got.append(6)
self.got = got
self.predict = lambda query: Prediction(classes=np.full(len(query.ids), sum(10**number for number in self.got)))
"""
    result = run_attack(attack, bounds=sandbox.Bounds(timeout_s=60, hidden=[tmp_path]))
    assert result.status is Status.DONE
    assert set(result.answers[0].arrays["classes"].tolist()) == {0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.txt"]


@pytest.mark.skipif(bool(sandbox.lacking()), reason="this machine lends no namespaces")
@pytest.mark.parametrize("whole", [False, True], ids=["what is named", "what all is in"])
def test_hidden_places_are_empty_also_around_the_scratch_folder(whole: bool, tmp_path: Path) -> None:
    """A file, a folder, and the folder for all that the scratch folder itself lies in; each adds its number to
    the answers where something is seen of it.
    """
    file, folder = tmp_path / "labels.txt", tmp_path / "folder"
    folder.mkdir()
    for path in (file, folder / "labels.txt"):
        path.write_text("labels")
    temporary = Path(tempfile.gettempdir())
    attack = f"""
got = []
if Path({str(file)!r}).exists() and Path({str(file)!r}).read_text(): got.append(1)
if list(Path({str(folder)!r}).glob("*")): got.append(2)
if {whole} and [path for path in Path({str(temporary)!r}).iterdir() if "owb-sandbox" not in path.name]: got.append(3)
if getattr(ctypes.CDLL(None), "creat")(b"{temporary}/written", 0o600) >= 0: got.append(4)
(self.context.scratch / "own").write_text("x")
self.got = got
self.predict = lambda query: Prediction(classes=np.full(len(query.ids), sum(10**number for number in self.got)))
"""
    hidden = [temporary] if whole else [file, folder]
    result = run_attack(attack, bounds=sandbox.Bounds(timeout_s=60, hidden=hidden))
    assert (result.status, result.reason) == (Status.DONE, "")
    assert not result.answers[0].arrays["classes"].any()
    assert file.read_text() == "labels"


def test_a_cell_that_is_interrupted_begins_again_at_its_second_stage() -> None:
    """It answers how often it was set up, and the stages it has learned: both are kept in files."""
    attack = """
with (self.context.scratch / "learned").open("a") as file:
    file.write(str(stage.index))
said = int((self.context.scratch / "set up").read_text() + (self.context.scratch / "learned").read_text())
self.predict = lambda query: Prediction(classes=np.full(len(query.ids), said))
"""
    begins = """
    resumable = True

    def state(self):
        return {}

    def load_state(self, state):
        pass

    def setup(self):
        place = self.context.scratch / "set up"
        place.write_text("2" if place.exists() else "1")
"""
    source = source_of(attack).replace("    def setup(self):\n", begins, 1)
    task = Task(kind="cell", strategy="tries.py:Tries", source=source, params={}, settings=SETTINGS)
    for interrupted, expected in ((False, [10, 101]), (True, [10, 201])):
        result = sandbox.run(replace(task, interrupted=interrupted), EPISODES)
        assert [answer.arrays["classes"][0] for answer in result.answers] == expected, result.reason


def test_parameters_that_are_not_the_strategys_are_refused() -> None:
    task = Task(
        kind="cell",
        strategy="tries.py:Tries",
        source=SOURCE + "        pass\n",
        params={"power": 2},
        settings=SETTINGS,
    )
    result = sandbox.run(task, EPISODES)
    assert result.status is Status.FAILED
    assert "unknown parameter of Tries 'power'" in result.reason


# --- the wire -----------------------------------------------------------------------------------------------


def _reader(data: bytes) -> Callable[[int], bytes]:
    return io.BytesIO(data).read


def test_an_episode_arrives_as_it_was_sent_and_a_query_is_sent_once() -> None:
    first = episode_of(
        unpacked(_reader(episode_frame(EPISODES[0], query_is_known=False)), largest=1 << 30), None
    )
    frame = episode_frame(EPISODES[1], query_is_known=True)
    second = episode_of(unpacked(_reader(frame), largest=1 << 30), first.query)
    assert second.query is first.query
    for sent, got in ((EPISODES[0], first), (EPISODES[1], second)):
        assert np.array_equal(sent.stage.ids, got.stage.ids)
        assert np.array_equal(np.asarray(sent.stage.inputs), np.asarray(got.stage.inputs))
        assert np.array_equal(sent.stage.labels, got.stage.labels)
        assert (sent.stage.index, sent.stage.named_classes) == (got.stage.index, got.stage.named_classes)
        assert np.array_equal(sent.query.ids, got.query.ids)
    with pytest.raises(ValueError, match="read-only"):
        second.stage.labels[0] = 1


def test_a_loader_arrives_as_one_with_the_same_items() -> None:
    stage, query = EPISODES[0]
    lazy = Episode(replace(stage, inputs=Subset(stage.inputs, np.arange(5))), query)
    got = episode_of(
        unpacked(_reader(episode_frame(lazy, query_is_known=False)), largest=1 << 30), None
    ).stage.inputs
    assert not isinstance(got, np.ndarray)
    assert len(got) == 5
    assert np.array_equal(got[np.array([3, 1])], np.asarray(stage.inputs)[[3, 1]])


def test_answers_arrive_as_they_were_sent() -> None:
    answers = [
        StoredPrediction(stage=0, step=step, ids=np.arange(3), arrays={"classes": np.array([2, 0, 1])})
        for step in (5, None)
    ]
    got = answers_of(unpacked(_reader(answers_frame(answers)), largest=1 << 20))
    assert digest(got) == digest(answers)
    assert [answer.step for answer in got] == [5, None]


def test_messages_that_are_too_large_or_none_are_not_read() -> None:
    objects = io.BytesIO()
    np.savez(objects, x=np.array([{}], dtype=object))
    body = objects.getvalue()
    header = b'{"kind": "answers"}'
    with_objects = len(header).to_bytes(4, "big") + len(body).to_bytes(8, "big") + header + body
    for data, why in (
        (b"\xff" * 12, "a message of"),
        (packed({"x": 1}, {"a": np.zeros(1000)}), "a message of"),
        ((3).to_bytes(4, "big") + bytes(8) + b"abc", "not JSON"),
        ((2).to_bytes(4, "big") + bytes(8) + b"[]", "without a header"),
        (with_objects, "holds Python objects"),
    ):
        with pytest.raises(BadFrame, match=why):
            unpacked(_reader(data), largest=(2 << 20) if why != "a message of" else 100)


def test_an_archive_that_lies_about_its_members_unpacks_no_more_than_it_says(tmp_path: Path) -> None:
    """The directory states 100 bytes where there are a million: the array in it does not fit what is stated,
    so it is not loaded.
    """
    path = tmp_path / "lies.npz"
    np.savez_compressed(path, a=np.zeros(125_000))
    data = bytearray(path.read_bytes())
    size = (125_000 * 8 + 128).to_bytes(4, "little")
    assert data.count(size) >= 1
    path.write_bytes(bytes(data.replace(size, (228).to_bytes(4, "little"))))
    assert any(
        "is not what its" in problem or "is not an archive" in problem for problem in npz_problems(path)
    )


@pytest.mark.parametrize("header", ["{'descr': '<f8', 'shape': (", "{", "\\", "(" * 9000, "\x00" * 9])
def test_a_header_that_is_no_python_is_a_finding(header: str, tmp_path: Path) -> None:
    """numpy hands it to the tokenizer, which raises what it likes."""
    path = tmp_path / "broken.npz"
    text = header.encode("latin-1").ljust(118)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    (problem,) = npz_problems(path)
    assert problem.startswith("is not an archive of arrays (")


def test_members_packed_in_a_way_that_numpy_does_not_use_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "packed.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array(file, np.zeros(3))
    assert list(npz_problems(path)) == [
        "array 'a.npy' is packed or encrypted in a way that numpy does not use"
    ]
