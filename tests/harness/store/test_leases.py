"""Leases on cells: one holder at a time, whoever claims at once, and what becomes of a driver that is no more, that
was frozen, or that lives.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from harness.errors import UserError
from harness.store import driver_id
from harness.store.leases import Leases, alone
from harness.store.mlflow_store import Store
from harness.store.roster import Driver, FolderRoster, OutOfReach, RunRoster

KEYS = [f"{number:02d}" for number in range(40)]
DRIVER = """
import json, random, sys
from pathlib import Path
from harness.store.leases import Leases
from harness.store.roster import FolderRoster

folder, keys, seed = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
Leases.beat_s = 0.05
random.Random(seed).shuffle(keys)
print("ready", flush=True)
sys.stdin.readline()
with Leases(FolderRoster(folder, 30)) as leases:
    print(json.dumps([key for key in keys if leases.claim([key])]), flush=True)
    sys.stdin.readline()
    print(json.dumps([leases.holds(keys[0]), bool(leases.claim(keys[:1])), bool(leases.claim(["free"]))]), flush=True)
"""


class _Process:
    """A driver of its own process: it claims all `keys`, one by one in an order of its own, and waits."""

    def __init__(self, folder: Path, keys: Sequence[str], seed: int = 0) -> None:
        command = [sys.executable, "-c", DRIVER, str(folder), json.dumps(keys), str(seed)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.communicate(timeout=60)


class _Drivers(RuleBasedStateMachine):
    """Three drivers on one roster, held against a dictionary that says who has which cell."""

    numbers = st.integers(0, 2)
    keys = st.sets(st.sampled_from("abcde"), min_size=1)

    def __init__(self) -> None:
        super().__init__()
        folder = Path(os.environ["PYTEST_TMP"], str(random.getrandbits(64)))
        self.roster = FolderRoster(folder, 10)
        self.drivers = [Leases(self.roster) for _ in range(3)]
        for driver in self.drivers:
            driver.__enter__()
        self.has: dict[str, Leases] = {}

    @rule(number=numbers, keys=keys)
    def claim(self, number: int, keys: set[str]) -> None:
        driver = self.drivers[number]
        driver.look()
        won = driver.claim(keys)
        assert won == {key for key in keys if self.has.get(key, driver) is driver}
        self.has.update(dict.fromkeys(won, driver))

    @rule(number=numbers, keys=keys)
    def claim_by_an_older_view(self, number: int, keys: set[str]) -> None:
        driver = self.drivers[number]
        won = driver.claim(keys)
        assert won <= {key for key in keys if self.has.get(key, driver) is driver}
        self.has.update(dict.fromkeys(won, driver))

    @rule(number=numbers, keys=keys)
    def release(self, number: int, keys: set[str]) -> None:
        self.drivers[number].release(keys)
        self.has = {
            key: owner
            for key, owner in self.has.items()
            if key not in keys or owner is not self.drivers[number]
        }

    @rule(number=numbers)
    def strike(self, number: int) -> None:
        assert self.roster.strike(self.drivers[number].name)
        self._has_nothing(self.drivers[number])

    @rule(number=numbers, beat=st.integers(1, 3))
    def strike_one_that_beat_since(self, number: int, beat: int) -> None:
        name = self.drivers[number].name
        is_there = name in self.roster.read().drivers
        self.roster.beat(name, 10 + beat)
        assert self.roster.strike(name, beat) is not is_there

    @rule(number=numbers)
    def leave(self, number: int) -> None:
        self.drivers[number].__exit__()
        self._has_nothing(self.drivers[number])
        self.drivers[number] = Leases(self.roster).__enter__()

    def _has_nothing(self, driver: Leases) -> None:
        self.has = {key: owner for key, owner in self.has.items() if owner is not driver}

    @invariant()
    def everybody_holds_what_the_dictionary_says(self) -> None:
        for driver in self.drivers:
            assert {key for key in "abcde" if driver.holds(key)} == {
                key for key, owner in self.has.items() if owner is driver
            }

    def teardown(self) -> None:
        for driver in self.drivers:
            driver.__exit__()


def test_any_sequence_of_claims_and_ends_leaves_every_cell_with_its_one_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_TMP", str(tmp_path))
    case = _Drivers.TestCase
    case.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
    case("runTest").debug()


def test_of_many_processes_that_claim_at_once_each_cell_goes_to_one(tmp_path: Path) -> None:
    drivers = [_Process(tmp_path, KEYS, seed) for seed in range(4)]
    assert [driver.hear() for driver in drivers] == ["ready\n"] * 4
    for driver in drivers:
        driver.go_on()
    won = [json.loads(driver.hear()) for driver in drivers]
    for driver in drivers:
        driver.end()
    assert sorted(key for keys in won for key in keys) == KEYS
    assert FolderRoster(tmp_path, 1).read().drivers == {}


def test_of_threads_that_claim_at_once_from_mlflow_no_cell_goes_to_two(tmp_path: Path) -> None:
    """Through MLflow's own client, as on a server. A cell may go to nobody where two drivers meet; it is asked for
    again.
    """
    client = Store(str(tmp_path / "store")).client
    everyone = threading.Barrier(2)
    won: list[str] = []

    def claim(seed: int) -> None:
        with Leases(RunRoster(client)) as leases:
            left = KEYS[:3]
            while left:
                mine = leases.claim([left[seed % len(left)]])
                won.extend(mine)
                leases.look()
                taken = {key for other in leases.others.values() for key in other.keys} | mine
                left = [key for key in left if key not in taken]
            everyone.wait(timeout=60)

    threads = [threading.Thread(target=claim, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(won) == KEYS[:3]
    assert RunRoster(client).read().drivers == {}


class _Registers:
    """What `RunRoster.claim` asks of MLflow's client, each call at once and when it is this driver's turn."""

    def __init__(self, turns: Sequence[str]) -> None:
        self.tags: dict[str, dict[str, str]] = {}
        self.turns, self.over = list(turns), set[str]()
        self.changed = threading.Condition()

    def of(self, name: str) -> Any:
        def call(action: Callable[..., Any]) -> Callable[..., Any]:
            def taken(*args: Any, **options: Any) -> Any:
                with self.changed:
                    self.changed.wait_for(lambda: not self._waiting() or self._waiting()[0] == name)
                    if self._waiting():
                        self.turns.remove(name)
                    found = action(*args, **options)
                    self.changed.notify_all()
                    return found

            return taken

        return SimpleNamespace(
            get_experiment_by_name=lambda _: SimpleNamespace(experiment_id="1"),
            log_batch=call(lambda run, tags: self.tags[run].update({tag.key: tag.value for tag in tags})),
            delete_tag=call(lambda run, tag: self.tags[run].pop(tag)),
            search_runs=call(lambda *_, **__: [self._run(run) for run in self.tags]),
        )

    def _waiting(self) -> list[str]:
        return [name for name in self.turns if name not in self.over]

    def end(self, name: str) -> None:
        with self.changed:
            self.over.add(name)
            self.changed.notify_all()

    def _run(self, name: str) -> Any:
        return SimpleNamespace(
            info=SimpleNamespace(run_id=name), data=SimpleNamespace(tags=dict(self.tags[name]))
        )


def _win(turns: Sequence[str]) -> list[str]:
    """Return which of two drivers win a cell that they claim in this order of calls."""
    registers = _Registers(turns)
    said = {"owb.driver": "x", "owb.host": "h", "owb.pid": "1", "owb.since": "0", "owb.beat": "0"}
    registers.tags = {name: dict(said) for name in "ab"}
    won: list[str] = []

    def claim(name: str) -> None:
        if RunRoster(registers.of(name), pause=lambda _: None).claim(name, ["k"])[0]:
            won.append(name)
        registers.end(name)

    threads = [threading.Thread(target=claim, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert sorted(name for name in "ab" if "owb.lease.k" in registers.tags[name]) == sorted(won)
    return won


def test_in_every_order_of_two_drivers_calls_to_a_server_one_wins_at_most() -> None:
    """A claim is 3 calls at least (written, read, withdrawn) and 7 at most; all orders of 5 calls of each, the rest
    as it comes.
    """
    orders = [
        "".join("a" if place in own else "b" for place in range(10)) for own in combinations(range(10), 5)
    ]
    won = Counter(tuple(_win(order)) for order in orders)
    assert set(won) <= {("a",), ("b",), ()}
    assert won["a",] and won["b",]
    assert _win("aaaaabbbbb") == ["a"] and _win("bbbbbaaaaa") == ["b"]
    assert won[()] < len(orders) / 4, "that both withdraw is the exception"


# --- drivers that end, freeze and live ------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The clock of all drivers in this process, which a test moves on."""
    now = [1000.0]
    stand_in = SimpleNamespace(monotonic=lambda: now[0], time=time.time, sleep=time.sleep)
    monkeypatch.setattr("harness.store.leases.time", stand_in)
    yield now


