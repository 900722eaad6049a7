"""Deals as Avalanche's benchmarks and the other way round, so that either side can run what the other deals.

A benchmark that is taken in becomes a scenario of ours with its scores and its firewall:

    class SplitMine(ClassIncremental):
        def deal(self, seed):
            return from_avalanche(my_benchmark(seed))
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from harness.contracts import HIDDEN, AnyArray, Deal, DealtStage, IntArray
from harness.errors import Unsuitable, UserError
from strategies.avalanche_adapter.experiences import dataset_of
from strategies.avalanche_adapter.loading import avalanche


def to_avalanche(deal: Deal) -> Any:
    """Return `deal` as a benchmark with a train and a test stream, one experience in each per stage.

    An experience of the test stream holds the queried items of the classes that its train experience holds.
    Task labels are 0, or the stage under task access "test". For one stage alone give `replace(deal,
    stages=[deal.stages[k]])`.

    Raises:
        Unsuitable: a training label is hidden, which Avalanche's data sets cannot say.
    """
    train, test = [], []
    for index, dealt in enumerate(deal.stages):
        if (dealt.observed_labels == HIDDEN).any():
            raise Unsuitable(f"stage {index} hides training labels, which an Avalanche benchmark cannot say")
        asked = dealt.query[np.isin(deal.labels[dealt.query], deal.labels[dealt.rows])]
        task = index if deal.task_access == "test" else 0
        train.append(_dataset(deal.inputs[dealt.rows], dealt.observed_labels, task))
        test.append(_dataset(deal.inputs[asked], deal.labels[asked], task))
    benchmarks = avalanche("benchmarks")
    return benchmarks.with_classes_timeline(
        benchmarks.with_task_labels(benchmarks.benchmark_from_datasets(train=train, test=test))
    )


def from_avalanche(benchmark: Any) -> Deal:
    """Return a benchmark's train and test streams as a deal; after every stage the whole test stream is
    asked.

    Classes are numbered in order of arrival. Items are taken as they leave the benchmark's transforms for
    evaluation. Task access is "test" where the experiences bear different task labels.

    Raises:
        UserError: an item is not a tensor, items differ in shape, or a test class never arrives.
    """
    train = [
        _arrays(experience.dataset, f"train experience {index}")
        for index, experience in enumerate(benchmark.train_stream)
    ]
    test = [
        _arrays(experience.dataset, f"test experience {index}")
        for index, experience in enumerate(benchmark.test_stream)
    ]
    number, stage_of, named = _arrivals(labels for _, labels, _ in train)
    never = sorted({int(label) for _, labels, _ in test for label in labels} - number.keys())
    if never:
        raise UserError(
            f"the test stream has classes that no train experience brings: {', '.join(map(str, never))}"
        )
    inputs = np.concatenate([inputs for inputs, _, _ in (*train, *test)])
    labels = np.array(
        [number[int(label)] for _, part, _ in (*train, *test) for label in part], dtype=np.int64
    )
    bounds = np.cumsum([0, *(len(part) for _, part, _ in train)])
    query = np.arange(bounds[-1], len(labels))
    stages = []
    for index, total in enumerate(named):
        rows = np.arange(bounds[index], bounds[index + 1])
        new = total - (named[index - 1] if index else 0)
        stages.append(
            DealtStage(
                rows=rows, observed_labels=labels[rows], query=query, named_classes=total, new_classes=new
            )
        )
    tasks = {task for _, _, tasks in train for task in tasks}
    facts = {"stage": np.array(stage_of, dtype=np.int64)[labels]}
    return Deal(
        inputs=inputs,
        labels=labels,
        facts=facts,
        stages=stages,
        task_access="test" if len(tasks) > 1 else "train",
    )


def _dataset(inputs: AnyArray, labels: IntArray, task: int) -> Any:
    scaled = inputs.astype(np.float32) / 255 if inputs.dtype == np.uint8 else inputs.astype(np.float32)
    return dataset_of(torch.from_numpy(scaled), torch.from_numpy(labels.astype(np.int64)), task)


def _arrays(dataset: Any, where: str) -> tuple[AnyArray, IntArray, set[int]]:
    items = [(inputs, int(label), int(task)) for inputs, label, task in dataset.eval()]
    for inputs, _, _ in items:
        if not isinstance(inputs, torch.Tensor):
            raise UserError(
                f"{where} holds {type(inputs).__name__} items; give the benchmark a transform that makes "
                "tensors of them"
            )
    shapes = {tuple(inputs.shape) for inputs, _, _ in items}
    if len(shapes) != 1:
        raise UserError(f"{where} holds items of {len(shapes)} shapes; one is needed")
    stacked = torch.stack([inputs for inputs, _, _ in items]).numpy()
    return stacked, np.array([label for _, label, _ in items], dtype=np.int64), {task for _, _, task in items}


def _arrivals(stages: Iterable[IntArray]) -> tuple[dict[int, int], list[int], list[int]]:
    """Return every class's new number, the stage of every new number, and how many classes are named after
    every stage.
    """
    number: dict[int, int] = {}
    stage_of: list[int] = []
    named: list[int] = []
    for index, labels in enumerate(stages):
        for label in np.unique(labels):
            if int(label) not in number:
                number[int(label)] = len(number)
                stage_of.append(index)
        named.append(len(number))
    return number, stage_of, named


__all__ = ["from_avalanche", "to_avalanche"]
