"""Avalanche's strategies under our contract, and deals as benchmarks in both directions."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import Blobs

from harness.cell.run import CellContext, CellSettings, run_cell
from harness.cell.sealing import build, seal
from harness.contracts import HIDDEN, Deal, StoredPrediction, Strategy, TrainingBudget
from harness.errors import Unsuitable, UserError
from harness.plugins import find, registered
from harness.store.predictions import digest
from scenarios.class_incremental.scenario import ClassIncremental
from strategies.avalanche_adapter.benchmarks import from_avalanche, to_avalanche
from strategies.avalanche_adapter.experiences import SeenSoFar, dataset_of, experience_of
from strategies.avalanche_adapter.loading import avalanche
from strategies.class_incremental.ewc import batch_fisher
from strategies.class_incremental.lwf import distillation
from strategies.toolkit.training.tensors import items_of

NAMES = sorted(name for name in registered("strategy") if name.startswith("avalanche-"))
SETTINGS = CellSettings(
    root_seed=3, budget=TrainingBudget(backbone="mlp[width=32,depth=1]", epochs=10, batch_size=8)
)


def _run(strategy: Strategy, scenario: Blobs, scratch: Path) -> list[StoredPrediction]:
    return [
        answer
        for result in run_cell(strategy, build(scenario, 0).episodes, SETTINGS, scratch=scratch)
        for answer in result.answers
    ]


def test_the_promised_strategies_are_there() -> None:
    assert {
        f"avalanche-{name}" for name in ("naive", "replay", "ewc", "lwf", "si", "gdumb", "icarl", "der")
    } <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_learns_the_last_stage_and_repeats_itself(name: str, tmp_path: Path) -> None:
    scenario = Blobs(stages=2)
    cls = find("strategy", name).cls
    first, again = (_run(cls(lr=0.01), scenario, tmp_path) for _ in range(2))
    assert digest(first) == digest(again)
    scores = scenario.score(build(scenario, 0).truth, first)
    assert scores.per_stage["seen_accuracy"][0] > 0.9  # two blobs far apart: half would be chance
    assert (
        scores.final["average_accuracy"] >= 0.45
    )  # at least the newer half is known; a quarter would be chance


@pytest.mark.parametrize("name", ["avalanche-replay", "avalanche-gdumb", "avalanche-icarl", "avalanche-der"])
def test_a_memory_keeps_what_naive_forgets(name: str, tmp_path: Path) -> None:
    scenario = Blobs(stages=3)
    truth = build(scenario, 0).truth
    naive, kept = (
        scenario.score(truth, _run(find("strategy", each).cls(lr=0.01), scenario, tmp_path)).final[
            "average_accuracy"
        ]
        for each in ("avalanche-naive", name)
    )
    assert kept > naive + 0.2


@pytest.mark.parametrize("name", ["avalanche-icarl", "avalanche-der"])
def test_a_head_that_is_too_small_makes_the_cell_unsuitable(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unsuitable, match="4 classes have come, the head has 3 outputs"):
        _run(find("strategy", name).cls(head=3), Blobs(stages=2), tmp_path)


def test_importing_avalanche_leaves_torch_as_it_was_and_the_methods_leave_avalanche_out() -> None:
    code = (
        "import sys, torch.utils.data as data; before, path = data.Dataset.__add__, list(sys.path);"
        "import strategies.avalanche_adapter.methods, strategies.avalanche_adapter.benchmarks;"
        "print('avalanche' in sys.modules);"
        "from strategies.avalanche_adapter.loading import avalanche; avalanche('training.supervised');"
        "print('avalanche' in sys.modules, data.Dataset.__add__ is before, sys.path == path)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True", "True"]


def test_an_experience_tells_nothing_of_stages_to_come() -> None:
    seen = SeenSoFar()
    stages = [episode.stage for episode in build(Blobs(stages=3), 0).episodes]
    first = experience_of(stages[0], seen)
    assert (first.benchmark.n_classes_per_exp, first.benchmark.classes_order) == ([2, 0], [0, 1])
    second = experience_of(stages[1], seen)
    assert (second.classes_in_this_experience, second.previous_classes, second.classes_seen_so_far) == (
        [2, 3],
        [0, 1],
        [0, 1, 2, 3],
    )
    assert sorted(second.dataset.targets) == sorted(stages[1].labels.tolist())


def test_hidden_labels_are_refused() -> None:
    stage = build(Blobs(), 0).episodes[0].stage
    with pytest.raises(Unsuitable, match="every training label"):
        experience_of(replace(stage, labels=np.full_like(stage.labels, HIDDEN)), SeenSoFar())


# --- benchmarks in both directions --------------------------------------------------------------------------


def _digits() -> Deal:
    return ClassIncremental(dataset="digits", stages=5).deal(1)


def test_a_deal_survives_the_way_out_and_back() -> None:
    """Queries come back in stage order, so rows are compared as a set of (image, label)."""
    deal = _digits()
    back = from_avalanche(to_avalanche(deal))
    assert [stage.named_classes for stage in back.stages] == [2, 4, 6, 8, 10]
    for ours, theirs in zip(deal.stages, back.stages, strict=True):
        np.testing.assert_array_equal(deal.inputs[ours.rows], back.inputs[theirs.rows])
        np.testing.assert_array_equal(ours.observed_labels, theirs.observed_labels)
        assert _as_set(deal, ours.query) == _as_set(back, theirs.query)
        assert ours.new_classes == theirs.new_classes
    np.testing.assert_array_equal(back.facts["stage"], back.labels // 2)


def _as_set(deal: Deal, rows: np.ndarray) -> list[tuple[bytes, int]]:
    return sorted((deal.inputs[row].tobytes(), int(deal.labels[row])) for row in rows)


def test_one_stage_alone_is_a_benchmark_of_one_experience() -> None:
    deal = _digits()
    benchmark = to_avalanche(replace(deal, stages=[deal.stages[2]]))
    assert len(benchmark.train_stream) == len(benchmark.test_stream) == 1
    assert set(benchmark.test_stream[0].dataset.targets) == {4, 5}


def test_avalanche_can_train_and_evaluate_on_what_is_exported() -> None:
    benchmark = to_avalanche(_digits())
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    naive = avalanche("training.supervised").Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        train_mb_size=32,
        train_epochs=3,
        evaluator=None,
    )
    naive.train(benchmark.train_stream[0])
    x = torch.stack([item[0] for item in benchmark.test_stream[0].dataset])
    y = torch.tensor(list(benchmark.test_stream[0].dataset.targets))
    assert (model(x).argmax(1) == y).float().mean() > 0.9


def test_a_benchmark_taken_in_runs_and_scores_like_our_own(tmp_path: Path) -> None:
    """Random labels and class order of Avalanche's own making; joint training must find the separable blobs."""
    rng = np.random.default_rng(0)
    centres = 4 * rng.normal(size=(6, 8))
    parts = []
    for classes in ([5, 2], [0, 3], [1, 4]):
        labels = np.repeat(classes, 20)
        parts.append(
            [
                dataset_of(
                    torch.tensor(centres[labels] + rng.normal(size=(40, 8)), dtype=torch.float32),
                    torch.tensor(labels),
                )
                for _ in range(2)
            ]
        )
    benchmark = avalanche("benchmarks").benchmark_from_datasets(
        train=[train for train, _ in parts], test=[test for _, test in parts]
    )
    deal = from_avalanche(benchmark)
    assert [stage.named_classes for stage in deal.stages] == [2, 4, 6]
    assert deal.labels[:20].tolist() == [1] * 20  # class 5 came first with class 2, which is the smaller
    sealed = seal(deal, 0)
    joint = find("strategy", "joint").cls(lr=0.01)
    answers = [
        answer
        for result in run_cell(joint, sealed.episodes, SETTINGS, scratch=tmp_path)
        for answer in result.answers
    ]
    assert ClassIncremental().score(sealed.truth, answers).final["average_accuracy"] > 0.9


