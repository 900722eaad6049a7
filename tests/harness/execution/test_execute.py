"""Many cells at once: whatever happens to one, the others finish, nothing is lost, and the bytes do not
depend on who ran what.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from runs import BLOBS, Owb, Run, world

from harness import checkpoint
from harness.contracts import Status
from harness.errors import UserError
from harness.execution import execute as execution
from harness.execution.execute import Limits, next_cell, plan
from harness.protocol.cells import cells, contenders, protocols
from harness.protocol.stage_sharing import Sharing
from harness.store.mlflow_store import Store
from harness.store.record import Record


def _digests(records: list[Record]) -> dict[str, str]:
    return {record.key: record.digest for record in records}


def test_one_worker_or_two_in_either_order_answer_the_same_bytes(tiny_run: Run) -> None:
    strategies = [world("Means"), world("Trains"), "replay", "der"]
    two = tiny_run(strategies, seeds=2, workers=2, store="two")
    one = tiny_run(strategies, seeds=2, workers=1, store="one", reverse=True)
    assert {record.status for record in two + one} == {Status.DONE}
    assert len(_digests(two)) == 8
    assert _digests(two) == _digests(one)


def test_stage_0_is_trained_once_for_all_that_share_it_and_costs_them_all(
    tiny_run: Run, tmp_path: Path
) -> None:
    strategies = ["happy", "happy[lr=0.02]", "simgcd", "happy[first_lr=0.05]"]
    shared = tiny_run(strategies, scenario=world("HiddenBlobs"), workers=2, store="shared")
    assert {record.status for record in shared} == {Status.DONE}
    assert len(list((tmp_path / "shared" / "stages").glob("*.pt"))) == 2
    alone = tiny_run(strategies, scenario=world("HiddenBlobs"), store="alone", share=False)
    assert not (tmp_path / "alone" / "stages").exists()
    assert _digests(shared) == _digests(alone)


def test_cells_that_need_not_wait_for_a_stage_0_go_first() -> None:
    """Of six cells over two stages 0 the second worker gets one of the other stage, not one that would wait
    for the first.
    """
    todo = cells(protocols(["cgcd[preset=digits]"]), contenders(["happy", "simgcd", "k-means"]), 2)
    sharing, queue = Sharing(todo, Path("nowhere")), deque((cell, 1) for cell in todo)
    first, _ = next_cell(queue, sharing, ())
    second, _ = next_cell(queue, sharing, sharing.still_to_learn(first, 0))
    assert (first.seed, second.seed) == (0, 1)
    assert [cell for cell, _ in queue] == [cell for cell in todo if cell not in (first, second)]


def test_a_stage_that_another_drivers_cell_is_learning_is_not_waited_for_while_there_is_other_work(
    tmp_path: Path,
) -> None:
    todo = cells(protocols(["cgcd[preset=digits]"]), contenders(["happy", "simgcd"]), 2)
    sharing, queue = Sharing(todo, tmp_path), deque((cell, 1) for cell in todo)
    with FileLock(sharing.paths(todo[0])[0].with_suffix(".lock")):  # type: ignore[union-attr]
        first, _ = next_cell(queue, sharing, ())
        second, _ = next_cell(queue, sharing, sharing.still_to_learn(first, 0))
    assert first.seed == 1, "the other seed has a stage 0 of its own"
    assert second == todo[0], "where all would wait, one does"


def test_what_a_cell_cost_is_recorded_in_parts_with_the_run_it_was_measured_in(
    tiny_run: Run, tmp_path: Path
) -> None:
    first = tiny_run([world("Trains")], scenario=f"{world('Blobs')}[probe_every=5]", seeds=2)
    both = tiny_run([world("Trains"), world("Means")], scenario=f"{world('Blobs')}[probe_every=5]", seeds=2)
    assert len({record.session for record in first} - {""}) == 1
    assert [record.session == first[0].session for record in both] == [True, False, True, False]
    assert len({record.session for record in both} - {""}) == 2
    stored = {record.key: record for record in Store(str(tmp_path / "store")).records("test")}
    for record in both:
        known = stored[record.key]
        assert known.session == record.session
        assert (known.learn_s, known.probe_s, known.predict_s) == pytest.approx(
            (record.learn_s, record.probe_s, record.predict_s)
        )
        assert (record.probe_s > 0) == record.strategy.endswith("Trains")
        assert 0 < record.learn_s + record.probe_s + record.predict_s <= record.seconds


def test_a_fully_cached_rerun_starts_no_worker(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tiny_run([world("Means")])

    def refuse(*_: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(execution, "Pool", refuse)
    again = tiny_run([world("Means")])
    assert [record.metrics for record in again] == [record.metrics for record in first]
    assert _digests(again) == _digests(first)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "its folder gone": lambda path: shutil.rmtree(path.parent),
    "emptied": lambda path: path.write_bytes(b""),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
}


def _flip(path: Path, luck: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[luck.randrange(len(content))] ^= 1 << luck.randrange(8)
    path.write_bytes(content)


def test_a_done_record_whose_predictions_are_gone_or_damaged_counts_as_open(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = tiny_run([world("Means")])
    store, todo = Store(str(tmp_path / "store")), cells(protocols([BLOBS]), contenders([world("Means")]), 1)
    (known,) = store.records()
    path = store.predictions(known)
    whole = path.read_bytes()
    luck = random.Random(0)
    for damage in [*DAMAGE.values(), *[lambda path: _flip(path, luck)] * 25]:
        assert not store.lost([known])
        damage(path)
        assert store.lost([known]) == {known.key}
        with pytest.raises(
            UserError, match=r"^the predictions of .*Means \| seed 0 are gone or damaged: .* owb run --again$"
        ):
            store.answers(known)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole)
    assert not plan(todo, store).open
    _flip(path, luck)
    assert plan(todo, store).open == todo
    with monkeypatch.context() as patch:
        patch.setattr("harness.store.predictions.READ_AT_A_GLANCE", 0)
        assert not store.lost([known]), "of a large file the size is looked at"
        with pytest.raises(UserError, match="gone or damaged"):
            store.answers(known)
    path.write_bytes(whole)
    store.client.delete_tag(known.run_id, "owb.file")
    (of_version_0_8,) = store.records()
    assert store.predictions(of_version_0_8) == path
    _flip(path, luck)
    with pytest.raises(UserError, match="gone or damaged"):
        store.predictions(of_version_0_8)
    path.write_bytes(whole)
    store.client.set_tag(known.run_id, "owb.file", known.stamp)
    path.unlink()
    (second,) = tiny_run([world("Means")])
    assert (second.status, second.digest) == (Status.DONE, first.digest)
    assert second.run_id != first.run_id
    assert plan(todo, store).cached[second.key].run_id == second.run_id


def test_a_damaged_state_costs_a_line_in_the_log_of_its_cell(tiny_run: Run, tmp_path: Path) -> None:
    (whole,) = tiny_run([world("Chatty")], store="whole")
    cell = tmp_path / "store" / "cells" / whole.key
    cell.mkdir(parents=True)
    (cell / "state.pt").write_bytes(b"half of a state")
    (record,) = tiny_run([world("Chatty")])
    assert (record.status, record.digest) == (Status.DONE, whole.digest)
    log = Store(str(tmp_path / "store")).file(record, "log.txt").read_text().splitlines()
    assert log == [
        "state.pt is not what was written; the cell begins at its first stage",
        *(f"hello from stage {k}" for k in range(3)),
    ]


def test_a_cell_run_anew_takes_nothing_from_earlier_runs(tiny_run: Run, tmp_path: Path) -> None:
    """Neither its record, nor the state of an attempt, nor the stage it shares: here those of another seed,
    which are whole but wrong.
    """
    options = {"scenario": world("HiddenBlobs"), "seeds": 2, "workers": 1}
    first = tiny_run(["k-means"], **options)
    one, other = (tmp_path / "store" / "stages").glob("*.pt")
    contents = [checkpoint.load(path) for path in (one, other)]
    for path, content, record in zip((other, one), contents, first, strict=True):
        checkpoint.save(path, content)
        cell = tmp_path / "store" / "cells" / record.key
        cell.mkdir()
        checkpoint.save(cell / "state.pt", {"stages": 0, "state": content["state"]})
    again = tiny_run(["k-means"], again=True, **options)
    assert [record.status for record in again] == [Status.DONE] * 2
    assert _digests(again) == _digests(first)
    assert {record.run_id for record in again}.isdisjoint(record.run_id for record in first)
    cached = tiny_run(["k-means"], **options)
    assert [record.run_id for record in cached] == [record.run_id for record in again]


def test_the_newest_record_counts(tiny_run: Run, tmp_path: Path) -> None:
    """A cell that fails when it is run anew is not done, whatever it was before."""
    (first,) = tiny_run([f"{world('Means')}[pause=0.5]"])
    (again,) = tiny_run([f"{world('Means')}[pause=0.5]"], again=True, limits=Limits(timeout_s=0.2))
    assert (first.status, again.status) == (Status.DONE, Status.TIMEOUT)
    (third,) = tiny_run([f"{world('Means')}[pause=0.5]"])
    assert (third.status, third.digest) == (Status.DONE, first.digest)
    assert len({first.run_id, again.run_id, third.run_id}) == 3


def test_every_way_to_fail_ends_as_a_row_and_the_neighbours_finish(tiny_run: Run) -> None:
    names = ["Means", "Raises", "TooShort", "NotANumber", "WrongField", "Dies", "Refuses", "Eats", "Chatty"]
    started = time.monotonic()
    records = tiny_run([world(name) for name in names], limits=Limits(timeout_s=200, memory_mib=1500))
    elapsed = time.monotonic() - started
    ends = {record.strategy.rpartition(":")[2]: (record.status, record.reason) for record in records}
    assert ends["Means"] == (Status.DONE, "")
    assert ends["Chatty"] == (Status.DONE, "")
    assert ends["Raises"][0] == Status.FAILED
    assert "ValueError: the second stage is too hard (worlds.py:" in ends["Raises"][1]
    assert ends["TooShort"][0] == Status.FAILED
    assert "classes has shape (3,), but 120 items were asked" in ends["TooShort"][1]
    assert ends["NotANumber"][0] == Status.DIVERGED
    assert "240 values that are not finite" in ends["NotANumber"][1]
    assert "needs classes" in ends["WrongField"][1]
    assert ends["Dies"] == (Status.FAILED, "its process was killed by SIGKILL, 2 times")
    assert ends["Refuses"] == (Status.SKIPPED, "needs labels that lie")
    assert ends["Eats"][0] == Status.OUT_OF_MEMORY
    assert "the limit is 1500 MiB" in ends["Eats"][1]
    assert elapsed < 240  # the run as a whole did not hang; no claim on speed


def test_a_timeout_comes_within_five_seconds_of_the_limit(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The span is the product's promise, not a measure of speed: it is counted from the start of the cell to
    its end in the store.
    """
    seen: dict[str, float] = {}
    end = Store.end

    def note_end(*args: object, **options: object) -> None:
        seen["end"] = time.monotonic()
        end(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "end", note_end)
    begin = Store.begin

    def note_begin(*args: object, **options: object) -> str:
        seen["begin"] = time.monotonic()
        return begin(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "begin", note_begin)
    (record,) = tiny_run([world("Sleeps")], limits=Limits(timeout_s=2))
    assert (record.status, record.reason) == (Status.TIMEOUT, "over its time limit of 2 s")
    assert 2 <= seen["end"] - seen["begin"] <= 2 + 5


