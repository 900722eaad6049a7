"""A campaign of faults on three nodes: runs of `owb run --address`, and fault after fault in each of them.

Run as root: nice python benchmarks/cluster_faults.py [--faults 100] [--seed 0] [--log FILE] [--only KIND ...]

The nodes share as little as three machines do (`nodes_apart`). Runs keep their records in a folder that nodes do
not see, and every second one on a tracking server. The next fault of a schedule that is drawn comes as soon as
cells are at work on the node that it strikes; then the cluster is mended, and a driver that is no more is started
again, somewhere else where that is the fault. Asked of every fault: whatever was finished before is the record of
that cell at the end; every prediction has the bytes of a run without a cluster; no traceback; nothing is left over on
the nodes; and the driver has said what happened in a sentence, which the table gives. The log has a line for every
fault, so that a campaign goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nodes_apart import HEAD, WEIGHTS, Nodes, move_apart
from tracking_server import TrackingServer

from harness.store.mlflow_store import Store
from harness.store.predictions import digest

HERE = Path(__file__).parent
OWB = [sys.executable, "-c", "from harness.cli import main; main()"]
SCENARIO = f"class-incremental[stages=3,batch_size=32,backbone={HERE / 'faulty.py'}:thin[weights={WEIGHTS}]]"
STRATEGY = f"{HERE / 'faulty.py'}:Steady[late=[0.0,0.01],pause={{pause}}]"
SEEDS, PAUSE_S = 50, 0.6
PATIENCE_S = 240.0
CUT_S, FROZEN_S, DOWN_S = (5, 25, 60), (5, 25, 70), (5, 40)
CHECKED = 20  # of the records on a server: their predictions are fetched too


@dataclass
class Seen:
    """One fault, and what followed. said: what the driver wrote after it.  told: the sentence that says it."""

    kind: str
    run: int
    store: str
    driver: str
    done_before: int = 0
    ends: list[int] = field(default_factory=list)
    lost: int = 0
    other_bytes: int = 0
    tracebacks: int = 0
    hangs: int = 0
    left_over: int = 0
    told: str = ""
    said: list[str] = field(default_factory=list)


Row = tuple[Seen, dict[str, tuple[str, str]]]
"""A fault, and by key the digests and runs of the cells that were done before it."""


class Run:
    """One command, launched until all its cells are done, and the nodes that it runs on."""

    def __init__(self, number: int, folder: Path, nodes: Nodes, draw: random.Random) -> None:
        self.number, self.folder, self.nodes, self.draw = number, folder, nodes, draw
        self.where, self.ends = "head", list[int]()
        self.said = folder / "said.txt"
        self.said.touch()
        self.server = TrackingServer(folder, host=HEAD) if number % 2 else None
        if self.server:
            self.server.start()
        self.store = self.server.uri if self.server else str(nodes.store / str(number))
        self.launch()

    def launch(self) -> None:
        """Start the driver, where it is to be."""
        here = self.folder / f"driver-{self.where}"
        here.mkdir(exist_ok=True)
        with self.said.open("a") as said, (here / "out").open("a") as out:
            self.driver = subprocess.Popen(
                [*self.nodes.on(self.where), *self._words(self.store)],
                cwd=here,
                env=self._environment(),
                stdout=out,
                stderr=said,
            )

    def _words(self, store: str) -> list[str]:
        words = ["run", STRATEGY.format(pause=PAUSE_S), "-s", SCENARIO, "-n", str(SEEDS), "--no-bounds"]
        return [*OWB, *words, "--store", store, "--json", "--address", self.nodes.cluster.address]

    def _environment(self, **further: str) -> dict[str, str]:
        variables = {"OMP_NUM_THREADS": "1", "OWB_DATA": str(self.nodes.data), "OWB_FAULT": self.nodes.mark}
        return self.nodes.cluster.environment(**variables, **further)

    @property
    def is_over(self) -> bool:
        """Whether the driver has ended."""
        return self.driver.poll() is not None

    def done(self) -> dict[str, tuple[str, str]]:
        """Return the digest and the run of every cell that is done, by key."""
        base = f"sqlite:///{self.folder}/server.db" if self.server else self.store
        return {
            each.key: (each.digest, each.run_id) for each in Store(base).records() if each.status == "done"
        }

    def beside(self, **how: str) -> tuple[int, str]:
        """Launch another driver beside this one, in another environment; return its exit code and words."""
        words = self._words(str(self.nodes.store / "other"))
        driver = subprocess.run(
            words, env=self._environment(**how), capture_output=True, text=True, timeout=PATIENCE_S
        )
        return driver.returncode, driver.stderr

    def wait(self, what: Callable[[], object], most_s: float = PATIENCE_S) -> bool:
        """Wait until something is so; return False where the run was over before, or all patience."""
        until = time.monotonic() + most_s
        while not what():
            if self.is_over or time.monotonic() > until:
                return False
            time.sleep(0.2)
        return True

    def hold(self, seconds: float) -> None:
        """Wait for a time, or until the driver ends."""
        self.wait(lambda: False, seconds)

    def words_since(self, place: int) -> list[str]:
        """Return the lines that were written after a place."""
        return self.said.read_text(errors="replace")[place:].splitlines()

    def victim(self) -> str:
        """Return a node that can be lost without the driver."""
        return self.draw.choice([name for name in ("second", "third") if name != self.where])

    def is_struck(self, name: str) -> bool:
        """Wait until a node is at work, and a moment more; return False where it never is again."""
        if not self.wait(lambda: self.nodes.is_at_work(name)):
            return False
        self.hold(self.draw.uniform(0, 2))
        return not self.is_over


Fault = Callable[[Run], bool]


def killed(run: Run) -> bool:
    """Kill a node."""
    if not run.is_struck(name := run.victim()):
        return False
    run.nodes.lose(name)
    run.hold(12)
    run.nodes.join(name)
    return True


def frozen(run: Run) -> bool:
    """Stop a node for some time."""
    if not run.is_struck(name := run.victim()):
        return False
    run.nodes.freeze(name)
    run.hold(run.draw.choice(FROZEN_S))
    run.nodes.thaw(name)
    return put_right(run, name)


def cut(run: Run) -> bool:
    """Pull the cable of a node for some time."""
    if not run.is_struck(name := run.victim()):
        return False
    run.nodes.cut(name)
    run.hold(run.draw.choice(CUT_S))
    run.nodes.plug(name)
    return put_right(run, name)


def put_right(run: Run, name: str) -> bool:
    """Have a node back, which may have been given up meanwhile; a node that goes on by itself is left as it is."""
    if not run.wait(lambda: run.nodes.is_at_work(name), 10):
        run.nodes.again(name)
    return True


def driver_killed(run: Run) -> bool:
    """Kill the driver, and start the same command again on another node, in another folder."""
    if not run.is_struck(run.victim()):
        return False
    run.driver.send_signal(signal.SIGKILL)
    run.ends.append(run.driver.wait())
    run.where = "head" if run.where == "second" else "second"
    run.launch()
    return True


def head_restarted(run: Run) -> bool:
    """Kill the head, which the cluster ends with, and start the cluster again."""
    if not run.is_struck(run.victim()):
        return False
    run.nodes.lose("head")
    if run.where != "head":
        run.hold(1)
    try:
        run.ends.append(run.driver.wait(PATIENCE_S))
    except subprocess.TimeoutExpired:
        return True
    finally:
        run.nodes.close()
        run.nodes.open()
    run.where = "head"
    run.launch()
    return True


def server_down(run: Run) -> bool:
    """Kill the tracking server, and start it again some time later."""
    if run.server is None or not run.is_struck(run.victim()):
        return False
    run.server.kill()
    run.hold(run.draw.choice(DOWN_S))
    run.server.start()
    run.hold(12)
    return True


def wrong_token(run: Run) -> bool:
    """Have another command try to join, with a wrong token or none."""
    empty = run.folder / "empty"
    empty.mkdir(exist_ok=True)
    how = run.draw.choice(
        [{"RAY_AUTH_TOKEN": "0" * 64}, {"HOME": str(empty)}, {"HOME": str(empty), "RAY_AUTH_MODE": "token"}]
    )
    code, said = run.beside(**how)
    with run.said.open("a") as file:
        file.write(said)
    run.ends.append(code)
    return True


def joined(*mounts: str, becomes: str = "", must_work: bool = False, **further: str) -> Fault:
    """Return a fault: a node is replaced by one that is not as it should be, from the start or (`becomes`) later.
    `{store}`, `{code}` and such in the words stand for the places of the nodes.
    """

    def fault(run: Run) -> bool:
        nodes, name = run.nodes, run.victim()
        if not run.is_struck(name):
            return False
        places = {
            "store": nodes.store,
            "code": nodes.code,
            "timm": nodes.other_timm,
            "lacks": nodes.lacks_data,
            "tmp": nodes.temporary(name),
            "small": nodes.small_disk(name),
        }
        nodes.lose(name)
        place = len(run.said.read_text(errors="replace"))
        nodes.join(
            name,
            *(each.format(**places) for each in mounts),
            **{key: value.format(**places) for key, value in further.items()},
        )
        heard = rf"node {name} .*(is left out|is sent)"
        is_there = run.wait(
            lambda: (
                nodes.is_at_work(name)
                or (not must_work and re.search(heard, "\n".join(run.words_since(place))))
            ),
            120,
        )
        if is_there and becomes:
            run.hold(run.draw.uniform(0, 3))
            nodes.inside(name, becomes.format(**places))
            run.wait(lambda: re.search(heard, "\n".join(run.words_since(place))), 60)
        run.hold(3)
        nodes.again(name)
        return is_there

    return fault


HIDE = "mount -t tmpfs none {store}"
READ_ONLY = "mount --bind {store} {store} && mount -o remount,ro,bind {store}"
FILL = "dd if=/dev/zero of={tmp}/filler bs=1M 2>/dev/null"
KINDS: dict[str, tuple[Fault, str]] = {
    "node killed": (killed, "has left the cluster"),
    "node frozen": (frozen, "has left the cluster|^$"),
    "network cut": (cut, "has left the cluster|^$"),
    "driver killed, started elsewhere": (driver_killed, "^$|another driver works on"),
    "head restarted": (head_restarted, "^error: "),
    "tracking server down": (server_down, "does not answer: records wait"),
    "disk of a node full": (
        joined(HIDE, "{small}", becomes=FILL, must_work=True),
        "is left out: .*disk|space",
    ),
    "disk of a node full from the start": (joined(HIDE, "{small} && " + FILL + "; true"), "is left out"),
    "store not writable on a node": (joined(READ_ONLY, must_work=True), "^$"),
    "store no longer writable on a node": (
        joined("mount --bind {store} {store}", becomes=READ_ONLY, must_work=True),
        "is left out|^$",
    ),
    "other code on a node": (joined(HIDE, must_work=True, PYTHONPATH="{code}"), "is sent this code"),
    "other libraries on a node": (joined(HIDE, PYTHONPATH="{timm}"), "is left out: it has other libraries"),
    "a node without the data": (joined(HIDE, OWB_DATA="{lacks}"), "is left out: it lacks the weights"),
    "token missing or wrong": (wrong_token, "asks for a token"),
}


def one_run(
    number: int, nodes: Nodes, right: dict[str, str], draw: random.Random, counts: Counter[str]
) -> list[Seen]:
    """Run all cells with fault after fault, of the kinds that came least; return what was seen."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="owb-faults-", ignore_cleanup_errors=True) as folder:
        run = Run(number, Path(folder), nodes, draw)
        while True:
            while not run.is_over:
                fits = [kind for kind in counts if run.server or kind != "tracking server down"]
                kind = min(fits, key=lambda kind: (counts[kind], draw.random()))
                if strike(run, kind, rows):
                    counts[kind] += 1
                elif not run.is_over and rows:  # nobody is at work, though there is work
                    rows[-1][0].hangs += 1
                    rows[-1][0].said += [f"hang: {line}" for line in run.words_since(0)[-2:]]
                    run.driver.kill()
                    run.driver.wait()
            run.ends.append(run.driver.wait())
            print(f"  driver ended: {run.ends[-1]}, {len(run.done())} of {len(right)} cells", flush=True)
            if len(run.done()) == len(right):
                break
            if len(run.ends) > len(rows) + 6:
                raise SystemExit(f"the command does not come to an end: {run.words_since(0)[-5:]}")
            run.launch()
        if rows:
            compare(run, right, rows)
        if run.server:
            run.server.kill()
    return [seen for seen, _ in rows]


