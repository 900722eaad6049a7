"""The label firewall: what is handed over, and what is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from worlds import Blobs

from harness.cell.sealing import Subset, build, seal, with_permuted_truth
from harness.contracts import HIDDEN, AnyArray, Deal, DealtStage, IntArray


def _deal() -> Deal:
    """Six items, two stages; the labels of items 1 and 4 are hidden in training, item 5 is only asked for."""
    labels = np.array([0, 0, 0, 1, 1, 1])
    stages = [
        DealtStage(
            rows=np.array([0, 1, 2]),
            given=np.array([0, HIDDEN, 0]),
            query=np.array([5, 1]),
            named_classes=1,
            new_classes=1,
        ),
        DealtStage(
            rows=np.array([3, 4]),
            given=np.array([1, HIDDEN]),
            query=np.array([5, 1]),
            named_classes=2,
            new_classes=None,
        ),
    ]
    return Deal(
        inputs=np.arange(12.0).reshape(6, 2), labels=labels, facts={"stage": labels * 1}, stages=stages
    )


def test_items_keep_their_inputs_and_given_labels_under_opaque_ids() -> None:
    deal = _deal()
    stage, query = seal(deal, 3).episodes[0]
    row_of = {float(row[0]): index for index, row in enumerate(np.asarray(deal.inputs))}
    rows = [row_of[float(x[0])] for x in stage.inputs[np.arange(3)]]
    assert sorted(rows) == [0, 1, 2]
    assert [int(label) for label in stage.labels] == [{0: 0, 1: HIDDEN, 2: 0}[row] for row in rows]
    assert list(stage.ids) == sorted(stage.ids)
    assert set(query.ids) & set(stage.ids)  # item 1 is trained on and asked for under one id
    assert {float(x[0]) for x in query.inputs[np.arange(2)]} == {10.0, 2.0}


def test_truth_is_found_by_id() -> None:
    deal = _deal()
    sealed = seal(deal, 3)
    query = sealed.episodes[0].query
    row_of = {float(row[0]): index for index, row in enumerate(np.asarray(deal.inputs))}
    expected = [deal.labels[row_of[float(x[0])]] for x in query.inputs[np.arange(2)]]
    assert list(sealed.truth.labels[query.ids]) == expected


def test_ids_depend_on_the_seed_and_say_nothing_about_the_label() -> None:
    labels = build(Blobs(items=200), 0).truth.labels
    assert abs(np.corrcoef(np.arange(len(labels)), labels)[0, 1]) < 0.08  # 2,400 items: four standard errors
    assert not np.array_equal(labels, build(Blobs(items=200), 1).truth.labels)


def test_only_never_revealed_labels_are_permuted() -> None:
    deal = dataclasses.replace(_deal(), labels=np.array([0, 10, 0, 1, 14, 15]))
    permuted = [with_permuted_truth(deal, seed) for seed in range(30)]
    assert all(list(world.labels[[0, 2, 3]]) == [0, 0, 1] for world in permuted)
    assert all(sorted(world.labels[[1, 4, 5]]) == [10, 14, 15] for world in permuted)
    assert len({tuple(world.labels) for world in permuted}) == 6  # all orders of three


def test_stages_with_one_query_share_it() -> None:
    episodes = build(Blobs(), 0).episodes
    assert episodes[0].query is episodes[1].query


def test_public_arrays_are_copies() -> None:
    deal = _deal()
    stage, query = seal(deal, 0).episodes[0]
    assert all(
        array.base is None for array in (stage.ids, stage.labels, stage.inputs, query.ids, query.inputs)
    )


class _Loader:
    """Images made when asked for, as from a disk."""

    shape = (6, 2)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: IntArray) -> AnyArray:
        return np.stack([index, index * 2], axis=1).astype(np.float32)


def test_a_loader_is_handed_over_renumbered() -> None:
    stage = seal(dataclasses.replace(_deal(), inputs=_Loader()), 0).episodes[0].stage
    assert isinstance(stage.inputs, Subset)
    assert stage.inputs.shape == (3, 2)
    assert len(stage.inputs) == 3
    assert sorted(stage.inputs[np.arange(3)][:, 0]) == [0, 1, 2]


def test_tasks_are_told_only_under_task_access_test() -> None:
    deal = _deal()
    assert seal(deal, 0).episodes[0].query.tasks is None
    query = seal(dataclasses.replace(deal, task_access="test"), 0).episodes[0].query
    assert query.tasks is not None
    truth = seal(deal, 0).truth
    assert list(query.tasks) == list(truth.facts["stage"][query.ids])


@pytest.mark.parametrize("name", ["labels", "facts", "truth"])
def test_stage_and_query_have_no_place_for_the_truth(name: str) -> None:
    stage, query = build(Blobs(), 0).episodes[0]
    assert not hasattr(query, name)
    if name != "labels":
        assert not hasattr(stage, name)


def test_facts_that_are_loaded_when_they_are_scored_follow_their_items() -> None:
    deal = dataclasses.replace(_deal(), facts={**_deal().facts, "mask": _Loader()})
    truth = seal(deal, 0).truth
    rows = np.arange(len(truth.labels))
    here, there = (
        truth.facts["mask"][rows][:, 0].astype(int),
        seal(dataclasses.replace(deal, labels=np.arange(len(deal.labels))), 0).truth,
    )
    np.testing.assert_array_equal(here, there.labels)
