"""What a plan says a run would cost."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import Owb

from harness.cell.run import CellContext, CellSettings
from harness.cli.cost import measured
from harness.contracts import Status, TrainingBudget
from harness.execution.cost import Cost, Network, Work, cost_of, duration, looks, scaled, time_of
from harness.execution.plan import Plan
from harness.protocol.cells import Cell, Protocol, cells, contenders, protocols
from harness.store.record import Record


def _protocol(text: str) -> Protocol:
    return protocols([text])[0]


def _nothing(*_: Any) -> None:
    return None


# --- items --------------------------------------------------------------------------------------------------


def test_passes_count_every_item_of_every_stage_and_every_answer() -> None:
    protocol = _protocol("class-incremental[dataset=digits,epochs=3]")
    deal = protocol.scenario.deal(0)
    tested = len(deal.stages[0].query)
    work = cost_of(protocol, _nothing).work
    assert work.learned == 3 * (1797 - tested)
    assert work.asked == 5 * tested
    assert (work.views, work.encoded, work.batch) == (1, 0, 32)
    assert (
        work.stored
        == max(tested, *(len(stage.rows) for stage in deal.stages))
        * 64
        * np.asarray(deal.inputs[np.arange(1)]).itemsize
    )


def test_the_first_stage_has_its_own_passes_and_views_count_twice() -> None:
    """40 passes over 4 classes, then 40 over each of three stages; two views of an item forwards and
    backwards.
    """
    protocol = _protocol("cgcd[preset=digits,first_epochs=7]")
    rows = [len(stage.rows) for stage in protocol.scenario.deal(0).stages]
    asked = sum(len(stage.query) for stage in protocol.scenario.deal(0).stages)
    work = cost_of(protocol, _nothing).work
    assert work.learned == 7 * rows[0] + 40 * sum(rows[1:])
    assert work.backward == 2 * work.learned
    assert work.forward == 2 * work.learned + asked


def test_batches_of_stage_0_count_for_memory_where_they_are_larger() -> None:
    assert [
        cost_of(_protocol(f"ncd[preset=digits,first_batch_size={size}]"), _nothing).work.batch
        for size in (0, 16, 96)
    ] == [64, 64, 96]


def test_gradient_steps_count_where_there_are_any_but_not_in_a_first_stage_with_passes() -> None:
    protocol = _protocol("ncd[preset=digits]")  # 20 passes, then 880 steps of 64
    first, second = (len(stage.rows) for stage in protocol.scenario.deal(0).stages)
    per_pass = math.ceil(second / 64)
    assert cost_of(protocol, _nothing).work.learned == 20 * first + round(second * 880 / per_pass)


def test_a_frozen_encoder_sees_a_training_image_once_and_learns_nothing() -> None:
    protocol = _protocol("anomaly[categories=brick+rock,n_train=6,n_good=3,n_bad=2,epochs=50]")
    work = cost_of(protocol, _nothing).work
    assert (work.learned, work.encoded, work.asked, work.backward) == (0, 12, 10, 0)


@pytest.mark.parametrize(("every", "tail"), [(0, 0), (5, 0), (5, 10), (1, 1), (7, 3), (0, 4), (3, 40)])
@pytest.mark.parametrize("passes", [1, 2, 13, 20])
def test_looks_are_as_many_as_a_learner_is_given(every: int, tail: int, passes: int, tmp_path: Path) -> None:
    seen = []
    budget = TrainingBudget(
        backbone="mlp", epochs=20, batch_size=1, probe_epochs=every, probe_tail=tail, probe_every=4
    )
    settings = CellSettings(root_seed=0, budget=budget)
    context = CellContext(settings=settings, scratch=tmp_path, on_progress=lambda *_: None)
    context.enter(0, seen.append, lambda *_: None)
    for step in range(1, passes * 6 + 1):
        context.probe(step)
    by_steps = len(seen)
    for epoch in range(1, passes + 1):
        context.epoch_ended(epoch)
    assert looks(passes * 6, passes, budget) == len(seen)
    assert looks(passes * 6, passes, replace(budget, probe_epochs=0, probe_tail=0)) == by_steps


# --- networks -----------------------------------------------------------------------------------------------


def test_a_network_is_measured_as_computed_by_hand() -> None:
    """64 x 128 and 128 x 128 weights with their biases; two operations a weight; the flattened item and four
    layers of 128 put out.
    """
    network = measured("mlp", (1, 8, 8), False)
    assert network is not None
    assert network.parameters == network.trained == 64 * 128 + 128 + 128 * 128 + 128
    assert network.flops == 2 * (64 * 128 + 128 * 128)
    assert network.activations == 4 * 4 * 128  # the flattened item is put out before anything trains


def test_a_vision_transformer_with_its_last_block_free_has_the_published_numbers() -> None:
    """ViT-B/16 of Happy: 85,798,656 weights, of which the last block's 7,087,872 train; about 17.6 G
    multiply-adds an image.
    """
    network = measured("timm:vit_base_patch16_224.dino[trainable=last]", (3, 32, 32), False)
    assert network is not None
    assert (network.parameters, network.trained) == (85_798_656, 7_087_872)
    assert 2 * 15e9 < network.flops < 2 * 17.7e9


def test_an_encoder_that_nobody_trains_has_a_grid_and_nothing_to_keep() -> None:
    network = measured("vit-tiny[patch=4,width=32,depth=2,heads=2]", (3, 32, 32), True)
    assert network is not None
    assert (network.trained, network.grid) == (0, 64)


def test_what_cannot_be_measured_is_not_guessed() -> None:
    assert measured("cnn", (64,), False) is None
    cost = Cost(work=Work(learned=10, encoded=0, asked=5, views=1, batch=2, stored=1, floats=4), network=None)
    assert (cost.flops, cost.peak) == (None, None)
    assert cost.content()["network"] is None


def test_operations_memory_and_disk_of_a_cell() -> None:
    """100 items in two views and 50 answers: 250 forwards; 200 backwards, each two forwards of the half that
    trains.
    """
    network = Network(parameters=1000, trained=500, flops=7.0, activations=30, grid=9)
    cost = Cost(
        work=Work(learned=100, encoded=0, asked=50, views=2, batch=8, stored=77, floats=308), network=network
    )
    assert cost.flops == 7.0 * (250 + 200)
    assert cost.peak == 4 * (1000 + 2 * 500) + 8 * 2 * 30 + 77 + 308
    assert cost.predictions == 50 * (4 + 2 * 9)


# --- time ---------------------------------------------------------------------------------------------------


def _record(cell: Cell, run: str, seconds: float, status: Status = Status.DONE) -> Record:
    return Record(
        key=cell.key,
        run_id=run,
        protocol_hash=cell.protocol.hash,
        scenario=cell.protocol.label,
        strategy=cell.contender.label,
        seed=cell.seed,
        status=status,
        seconds=seconds,
    )


def test_time_follows_from_recorded_cells_alike_and_says_what_is_not_known() -> None:
    """Two of three fine-tune cells are open, 30 s each by the mean of 20 and 40; of three open cells of
    replay nothing is known.
    """
    todo = cells(protocols(["class-incremental[dataset=digits]"]), contenders(["fine-tune", "replay"]), 3)
    done, other = [cell for cell in todo if cell.contender.label == "fine-tune"][:2]
    cached = _record(done, "a", 20)
    records = [cached, _record(other, "b", 40), _record(other, "c", 1000, Status.TIMEOUT)]
    time = time_of(Plan(cells=todo, cached={done.key: cached}), records, workers=2)
    assert (time.seconds, time.known, time.unknown, time.records) == (30, 2, 3, 2)
    assert time.words == "about 30 s on 2 workers, from 2 recorded cells; of 3 further cells no time is known"
    two_runs = [replace(record, session=record.run_id) for record in records]
    assert (
        "from 2 recorded cells of 2 runs;" in time_of(Plan(cells=todo, cached={}), two_runs, workers=2).words
    )
    alone = time_of(Plan(cells=todo, cached={done.key: cached}), [cached], workers=8)
    assert alone.words.startswith("about 20 s on 8 workers, from 1 recorded cell;"), (
        "no cell is faster than itself"
    )
    assert time_of(Plan(cells=todo, cached={}), [], 2).words.startswith("no time is known")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (59.6, "1 min"), (3600, "1 h"), (7790, "2 h 9 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_said_with_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (5_770_000, "5.77 M"), (1.1e18, "1.1 E"), (2e22, "2e+04 E")],
)
def test_large_numbers_are_said_with_three_figures(number: float, said: str) -> None:
    assert scaled(number) == said


# --- the command line ---------------------------------------------------------------------------------------


def test_a_plan_says_the_cost_of_any_suite_and_keeps_its_list(call_owb: Owb, tmp_path: Path) -> None:
    words = ("run", "replay", "--seeds", "2", "--plan", "--store", str(tmp_path))
    said = call_owb(*words)
    assert "6 of 6 cells would run" in said.out
    assert "cost of one cell" in said.out
    assert "time: no time is known" in said.out
    rows = call_owb(*words, "--json").json
    assert len(rows) == 6
    assert {"scenario", "protocol", "strategy", "seed", "key", "status", "cost"} == {*rows[0]}
    assert rows[0]["cost"]["network"]["parameters"] == 24_832
    assert rows[0]["cost"]["flops"] == 49_152 * (rows[0]["cost"]["forward"] + 2 * rows[0]["cost"]["backward"])


def test_a_network_that_looks_values_up_is_planned_without_its_figures(call_owb: Owb, tmp_path: Path) -> None:
    said = call_owb(
        "run",
        "grok-adamw",
        "-s",
        "grokking[preset=ci]",
        "--seeds",
        "1",
        "--no-bounds",
        "--plan",
        "--store",
        str(tmp_path),
    )
    assert said.code == 0
    line = next(line for line in said.out.splitlines() if line.startswith("grokking") and "?" in line)
    assert line.split().count("?") == 3


def test_a_plan_with_everything_done_has_nothing_to_cost(
    call_owb: Owb, tmp_path: Path, warm_ray: None
) -> None:
    words = (
        "run",
        "fine-tune",
        "-s",
        "class-incremental[epochs=1]",
        "--seeds",
        "1",
        "--no-bounds",
        "--store",
        str(tmp_path),
    )
    assert call_owb(*words, "--json").code == 0
    assert "cost of one cell" not in call_owb(*words, "--plan").out
    later = call_owb(
        "run",
        "fine-tune",
        "-s",
        "class-incremental[epochs=1]",
        "--seeds",
        "3",
        "--no-bounds",
        "--store",
        str(tmp_path),
        "--plan",
    )
    assert "from 1 recorded cell" in later.out