def strike(run: Run, kind: str, rows: list[Row]) -> bool:
    """Have one fault, and note what the driver says; return False where there was nothing to hit any more."""
    place, before, ends = len(run.said.read_text(errors="replace")), run.done(), len(run.ends)
    fault, sentence = KINDS[kind]
    seen = Seen(kind, run.number, "server" if run.server else "folder", run.where, len(before))
    started = time.monotonic()
    is_hit = fault(run)
    print(
        f"  {kind}: {time.monotonic() - started:.0f} s, hit {is_hit}, {len(before)} done before", flush=True
    )
    if not is_hit:
        return False
    seen.ends = run.ends[ends:]
    seen.said = run.words_since(place)
    fitting = [line for line in seen.said if re.search(sentence, line)]
    seen.told = fitting[0] if fitting else "" if re.search(sentence, "") else "NOTHING"
    rows.append((seen, before))
    return True


def compare(run: Run, right: dict[str, str], rows: list[Row]) -> None:
    """Hold every record of a run against those without a cluster; what is wrong is put to the last fault."""
    after = run.done()
    for seen, before in rows:
        seen.lost = sum(after.get(key, ("", ""))[1] != run_id for key, (_, run_id) in before.items())
        seen.other_bytes = sum(found != right.get(key) for key, (found, _) in before.items())
        seen.tracebacks = sum("Traceback" in line for line in seen.said)
    store = Store(run.store)
    records = [record for record in store.records() if record.status == "done"]
    checked = run.draw.sample(records, CHECKED) if run.server else records
    last = rows[-1][0]
    last.other_bytes += sum(found != right.get(key) for key, (found, _) in after.items())
    last.other_bytes += sum(digest(store.answers(record)) != right[record.key] for record in checked)
    left = run.nodes.left_over()
    last.left_over, last.said = len(left), [*last.said, *left]
    last.tracebacks += sum("Traceback" in line for line in run.words_since(0)) - sum(
        row.tracebacks for row, _ in rows
    )


