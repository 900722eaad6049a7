"""Three nodes on one machine that share as little as three machines do, and what can befall them.

Every node but the head has a network namespace, with a cable to a bridge that can be pulled, and a mount
namespace, in which the store and the data of the driver are empty folders. Each has a folder for temporary files
of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from raylets import Cluster

HEAD, BRIDGE = "10.77.0.1", "owb"
APART = "OWB_APART"
WEIGHTS = "thin.pt"
SMALL_MIB = 260


def move_apart() -> None:
    """Begin this script again in network and mount namespaces of its own, which end with it, and lay the bridge."""
    if not os.environ.get(APART):
        words = ["unshare", "--net", "--mount", sys.executable, *sys.argv]
        os.execvpe(words[0], words, {**os.environ, APART: "1"})
    Path("/run/netns").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/netns"], check=True)
    _ip("link set lo up", f"link add {BRIDGE} type bridge", f"addr add {HEAD}/24 dev {BRIDGE}")
    _ip(f"link set {BRIDGE} up")


def _ip(*commands: str, within: Sequence[str] = ()) -> None:
    for command in commands:
        subprocess.run([*within, "ip", *command.split()], check=True)


class Nodes:
    """A head and two nodes. store: a folder that no node sees unless it is said to.  data: what nodes have under
    `OWB_DATA`.  code: a folder with other code of this program.
    """

    def __init__(self, folder: Path, store: Path, data: Path, code: Path, mark: str) -> None:
        self.folder, self.store, self.data, self.code, self.mark = folder, store, data, code, mark
        self.lacks_data, self.other_timm = folder / "no-data", folder / "other-timm"
        self.lacks_data.mkdir(exist_ok=True)
        about = self.other_timm / "timm-0.0.1.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.0.1\n")
        self._cables: dict[str, int] = {}
        self._last = 1
        self.open()

    def open(self) -> None:
        """Start the head and two nodes."""
        home = self.folder / "home" / ".ray"
        home.mkdir(parents=True, exist_ok=True)
        (home / "auth_token").write_text("5" * 64)
        self.cluster = Cluster(self.folder, host=HEAD, **self._variables("head"))
        for name in ("second", "third"):
            self.join(name)

    def close(self) -> None:
        """End all nodes."""
        self.cluster.__exit__(None, None, None)
        for name in self._cables:
            _ip(f"link delete v-{name}", f"netns delete {name}")
        self._cables.clear()

    def join(self, name: str, *mounts: str, **further: str) -> None:
        """Have a node join that sees no store, or what `mounts` say."""
        if name not in self._cables:
            self._last += 1
            within = ["nsenter", f"--net=/run/netns/{name}"]
            _ip(
                f"netns add {name}",
                f"link add v-{name} type veth peer name eth0 netns {name}",
                f"link set v-{name} master {BRIDGE} up",
            )
            at = f"10.77.0.{self._last}/24"
            _ip(f"addr add {at} dev eth0", "link set eth0 up", "link set lo up", within=within)
            self._cables[name] = self._last
        said = " && ".join(mounts or [f"mount -t tmpfs none {self.store}"])
        within = [*self.on(name), "unshare", "--mount", "sh", "-c", f'{said} && exec "$@"', "sh"]
        if "PYTHONPATH" in further:
            further["PYTHONPATH"] += f":{os.environ.get('PYTHONPATH', '')}"
        variables = {**self._variables(name), **further}
        self.cluster.add(name, within=within, RAY_AUTH_MODE="token", **variables)

    def on(self, name: str) -> list[str]:
        """Return the words before a command that runs in the network of a node."""
        return ["nsenter", f"--net=/run/netns/{name}"] if name != "head" else []

    def temporary(self, name: str) -> Path:
        """Return the folder for temporary files of a node, as the driver sees it."""
        return self.folder / f"tmp-{name}"

    def lose(self, name: str) -> None:
        """Kill a node and all its processes."""
        self.cluster.kill(name)

    def again(self, name: str) -> None:
        """Have a node in good order in the place of one, whatever became of that."""
        self.plug(name)
        self.lose(name)
        self.join(name)

    def freeze(self, name: str) -> None:
        """Stop all processes of a node."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Have them go on."""
        self._signal(name, signal.SIGCONT)

    def cut(self, name: str) -> None:
        """Pull the cable of a node."""
        _ip(f"link set v-{name} down")

    def plug(self, name: str) -> None:
        """Put it in again."""
        _ip(f"link set v-{name} up")

    def inside(self, name: str, words: str) -> None:
        """Run a command of the shell in the mount namespace of a node."""
        raylet = next(each for each in self.processes(name) if "raylet" in each.name())
        subprocess.run(["nsenter", "--mount", "-t", str(raylet.pid), "sh", "-c", words], check=False)

    def is_at_work(self, name: str) -> bool:
        """Say whether a cell learns on a node."""
        found = 0
        for process in self.processes(name):
            with contextlib.suppress(psutil.Error):
                found += "harness.processes.parent" in " ".join(process.cmdline())
        return found > 1

    def processes(self, name: str) -> list[psutil.Process]:
        """Return the processes of a node."""
        found = []
        for number in self.cluster.processes(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(number))
        return found

    def left_over(self) -> list[str]:
        """Return the folders of workers that still live, long after their run has ended. Those of workers that were
        killed with their node go with the next one there: here they are removed.
        """
        found = []
        for folder in self.folder.glob("tmp-*"):
            words = "from harness.execution.away import sweep; sweep(patience_s=30)"
            subprocess.run(
                [sys.executable, "-c", words], env={**os.environ, "TMPDIR": str(folder)}, check=True
            )
            found += [str(path.relative_to(self.folder)) for path in folder.glob("owb-cells-*")]
        return found

    def small_disk(self, name: str) -> str:
        """Return the words that give a node a small disk for temporary files."""
        return f"mount -t tmpfs -o size={SMALL_MIB}m none {self.temporary(name)}"

    def _variables(self, name: str) -> dict[str, str]:
        self.temporary(name).mkdir(exist_ok=True)
        common = {"OMP_NUM_THREADS": "1", "OWB_DATA": str(self.data), "OWB_FAULT": self.mark}
        quick = {"RAY_worker_niceness": "0"}  # else a machine that does other work too leaves them nothing
        return {**common, **quick, "TMPDIR": str(self.temporary(name))}

    def _signal(self, name: str, number: signal.Signals) -> None:
        for process in self.processes(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
