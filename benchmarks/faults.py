"""A campaign of faults: `owb run` is launched again and again, each time with one fault at a random moment,
and everything is compared.

Run: OMP_NUM_THREADS=1 python benchmarks/faults.py [--faults 200] [--seed 0] [--log faults.jsonl] [--only KIND
...]

After a launch with its fault the same command is launched until all cells are done, unless they are already.
Asked of every launch: it ends, without a traceback, and leaves no process behind; of every record that says
`done`, before and after: its predictions have the bytes of a run without a fault; of every cell that was done
before: it is not learned again, unless the fault took its predictions away. What was seen is added to the
log, line by line, so that a campaign goes on where it was; the table is made from the log. A fault that came
when there was nothing left to hit is not counted.

Some faults need root (file systems of a certain size, control groups); where it is not to be had they are
left out and named.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from harness.store.mlflow_store import Store

HERE = Path(__file__).parent
SUITE = f"""
name: faults
scenarios: ['class-incremental[stages=3,batch_size=32]']
strategies: ['{HERE / "faulty.py"}:Steady[late=[0.0,0.01]]', fine-tune]
seeds: 2
timeout_s: {{timeout}}
memory_mib: 3000
"""
OWB = Path(sys.executable).parent / "owb"
HANG_S = 300.0
CELL_TIMEOUT_S, SHORT_TIMEOUT_S = 200, 12
MARK = "OWB_FAULT"


@dataclass
class Seen:
    """One launch with its fault, and what followed."""

    kind: str
    after_s: float
    hit: bool = False
    code: int | None = None
    done_before: int = 0
    launches: int = 1
    lost: int = 0
    other_bytes: int = 0
    tracebacks: int = 0
    hangs: int = 0
    left_over: int = 0
    words: list[str] = field(default_factory=list)


@dataclass
class Launch:
    """A running `owb run`."""

    process: subprocess.Popen[str]
    folder: Path
    store: Path
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def driver(self) -> psutil.Process:
        """The command itself."""
        return psutil.Process(self.process.pid)

    def find(self, what: str) -> psutil.Process | None:
        """Return a process of this launch by what it is, if there is one now."""
        if what == "driver":
            return self.driver
        with contextlib.suppress(psutil.NoSuchProcess):
            below = self.driver.children(recursive=True)
            return next((process for process in below if _is(process, what)), None)
        return None


def _is(process: psutil.Process, what: str) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        line = " ".join(process.cmdline())
        if what in ("raylet", "gcs_server"):
            return process.name() == what
        is_parent = "harness.processes.parent" in line
        above = " ".join(getattr(process.parent(), "cmdline", list)())
        if what == "cell":
            return (
                is_parent
                and "harness.processes.parent" in above
                and not process.children()
                and len(process.net_connections("unix")) == 0
            )
        if what == "fork server":
            return is_parent and "harness.processes.parent" not in above
        if what == "loading worker":
            return line.startswith("ray::Worker") and not any(
                "parent" in " ".join(child.cmdline()) for child in process.children()
            )
        if what == "worker":
            return line.startswith("ray::Worker") and bool(process.children())
    return False


def send(what: str, number: signal.Signals) -> Callable[[Launch, random.Random], bool]:
    """Return a fault: a signal to a process, as soon as there is one; a driver that is stopped goes on after
    eight seconds.
    """

    def fault(launch: Launch, _: random.Random) -> bool:
        while not launch.ended.is_set():
            process = launch.find(what)
            if process is None:
                time.sleep(0.02)
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
                if what == "driver" and number == signal.SIGSTOP:
                    time.sleep(8)
                    process.send_signal(signal.SIGCONT)
                return True
        return False

    return fault


def busy(launch: Launch, _: random.Random) -> bool:
    """Hold the data base as another program would, for twelve seconds."""
    base = launch.store / "mlflow.db"
    while not base.exists():
        if launch.ended.is_set():
            return False
        time.sleep(0.05)
    with (
        contextlib.closing(sqlite3.connect(base, timeout=60, isolation_level=None)) as held,
        contextlib.suppress(sqlite3.OperationalError),
    ):
        held.execute("BEGIN EXCLUSIVE")
        time.sleep(12)
        held.execute("ROLLBACK")
        return True
    return False


def full_disk(launch: Launch, _: random.Random) -> bool:
    """Fill the file system of the store."""
    with contextlib.suppress(OSError), (launch.store.parent / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(1 << 20))
            filler.flush()
    return True


def read_only(launch: Launch, _: random.Random) -> bool:
    """Make the data base refuse to be written to, also by whoever has it open."""
    base = launch.store / "mlflow.db"
    while not base.exists():
        if launch.ended.wait(0.05):
            return False
    return subprocess.run(["chattr", "+i", base], capture_output=True).returncode == 0


def remove_folder(launch: Launch, draw: random.Random) -> bool:
    """Remove the folder of a cell, of kept stages or of a record, as soon as there is one."""
    while not launch.ended.wait(0.05):
        found = [
            path
            for name in ("cells/*", "stages*", "artifacts/faults/*")
            for path in launch.store.glob(name)
            if path.is_dir()
        ]
        if found:
            shutil.rmtree(draw.choice(sorted(found)), ignore_errors=True)
            return True
    return False


def trap(said: str) -> Callable[[Launch, random.Random], bool]:
    """Return a fault that a cell does itself."""

    def fault(launch: Launch, _: random.Random) -> bool:
        (launch.folder / "trap").write_text(said)
        while (launch.folder / "trap").exists() and not launch.ended.is_set():
            time.sleep(0.1)
        return not (launch.folder / "trap").exists()

    return fault


def memory_of_the_node(launch: Launch, draw: random.Random) -> bool:
    """Put the whole launch below a control group with less memory than a cell then takes."""
    group = Path("/sys/fs/cgroup/memory") / f"owb-{launch.process.pid}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(5 << 30))
    for process in [launch.driver, *launch.driver.children(recursive=True)]:
        with contextlib.suppress(OSError):
            (group / "cgroup.procs").write_text(str(process.pid))
    return trap("memory")(launch, draw)


def kept_files(store: Path) -> list[Path]:
    """Return what is read back from the store: states, answers and stages of cells, and predictions."""
    names = ("cells/*/*.pt", "stages*/**/*.pt", "artifacts/*/*/artifacts/predictions.npz")
    return sorted({path for name in names for path in store.glob(name)})


def damage(how: str) -> Callable[[Path, random.Random], bool]:
    """Return what is done to a file of the store after a driver was killed: cut short, emptied, or with one
    bit turned.
    """

    def fault(store: Path, draw: random.Random) -> bool:
        found = kept_files(store)
        if not found:
            return False
        path = draw.choice(found)
        content = bytearray(path.read_bytes())
        if how == "flipped" and content:
            place = draw.randrange(len(content))
            content[place] ^= 1 << draw.randrange(8)
        path.write_bytes({"truncated": content[: len(content) // 2], "emptied": b"", "flipped": content}[how])
        return True

    return fault


SIGNALS = {
    f"{number.name} of {what}": send(what, number)
    for number, targets in {
        signal.SIGKILL: ("worker", "loading worker", "cell", "fork server", "driver", "raylet", "gcs_server"),
        signal.SIGSTOP: ("worker", "loading worker", "cell", "driver", "raylet", "gcs_server"),
        signal.SIGTERM: ("worker", "loading worker", "cell", "driver", "raylet", "gcs_server"),
        signal.SIGHUP: ("worker", "driver"),
    }.items()
    for what in targets
}
DURING: dict[str, Callable[[Launch, random.Random], bool]] = {
    **SIGNALS,
    "busy data base": busy,
    "full disk": full_disk,
    "read-only data base": read_only,
    "removed folder": remove_folder,
    "hang of a cell": trap("hang"),
    "memory of a cell": trap("memory"),
    "memory of the node": memory_of_the_node,
}
AFTER = {f"{how} file": damage(how) for how in ("truncated", "emptied", "flipped")}
MOUNTED = ("full disk",)
BY_ROOT = (*MOUNTED, "read-only data base", "memory of the node")


def command(store: Path, suite: Path) -> list[str]:
    """Return the command that is launched."""
    return [str(OWB), "run", str(suite), "--workers", "2", "--store", str(store), "--json"]


def launched(folder: Path, store: Path, name: str, *, short: bool = False) -> Launch:
    """Launch the suite; `short`: with a time limit that a hanging cell soon meets."""
    suite = folder / "suite.yaml"
    suite.write_text(SUITE.format(timeout=SHORT_TIMEOUT_S if short else CELL_TIMEOUT_S))
    environment = {**os.environ, MARK: name, "OWB_TRAP": str(folder / "trap"), "OMP_NUM_THREADS": "1"}
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(
            command(store, suite), stdout=out, stderr=err, env=environment, cwd=folder, text=True
        )
    return Launch(process, folder, store)


def marked(name: str) -> list[psutil.Process]:
    """Return what still runs of a launch."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == name and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_of(launch: Launch, name: str, seen: Seen) -> None:
    """Wait until a launch is over and note what is wrong with how it ended."""
    try:
        seen.code = launch.process.wait(HANG_S)
    except subprocess.TimeoutExpired:
        seen.hangs += 1
        seen.words.append(
            "hang: "
            + "; ".join(
                " ".join(process.cmdline())[:60] + " " + process.status() for process in marked(name)[:8]
            )
        )
        launch.process.kill()
        launch.process.wait()
    launch.ended.set()
    deadline = time.monotonic() + 20
    while (left := marked(name)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            seen.left_over += 1
            seen.words.append(f"left over: {' '.join(process.cmdline())[:80]}")
            process.kill()
    said = (launch.folder / "out").read_text() + (launch.folder / "err").read_text()
    if "Traceback (most recent call last)" in said:
        seen.tracebacks += 1
        seen.words.append(said[said.index("Traceback") :][-600:])
    elif seen.code not in (0, None) and seen.code > 0:
        seen.words.append(f"exit {seen.code}: {(launch.folder / 'err').read_text().strip()[-200:]}")


def done(store: Path) -> dict[str, tuple[str, str]]:
    """Return the digest of the predictions of every cell that is done, and its run."""
    if not (store / "mlflow.db").exists():
        return {}
    opened = Store(str(store))
    return {
        record.key: (record.digest, record.run_id)
        for record in opened.records()
        if record.status.value == "done"
    }


@contextlib.contextmanager
def disk(kind: str, folder: Path) -> Iterator[Path]:
    """Lend a place for a store: a file system of its own where the fault is one of disks."""
    place = folder / "disk"
    place.mkdir()
    if kind not in MOUNTED:
        yield place / "store"
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", place], check=True)
    try:
        yield place / "store"
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def repaired(kind: str, store: Path) -> None:
    """Undo what a person would have to undo."""
    if kind == "full disk":
        (store.parent / "filler").unlink(missing_ok=True)
    if kind == "read-only data base" and (store / "mlflow.db").exists():
        subprocess.run(["chattr", "-i", store / "mlflow.db"], check=True)


def one(kind: str, draw: random.Random, right: dict[str, str], longest_s: float) -> Seen:
    """Launch with one fault, then until all is done; return what was seen."""
    share = 0.2 if "loading" in kind else 0.85  # of a run's time: later there is nothing left to hit
    seen = Seen(kind, round(draw.uniform(0, share * longest_s), 1))
    name = f"{os.getpid()}-{draw.getrandbits(48):x}"
    with (
        tempfile.TemporaryDirectory(prefix="owb-faults-", ignore_cleanup_errors=True) as text,
        disk(kind, Path(text)) as store,
    ):
        folder = Path(text)
        launch = launched(folder, store, name, short=kind == "hang of a cell")
        fault = DURING.get(kind, SIGNALS["SIGKILL of driver"])

        def later() -> None:
            started = time.monotonic()
            while kind in AFTER and not kept_files(store) and not launch.ended.wait(0.02):
                pass  # there has to be a file that can be damaged
            if not launch.ended.wait(draw.uniform(0, 2) if kind in AFTER else seen.after_s):
                seen.after_s = round(time.monotonic() - started, 1)
                seen.hit = fault(launch, draw)

        thread = threading.Thread(target=later)
        thread.start()
        end_of(launch, name, seen)
        thread.join()
        repaired(kind, store)
        before = done(store)
        seen.done_before = len(before)
        damaged = set()
        if kind in AFTER:
            seen.hit = AFTER[kind](store, draw) and seen.hit
        if kind in AFTER or kind == "removed folder":
            damaged = {key for key, (_, run) in before.items() if not whole(store, run, right[key])}
        is_all = seen.code == 0 and set(before) == set(right) and kind not in AFTER and not damaged
        while not is_all and seen.launches < 4:
            seen.launches += 1
            again = launched(folder, store, name)
            end_of(again, name, seen)
            if seen.code == 0:
                break
        after = done(store)
        seen.lost = sum(
            after.get(key, ("", ""))[1] != run for key, (_, run) in before.items() if key not in damaged
        )
        seen.lost += len(right) - len(after)
        seen.other_bytes = sum(
            digest != right.get(key) for found in (before, after) for key, (digest, _) in found.items()
        )
        seen.other_bytes += sum(
            not whole(store, run, right[key]) for key, (_, run) in after.items() if key in right
        )
    return seen


def whole(store: Path, run: str, digest: str) -> bool:
    """Say whether the predictions of a run are there with the right bytes."""
    from harness.store.predictions import digest as digest_of
    from harness.store.predictions import read_answers

    path = store / "artifacts" / "faults" / run / "artifacts" / "predictions.npz"
    try:
        return digest_of(read_answers(path)) == digest
    except Exception:  # whatever a damaged file raises
        return False


def reference() -> tuple[dict[str, str], float]:
    """Run the suite without a fault; return the digests and the seconds it took."""
    with tempfile.TemporaryDirectory(prefix="owb-faults-") as text:
        seen, started = Seen("none", 0.0), time.monotonic()
        launch = launched(Path(text), Path(text) / "store", "reference")
        end_of(launch, "reference", seen)
        if seen.code != 0 or seen.tracebacks or seen.left_over:
            raise SystemExit(f"the run without a fault went wrong: {seen}")
        return {
            key: digest for key, (digest, _) in done(Path(text) / "store").items()
        }, time.monotonic() - started


def table(log: Path) -> None:
    """Print what was seen so far."""
    rows: dict[str, list[Seen]] = {}
    for line in log.read_text().splitlines():
        seen = Seen(**json.loads(line))
        rows.setdefault(seen.kind, []).append(seen)
    columns = ("lost", "other_bytes", "tracebacks", "hangs", "left_over")
    print(
        f"{'fault':<28}{'faults':>9}{'done before':>12}"
        + "".join(f"{name.replace('_', ' '):>13}" for name in columns)
    )
    for kind, each in [*sorted(rows.items()), ("all", [seen for found in rows.values() for seen in found])]:
        sums = [sum(getattr(seen, name) for seen in each) for name in columns]
        before = sum(seen.done_before for seen in each)
        print(f"{kind:<28}{len(each):>9}{before:>12}" + "".join(f"{total:>13}" for total in sums))


def main() -> None:
    """Go on with the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("faults.jsonl"))
    parser.add_argument("--only", nargs="*", default=[])
    asked = parser.parse_args()
    kinds = [*DURING, *AFTER]
    if os.geteuid() != 0:
        print(f"left out, for they need root: {', '.join(BY_ROOT)}")
        kinds = [kind for kind in kinds if kind not in BY_ROOT]
    kinds = asked.only or kinds
    asked.log.touch()
    right, longest_s = reference()
    print(f"{len(right)} cells, {longest_s:.0f} s without a fault", flush=True)
    missed = 0
    while (number := len(asked.log.read_text().splitlines())) < asked.faults:
        draw = random.Random(f"{asked.seed} {number} {missed}")
        seen = one(kinds[(number + missed) % len(kinds)], draw, right, longest_s)
        wrong = seen.lost or seen.other_bytes or seen.tracebacks or seen.hangs or seen.left_over
        print(
            f"{number + 1:>4} {seen.kind:<26} after {seen.after_s:>5} s, hit: {seen.hit}, exit "
            f"{seen.code}, launches {seen.launches}"
            f"{'  WRONG: ' + json.dumps(asdict(seen)) if wrong else ''}",
            flush=True,
        )
        if not seen.hit and not wrong:  # the run was over before there was anything to hit
            missed += 1
            continue
        with asked.log.open("a") as log:
            log.write(json.dumps(asdict(seen)) + "\n")
    table(asked.log)


if __name__ == "__main__":
    main()