def reference(place: Path, data: Path) -> dict[str, str]:
    """Return the digests of the cells by key, of a run without a cluster, which is done once."""
    if not place.exists():
        with tempfile.TemporaryDirectory(prefix="owb-faults-") as folder:
            words = ["run", STRATEGY.format(pause=0.0), "-s", SCENARIO, "-n", str(SEEDS), "--no-bounds"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "OWB_DATA": str(data)}
            subprocess.run(
                [*OWB, *words, "--store", folder], check=True, env=environment, stdout=subprocess.DEVNULL
            )
            found = {f"{each.strategy} | {each.seed}": each.digest for each in Store(folder).records()}
        place.write_text(json.dumps(found))
    from harness.protocol.cells import cells, contenders, protocols

    os.environ["OWB_DATA"] = str(data)
    todo = cells(protocols([SCENARIO]), contenders([STRATEGY.format(pause=PAUSE_S)]), SEEDS)
    known = {_but_pause(name): found for name, found in json.loads(place.read_text()).items()}
    return {cell.key: known[_but_pause(f"{cell.contender.label} | {cell.seed}")] for cell in todo}


def _but_pause(name: str) -> str:
    """Return what a cell is called without where its strategy lies and how long it sleeps, which change no digest."""
    return re.sub(r"pause=[^,\]]*", "", name.rpartition("/")[2])


