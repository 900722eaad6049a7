"""The kernel keeps submitted code inside and tells what it tries, also where the audit hook was silenced; what
honest strategies need works.
"""

from __future__ import annotations

import platform
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from checkout import SUPPORT
from tries import EPISODES, SILENCED, run_attack, run_source

from harness import sandbox
from harness.contracts import Status
from harness.processes.fork_server import ForkServer
from harness.sandbox import launch

pytestmark = pytest.mark.skipif(not launch.walls_here().filtered, reason="this machine has no filter")
needs_namespaces = pytest.mark.skipif(
    not launch.walls_here().namespaces, reason="this machine lends no namespaces"
)

Run = Callable[..., sandbox.Result]


@pytest.fixture(params=["namespaces", "the filter alone"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return `run_attack` with the namespaces of this machine, and without them."""
    here = launch.walls_here()
    if request.param == "the filter alone":
        monkeypatch.setattr(launch, "walls_here", lambda: here._replace(namespaces=False))
    elif not here.namespaces:
        pytest.skip("this machine lends no namespaces")
    return run_attack


ATTACKS = {
    "socket.create_connection(('127.0.0.1', 9), timeout=1)": "opens the network (socket)",
    "socket.socket(socket.AF_UNIX)": "opens the network (socket)",
    "socket.socket(socket.AF_NETLINK)": "opens the network (socket)",
    "socket.socketpair()": "opens the network (socketpair)",
    "np.zeros(libc.connect(0, 0, 0))": "opens the network (connect)",
    "os.fork()": "starts a process (clone)",
    "os.posix_spawn('/bin/true', ['true'], {})": "starts a process (clone)",
    "np.zeros(libc.vfork())": "starts a process (vfork)",
    "os.execv('/bin/true', ['true'])": "starts a process (execve)",
    "np.zeros(libc.fexecve(0, ctypes.byref(none), ctypes.byref(none)))": "starts a process (execveat)",
    "os.kill(os.getppid(), 9)": "sends signals to other processes (kill)",
    "os.killpg(0, 0)": "sends signals to other processes (kill)",
    "np.zeros(libc.ptrace(16, 1, 0, 0))": "reaches into other processes (ptrace)",
    "np.zeros(libc.process_vm_readv(1, 0, 0, 0, 0, 0))": "reaches into other processes (process_vm_readv)",
    "import resource; resource.prlimit(os.getppid(), 7, (9, 9))": "reaches into other processes (prlimit64)",
    "np.zeros(libc.unshare(0x10000000))": "changes what it sees of the system (unshare)",
    "np.zeros(libc.setns(0, 0))": "changes what it sees of the system (setns)",
    "np.zeros(libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0))": "changes what it sees of the system (mount)",
    "np.zeros(libc.umount2(b'/proc', 2))": "changes what it sees of the system (umount2)",
    "os.chroot('/')": "changes what it sees of the system (chroot)",
    "np.zeros(libc.syscall(428, 0, b'/', 1))": "changes what it sees of the system (open_tree)",
    "np.zeros(libc.sethostname(b'x', 1))": "changes the running kernel (sethostname)",
    "np.zeros(libc.prctl(22, 2, 0, 0, 0))": "",
    "os.memfd_create('x')": "",
    "import mmap; mmap.mmap(-1, 4096)": "",
    "np.zeros(libc.shmget(0, 4096, 0o1600))": "",
    "np.zeros(libc.syscall(425, 8, 0))": "",
}
"""What is tried, each failing, and what is told of it. numpy refuses a shape of -1, so that these fail as well."""
if platform.machine() == "x86_64":
    ATTACKS["np.zeros(libc.syscall(0x40000027))"] = "calls the kernel by the numbers of another machine"


def test_what_the_silenced_hook_does_not_tell_the_kernel_refuses_and_tells(run: Run) -> None:
    attack = f"""
libc, none = ctypes.CDLL(None), ctypes.c_void_p()
{SILENCED}
went = []
for number, line in enumerate({list(ATTACKS)!r}):
    try:
        exec(line)
    except Exception:
        pass
    else:
        went.append(number)
self.predict = lambda query: Prediction(classes=np.array([len(went), *went, *[0] * len(query.ids)])[:len(query.ids)])
"""
    result = run(attack)
    assert (result.status, result.reason) == (Status.DONE, "")
    classes = result.answers[0].arrays["classes"][np.argsort(EPISODES[0].query.ids)].tolist()
    assert [list(ATTACKS)[number] for number in classes[1 : 1 + classes[0]]] == []
    assert set(result.violations) == set(filter(None, ATTACKS.values()))


def test_threads_are_held_as_well_also_those_that_run_on(run: Run) -> None:
    attack = f"""
import threading
{SILENCED}
threading.Thread(target=lambda: socket.socket(), daemon=True).start()
def late():
    time.sleep(0.2)
    os.fork()
thread = threading.Thread(target=late)
thread.start()
thread.join()
"""
    result = run(attack)
    assert set(result.violations) == {"opens the network (socket)", "starts a process (clone)"}


def test_code_that_runs_when_it_is_imported_is_held(run: Run) -> None:
    """The filter stands before the first line of what was submitted, which reports its attempt itself."""
    del run  # its walls
    source = "import socket\ntry:\n    socket.socketpair()\nexcept OSError as error:\n    raise ValueError(error.errno)\n"
    result = run_source(source, sandbox.Bounds(timeout_s=60))
    assert result.violations == ("opens the network (socketpair)",)
    assert result.reason.endswith("ValueError: 1")  # EPERM


def test_what_runs_before_the_walls_stand_is_not_the_submissions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a library that starts a process while it is loaded ahead: the first look sees one, no later one does."""
    tasks, looks = ForkServer.tasks, 0

    def seen(of: ForkServer) -> list[psutil.Process]:
        nonlocal looks
        looks += 1
        return [psutil.Process()] * 2 if looks == 1 else tasks(of)

    monkeypatch.setattr(ForkServer, "tasks", seen)
    result = run_source("raise ValueError('loaded')\n", sandbox.Bounds(timeout_s=60))
    assert looks > 1
    assert result.violations == ()


def test_a_library_that_a_submission_names_is_loaded_behind_the_walls_but_for_those_of_a_fixed_list() -> None:
    """urllib3 tries the network when it is loaded, and matplotlib starts a process, which the list allows for."""
    source = "import {}\nraise ValueError('loaded')\n"
    held = run_source(source.format("urllib3"), sandbox.Bounds(timeout_s=60))
    listed = run_source(source.format("matplotlib.pyplot"), sandbox.Bounds(timeout_s=60))
    assert held.violations == ("opens the network",)
    assert listed.violations == ()
    assert all(result.reason.endswith("ValueError: loaded") for result in (held, listed))


def test_a_service_outside_hears_nothing(run: Run, tmp_path: Path) -> None:
    """Three that listen: on a port, on a path, and under a name that is none in the file system."""
    names: list[object] = [("127.0.0.1", 0), str(tmp_path / "service"), f"\0{tmp_path.name}"]
    kinds = [socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX]
    services = [socket.socket(kind) for kind in kinds]
    for service, name in zip(services, names, strict=True):
        service.bind(name)
        service.listen()
        service.setblocking(False)
    names[0] = services[0].getsockname()
    attack = f"""
{SILENCED}
for kind, name in zip({[int(kind) for kind in kinds]}, {names!r}):
    try:
        socket.socket(kind).connect(name)
    except OSError:
        pass
"""
    assert run(attack).violations == ("opens the network (socket)",)
    for service in services:
        with pytest.raises(BlockingIOError):
            service.accept()
        service.close()


def test_files_sent_to_the_gate_are_closed_and_its_listener_stays(run: Run) -> None:
    attack = f"""
{SILENCED}
import array
file = os.open(np.__file__, os.O_RDONLY)
for number in range(3, 64):
    try:
        line = socket.socket(fileno=number)
    except OSError:
        continue
    line.sendmsg([(0).to_bytes(3, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
    line.detach()
os.fork()
"""
    files = len(list(Path("/proc/self/fd").iterdir()))
    result = run(attack)
    assert result.status is Status.FAILED
    assert "starts a process (clone)" in result.violations
    assert (
        len(list(Path("/proc/self/fd").iterdir())) <= files + 4
    )  # those of a parent that was not there before


def test_attempts_without_end_end_at_the_time_limit() -> None:
    """Whoever answers them looks at the limits all the same."""
    attack = f"""
import threading
{SILENCED}
def tries():
    while True:
        try:
            os.fork()
        except OSError:
            pass
for _ in range(32):
    threading.Thread(target=tries, daemon=True).start()
tries()
"""
    result = run_attack(attack, bounds=sandbox.Bounds(timeout_s=2))
    assert (result.status, result.violations) == (Status.TIMEOUT, ("starts a process (clone)",))


SIX_FRAMES = """
import json, struct
body = io.BytesIO()
np.savez(body, **{"0.ids": stage.ids, "0.scores": np.frombuffer(os.urandom(96 << 20), dtype=np.uint8)})
header = json.dumps({"kind": "answers", "moments": [{"stage": 0, "step": 1}]}).encode()
frame = struct.pack(">IQ", len(header), body.tell()) + header + body.getvalue()
for _ in range(6):
    for number in range(3, 64):
        rest = memoryview(frame)
        try:
            while rest:
                rest = rest[os.write(number, rest):]
        except OSError:
            pass
"""


def test_the_gate_holds_less_than_a_gib_whatever_is_sent() -> None:
    """Six frames of 96 MiB that do not compress, as answers of the first stage; in a gate of its own."""
    code = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
from tries import run_attack
print(run_attack({SIX_FRAMES!r}).reason)
print(open("/proc/self/status").read())
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.startswith("its process sent a message of 96 MiB")
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", said, re.MULTILINE)
    assert peak is not None
    assert 96 < int(peak[1]) >> 10 < 1024


@needs_namespaces
def test_there_are_no_devices_but_chance_and_nothing() -> None:
    attack = f"""
{SILENCED}
assert sorted(os.listdir("/dev")) == ["null", "random", "shm", "urandom"]
assert len(open("/dev/urandom", "rb").read(8)) == 8
open("/dev/null", "w").write("x")
self.predict = lambda query: Prediction(classes=np.full(len(query.ids), 7))
"""
    assert set(run_attack(attack).answers[0].arrays["classes"].tolist()) == {7}


@needs_namespaces
def test_the_scratch_folder_has_a_size_in_bytes_and_in_files() -> None:
    attack = f"""
{SILENCED}
said = []
for write in (lambda n: (self.context.scratch / f"{{n % 40}}").open("ab").write(bytes(1 << 20)), lambda n: (self.context.scratch / f"file-{{n}}").touch()):
    try:
        for number in range(30000):
            write(number)
    except OSError as error:
        said.append(error.errno)
    for path in self.context.scratch.iterdir():
        path.unlink()
self.predict = lambda query: Prediction(classes=np.resize(said, len(query.ids)))
"""
    classes = (
        run_attack(attack, bounds=sandbox.Bounds(timeout_s=60, scratch_mib=64)).answers[0].arrays["classes"]
    )
    assert set(classes.tolist()) == {28}  # ENOSPC


@needs_namespaces
def test_memory_behind_a_mapped_file_of_the_scratch_folder_counts() -> None:
    attack = """
import mmap
held = []
for number in range(8):
    with (self.context.scratch / str(number)).open("w+b") as file:
        file.truncate(32 << 20)
        held.append(mmap.mmap(file.fileno(), 32 << 20))
    held[-1][:] = bytes(32 << 20)
time.sleep(30)
"""
    result = run_attack(attack, bounds=sandbox.Bounds(timeout_s=60, memory_mib=500))
    assert result.status is Status.OUT_OF_MEMORY
    assert result.reason.endswith("the limit is 500 MiB")


# --- honest ones --------------------------------------------------------------------------------------------

HONEST = {
    "Trains": '''
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
from harness.contracts import Prediction, Strategy

class Trains(Strategy):
    """A network, with threads."""

    def setup(self):
        torch.set_num_threads(2)
        layers = torch.nn.Flatten(), torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)
        self.net = torch.nn.Sequential(*layers)
        self.optimiser = torch.optim.AdamW(self.net.parameters())

    def learn(self, stage):
        inputs = torch.from_numpy(np.array(stage.inputs[np.arange(len(stage.ids))], dtype=np.float32))
        items = TensorDataset(inputs, torch.from_numpy(np.array(stage.labels)))
        for batch, labels in DataLoader(items, batch_size=32, shuffle=True):
            self.optimiser.zero_grad()
            torch.nn.functional.cross_entropy(self.net(batch), labels).backward()
            self.optimiser.step()
        torch.save(self.net.state_dict(), self.context.scratch / "net.pt")
        self.net.load_state_dict(torch.load(self.context.scratch / "net.pt"))

    def predict(self, query):
        inputs = torch.from_numpy(np.array(query.inputs[np.arange(len(query.ids))], dtype=np.float32))
        return Prediction(classes=self.net(inputs).argmax(dim=1).numpy())
''',
    "Fits": '''
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from harness.contracts import Prediction, Strategy

class Fits(Strategy):
    """Four methods of scikit-learn vote; one of them on threads of joblib."""

    def setup(self):
        self.items, self.labels = [], []

    def learn(self, stage):
        self.items.append(np.asarray(stage.inputs[np.arange(len(stage.ids))]).reshape(len(stage.ids), -1))
        self.labels.append(np.asarray(stage.labels))
        items, labels = np.concatenate(self.items), np.concatenate(self.labels)
        KMeans(4, n_init=1, random_state=0).fit(items)
        methods = [
            KNeighborsClassifier(3),
            make_pipeline(PCA(8, random_state=0), LogisticRegression(max_iter=20)),
            RandomForestClassifier(8, n_jobs=2, random_state=0),
        ]
        self.methods = [method.fit(items, labels) for method in methods]

    def predict(self, query):
        items = np.asarray(query.inputs[np.arange(len(query.ids))]).reshape(len(query.ids), -1)
        votes = np.stack([method.predict(items) for method in self.methods])
        return Prediction(classes=np.sort(votes, axis=0)[len(votes) // 2])
''',
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_strategies_with_networks_threads_and_libraries_pass(run: Run, name: str) -> None:
    del run  # its walls
    result = run_source(HONEST[name], sandbox.Bounds(timeout_s=120), name=name, threads=2)
    assert (result.status, result.reason, result.violations) == (Status.DONE, "", ())
    assert [answer.stage for answer in result.answers] == [0, 1]