def test_a_driver_without_a_sign_of_life_lapses_after_a_minute_of_looks_and_one_with_never(
    tmp_path: Path, clock: list[float]
) -> None:
    roster = FolderRoster(tmp_path, 10)
    with Leases(roster) as silent, Leases(roster) as living, Leases(roster) as observer:
        assert silent.claim(["s"]) == {"s"} and living.claim(["l"]) == {"l"}
        for look in range(1, 7):
            clock[0] += 10
            roster.beat(living.name, look)
            observer.look()
            assert set(observer.others) == {silent.name, living.name}, f"after {10 * look} s"
        clock[0] += 1
        assert observer.claim(["s", "l"]) == set()  # seen by the look that follows the claim
        assert set(observer.others) == {living.name}
        assert observer.claim(["s", "l"]) == {"s"}
        assert living.holds("l") and not silent.holds("s")


def test_a_time_in_which_nobody_looked_counts_against_nobody(tmp_path: Path, clock: list[float]) -> None:
    """As when the server was down, or the one who looks was frozen."""
    roster = FolderRoster(tmp_path, 10)
    with Leases(roster) as one, Leases(roster) as observer:
        one.claim(["k"])
        for _ in range(6):
            clock[0] += 600
            observer.look()
        assert observer.claim(["k"]) == set() and one.holds("k")