def table(log: Path) -> None:
    """Print what was seen so far, and for every kind the commonest sentence."""
    rows: dict[str, list[Seen]] = {}
    for line in log.read_text().splitlines():
        seen = Seen(**json.loads(line))
        rows.setdefault(seen.kind, []).append(seen)
    columns = ("lost", "other_bytes", "tracebacks", "hangs", "left_over")
    head = "".join(f"{name.replace('_', ' '):>12}" for name in columns)
    print(f"{'fault':<36}{'faults':>7}{'done before':>12}{head}{'untold':>8}")
    for kind, each in [*rows.items(), ("all", [seen for found in rows.values() for seen in found])]:
        sums = "".join(f"{sum(getattr(seen, name) for seen in each):>12}" for name in columns)
        before, untold = sum(seen.done_before for seen in each), sum(seen.told == "NOTHING" for seen in each)
        print(f"{kind:<36}{len(each):>7}{before:>12}{sums}{untold:>8}")
    for kind, each in rows.items():
        told = [seen.told for seen in each if seen.told not in ("", "NOTHING")]
        print(f"{kind}: {max(told, key=told.count) if told else '(nothing)'}")


def main() -> None:
    """Go on with the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("cluster_faults.jsonl"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--table", action="store_true", help="print the table and do nothing else")
    asked = parser.parse_args()
    log = asked.log.absolute()
    if asked.table:
        table(log)
        return
    move_apart()
    log.touch()
    with tempfile.TemporaryDirectory(prefix="owb-apart-", ignore_cleanup_errors=True) as text:
        store, data, code = (Path(text, name) for name in ("store", "data", "code"))
        for folder in (store, data):
            folder.mkdir()
        (data / WEIGHTS).write_bytes(b"weights")
        for package in ("harness", "openworld", "scenarios", "strategies"):
            shutil.copytree(HERE.parent / package, code / package)
        with (code / "harness" / "execution" / "worker.py").open("a") as file:
            file.write("\nWorker.run = None\n")
        right = reference(log.with_suffix(".right.json"), data)
        print(f"{len(right)} cells", flush=True)
        nodes = Nodes(Path(text), store, data, code, f"campaign-{os.getpid()}")
        try:
            while (number := len(log.read_text().splitlines())) < asked.faults:
                draw = random.Random(f"{asked.seed} {number}")
                before = [Seen(**json.loads(line)) for line in log.read_text().splitlines()]
                counts = Counter(dict.fromkeys(asked.only or KINDS, 0))
                counts.update(seen.kind for seen in before if seen.kind in counts)
                run = 1 + max((seen.run for seen in before), default=-1)
                for row in one_run(run, nodes, right, draw, counts):
                    with log.open("a") as file:
                        file.write(json.dumps(asdict(row)) + "\n")
                    wrong = row.lost or row.other_bytes or row.tracebacks or row.hangs or row.left_over
                    if wrong or row.told == "NOTHING":
                        print(f"WRONG: {json.dumps(asdict(row))}", flush=True)
        finally:
            nodes.close()
    table(log)


if __name__ == "__main__":
    main()