def test_task_labels_become_task_access() -> None:
    deal = replace(_digits(), task_access="test")
    benchmark = to_avalanche(deal)
    assert [set(experience.task_labels) for experience in benchmark.train_stream] == [{0}, {1}, {2}, {3}, {4}]
    assert from_avalanche(benchmark).task_access == "test"


def test_a_benchmark_that_cannot_be_taken_in_is_refused_in_one_sentence() -> None:
    benchmarks = avalanche("benchmarks")
    train = dataset_of(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(UserError, match="no train experience brings: 7"):
        from_avalanche(
            benchmarks.benchmark_from_datasets(
                train=[train], test=[dataset_of(torch.zeros(2, 3), torch.tensor([0, 7]))]
            )
        )
    deal = _digits()
    stage = replace(deal.stages[0], observed_labels=np.full_like(deal.stages[0].observed_labels, HIDDEN))
    with pytest.raises(Unsuitable, match="stage 0 hides training labels"):
        to_avalanche(replace(deal, stages=[stage]))


# --- the same formulas --------------------------------------------------------------------------------------


def test_our_batch_fisher_is_avalanches_importance(tmp_path: Path) -> None:
    """Both look at the network that Avalanche trained; theirs sums over a loader of single items, ours over
    slices of tensors.
    """
    theirs = find("strategy", "avalanche-ewc").cls(lr=0.01)
    context = CellContext(settings=SETTINGS, scratch=tmp_path, on_progress=lambda *_: None)
    theirs.start(context)
    for index, episode in enumerate(build(Blobs(), 0).episodes):
        theirs.learn(episode.stage)
        (plugin,) = (each for each in theirs.bridge.strategy.plugins if type(each).__name__ == "EWCPlugin")
        ours = batch_fisher(
            theirs.bridge.strategy.model, items_of(episode.stage, context), SETTINGS.budget.batch_size
        )
        assert ours.keys() == plugin.importances[index].keys()
        for name, fisher in ours.items():
            torch.testing.assert_close(fisher, plugin.importances[index][name].data, rtol=1e-4, atol=1e-9)
            assert fisher.abs().max() > 0


def test_our_distillation_is_avalanches() -> None:
    """With one head and every old class active, their term for task 0 is ours."""
    plugin = avalanche("training.plugins").LwFPlugin(alpha=1, temperature=2)
    logits, old = torch.randn(6, 5), torch.randn(6, 3)
    theirs = plugin.lwf._distillation_loss(logits, old, {0, 1, 2})
    torch.testing.assert_close(distillation(logits[:, :3], old, 2.0), theirs)