def test_clocks_of_two_machines_may_differ_by_any_amount(tmp_path: Path) -> None:
    roster = FolderRoster(tmp_path, 10)
    for since in (0.0, 1e10):  # 1970, and three hundred years from now
        driver = Driver(process=driver_id.this_driver(), host="elsewhere", pid=1, since=since)
        name = roster.enter(driver)
        assert roster.claim(name, ["k"])[0] == {"k"}
        with Leases(roster) as other:
            assert other.claim(["k"]) == set()
            assert [str(found)[:20] for found in other.others.values()] == ["elsewhere, process 1"]
        assert roster.strike(name)


def _begun(folder: Path) -> _Process:
    other = _Process(folder, ["k"])
    other.go_on()
    assert [other.hear(), other.hear()] == ["ready\n", '["k"]\n']
    return other


def test_what_a_killed_driver_had_is_free_at_once(tmp_path: Path) -> None:
    """Also where nobody has waited for its end, so that its number is still there."""
    other = _begun(tmp_path)
    with Leases(FolderRoster(tmp_path, 10)) as leases:
        assert leases.claim(["k"]) == set()
        other.process.kill()
        while psutil.Process(other.process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        leases.look()
        assert leases.claim(["k"]) == {"k"}
        assert leases.others == {}
    other.end()


def test_a_driver_that_was_frozen_finds_that_its_cell_is_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Leases, "beat_s", 0.05)
    monkeypatch.setattr(Leases, "lapse_s", 0.5)
    other = _begun(tmp_path)
    other.process.send_signal(signal.SIGSTOP)
    with Leases(FolderRoster(tmp_path, 10)) as leases:
        deadline = time.monotonic() + 60
        while not leases.claim(["k"]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        other.process.send_signal(signal.SIGCONT)
        other.go_on()
        assert json.loads(other.hear()) == [False, False, True]
        assert leases.holds("k")
    other.end()


def test_a_driver_of_another_host_or_container_is_not_taken_for_dead() -> None:
    """Numbers of processes say nothing there."""
    here, _, rest = driver_id.this_driver().partition(":")
    assert driver_id.is_alive(f"{here}:{rest}")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    name = f"{here}:{ended.pid}:{rest.partition(':')[2]}"
    assert not driver_id.is_alive(name)
    assert driver_id.is_alive(name.replace(here, f"{here}1"))
    assert driver_id.is_alive(name.replace(here, f"another{here}"))


# --- a server that does not answer ----------------------------------------------------------------------------


class _Roster(FolderRoster):
    """One that is out of reach for a while."""

    is_down = False

    @contextmanager
    def _alone(self) -> Iterator[Any]:
        if self.is_down:
            raise OutOfReach
        with super()._alone() as base:
            yield base


def test_a_driver_that_was_by_itself_goes_on_without_the_server_and_says_so_when_it_is_back(
    tmp_path: Path, clock: list[float]
) -> None:
    roster = _Roster(tmp_path, 10)
    with Leases(roster) as leases:
        assert leases.claim(["before"]) == {"before"}
        roster.is_down = True
        assert leases.claim(["meanwhile", "ended"]) == {"meanwhile", "ended"}
        assert all(leases.holds(key) for key in ("before", "meanwhile", "ended"))
        leases.release(["ended"])
        leases.release(["before"])
        roster.is_down = False
        clock[0] += 10
        assert leases.claim(["after"]) == {"after"}
        with Leases(FolderRoster(tmp_path, 10)) as other:
            assert other.claim(["before", "meanwhile", "ended", "after"]) == {"before", "ended"}
        assert leases.holds("meanwhile") and not leases.holds("ended")


def test_a_driver_that_is_not_by_itself_claims_nothing_without_the_server(
    tmp_path: Path, clock: list[float]
) -> None:
    roster = _Roster(tmp_path, 10)
    with Leases(FolderRoster(tmp_path, 10)) as other, Leases(roster) as leases:
        assert leases.claim(["mine"]) == {"mine"}
        roster.is_down = True
        assert leases.claim(["k"]) == set() and leases.holds("mine")
        assert other.claim(["k", "mine"]) == {"k"}
        roster.is_down = False
        clock[0] += 10
        assert leases.claim(["k", "l"]) == {"l"}


# --- the store for oneself ------------------------------------------------------------------------------------


def test_a_store_is_nobodys_alone_while_a_run_is_at_work(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    with (
        Leases(FolderRoster(store.folder, 10)),
        pytest.raises(UserError, match=rf"a run is at work on this store \(.*, process {os.getpid()}, since"),
        alone(store),
    ):
        pass
    with alone(store):
        pass


def test_a_run_that_begins_while_another_command_has_the_store_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(str(tmp_path / "store"))
    order: list[str] = []

    def run() -> None:
        with Leases(FolderRoster(store.folder, 10)) as leases:
            order.append("claims")
            assert leases.claim(["k"]) == {"k"}

    thread = threading.Thread(target=run)
    with alone(store):
        thread.start()
        deadline = time.monotonic() + 30
        while "another command has it for itself" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        order.append("forgets")
    thread.join(timeout=30)
    assert order == ["forgets", "claims"]


def test_a_damaged_file_of_leases_is_one_sentence(tmp_path: Path) -> None:
    FolderRoster(tmp_path, 1)
    (tmp_path / "leases.db").write_bytes(b"no data base" * 1000)
    with pytest.raises(UserError, match="file is not a database; remove it while no run is at work"):
        FolderRoster(tmp_path, 1)


def test_nobody_else_was_there_is_known(tmp_path: Path) -> None:
    """Also of one who came and went between two looks."""
    roster = FolderRoster(tmp_path, 10)
    with Leases(roster) as first:
        first.claim(["k"])
        assert not first.had_company
        with Leases(roster) as second:
            assert second.had_company
        first.claim(["l"])
        assert first.others == {} and first.had_company
    with Leases(roster) as third:
        assert not third.had_company