def test_a_worker_killed_in_mid_cell_continues_at_its_last_finished_stage(
    tiny_run: Run, tmp_path: Path
) -> None:
    mark, calm = tmp_path / "mark", tmp_path / "calm"

    def kill_in_second_stage() -> None:
        while not (mark.is_file() and len(mark.read_text().splitlines()) == 2):
            time.sleep(0.02)
        os.kill(int(mark.read_text().splitlines()[1].split()[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill_in_second_stage)
    killer.start()
    (killed,) = tiny_run([f"{world('Announces')}[mark={mark}]"], workers=1, store="killed")
    killer.join()
    (whole,) = tiny_run([f"{world('Announces')}[mark={calm}]"], workers=1, store="whole")
    assert killed.status is Status.DONE
    assert killed.digest == whole.digest
    assert killed.seconds >= killed.learn_s + killed.predict_s, (
        "a stage from before the worker died has its seconds"
    )
    assert [line.split()[1] for line in mark.read_text().splitlines()] == [
        "0",
        "1",
        "1",
        "2",
    ]  # stage 0 was not learned again
    assert [line.split()[1] for line in calm.read_text().splitlines()] == ["0", "1", "2"]


def test_a_killed_driver_continues_without_repeating_done_cells(
    tmp_path: Path, tiny_run: Run, call_owb: Owb
) -> None:
    """Continued by this process, as by whoever runs the command again."""
    mark = tmp_path / "mark"
    strategies = [world("Means"), f"{world('Announces')}[mark={mark}]"]
    options = ["--no-bounds", "--workers", "1", "--store", str(tmp_path / "killed"), "--json"]
    command = ["run", *strategies, "-s", BLOBS, "-n", "2", *options]
    owb = [sys.executable, "-c", "from harness.cli import main; main()"]
    driver = subprocess.Popen([*owb, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while (
        not (mark.is_file() and len(mark.read_text().splitlines()) >= 5) and time.monotonic() < deadline
    ):  # second seed, second stage
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    store = Store(str(tmp_path / "killed"))
    done_before = [record for record in store.records("runs") if record.status is Status.DONE]
    assert call_owb(*command).json
    continued = store.records("runs")
    calm = [world("Means"), f"{world('Announces')}[mark={tmp_path / 'calm'}]"]
    whole = tiny_run(calm, seeds=2, workers=1, store="whole")

    def digests(records: list[Record]) -> dict[tuple[str, int], str]:
        assert all(record.status is Status.DONE for record in records)
        return {(record.strategy.partition("[")[0], record.seed): record.digest for record in records}

    assert len(done_before) >= 2
    assert digests(continued) == digests(whole)
    stages = [line.split()[1] for line in mark.read_text().splitlines()]
    assert stages[:5] == ["0", "1", "2", "0", "1"]  # killed while learning the second stage of seed 1
    # Neither seed 0 nor the first stage of seed 1 is learned again; the second is not either where the
    # orphaned worker lived to end it, and it may have begun the third, beside its successor.
    assert stages[5:] in (["1", "2"], ["2"], ["2", "2"], ["1", "2", "2"])


def test_scoring_that_raises_ends_its_cell_with_the_reason_and_not_the_run(
    tiny_run: Run, tmp_path: Path
) -> None:
    for ended in (0, 2):
        records = tiny_run(
            [world("Means"), world("Raises")], scenario=f"{world('UnscoredBlobs')}[ended={ended}]", seeds=2
        )
        assert [record.status for record in records] == [Status.FAILED] * 4
        assert {record.reason.partition(" (")[0] for record in records[::2]} == {
            "scoring failed: TypeError: no figure for this"
        }
        assert {record.reason.partition(":")[0] for record in records[1::2]} == {"ValueError"}, (
            "what came first stays the reason"
        )
        store = Store(str(tmp_path / "store"))
        assert len(store.answers(records[0])) == 3, "what was answered is kept"
        assert records[0].metrics == {}


def test_what_a_strategy_prints_ends_in_its_log(tiny_run: Run, tmp_path: Path) -> None:
    (record,) = tiny_run([world("Chatty")])
    log = Store(str(tmp_path / "store")).file(record, "log.txt").read_text()
    assert log.splitlines() == ["hello from stage 0", "hello from stage 1", "hello from stage 2"]


def test_no_truth_is_within_reach_in_a_worker(tiny_run: Run) -> None:
    """The cheats that the permutation probe catches in `owb check` find nothing at all where cells really
    run.
    """
    ways = ["frames", "garbage"]
    guess, *cheats = tiny_run([world("Guess"), *(f"{world('Cheats')}[way={way}]" for way in ways)])
    assert [cheat.digest for cheat in cheats] == [guess.digest] * len(ways)


def test_a_failed_cell_is_tried_again_by_the_next_run(tiny_run: Run, tmp_path: Path) -> None:
    (first,) = tiny_run([world("Raises")])
    (second,) = tiny_run([world("Raises")])
    assert (first.status, second.status) == (Status.FAILED, Status.FAILED)
    assert first.run_id != second.run_id
    assert [record.run_id for record in Store(str(tmp_path / "store")).records("test")] == [second.run_id]
