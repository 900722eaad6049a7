"""The label firewall: what is handed over, and what is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from worlds import Blobs

from harness.cell.sealing import Subset, build, fully_labelled, seal, with_permuted_truth
from harness.contracts import HIDDEN, AnyArray, Deal, DealtStage, IntArray, Query, Stage, Validation


def _deal() -> Deal:
    """Six items, two stages; the labels of items 1 and 4 are hidden in training, item 5 is only asked for."""
    labels = np.array([0, 0, 0, 1, 1, 1])
    stages = [
        DealtStage(
            rows=np.array([0, 1, 2]),
            observed_labels=np.array([0, HIDDEN, 0]),
            query=np.array([5, 1]),
            named_classes=1,
            new_classes=1,
        ),
        DealtStage(
            rows=np.array([3, 4]),
            observed_labels=np.array([1, HIDDEN]),
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


def _recurrent(*, recurring: bool = False) -> Deal:
    """Eight items. Stage 0 is given 0 and 1 with a label and 2 without, is asked for 7, 2 and 1, watches 0 and
    holds 6. Stage 1 is given 1 again with a label, 2 with one for the first time and 3 without, and holds 6, 5
    and 0. Stage 2 is given 4 alone. All stages are asked for the same items.
    """
    stages = [
        DealtStage(
            rows=np.array([0, 1, 2]),
            observed_labels=np.array([0, 1, HIDDEN]),
            query=np.array([7, 2, 1]),
            monitored=np.array([0]),
            validation=np.array([6]),
            validation_labels=np.array([6]),
            named_classes=2,
            new_classes=2,
        ),
        DealtStage(
            rows=np.array([3, 2, 1]),
            observed_labels=np.array([HIDDEN, 2, 1]),
            query=np.array([7, 2, 1]),
            monitored=np.array([0]),
            validation=np.array([6, 5, 0]),
            validation_labels=np.array([6, 5, 0]),
            named_classes=3,
            new_classes=1,
        ),
        DealtStage(
            rows=np.array([4]),
            observed_labels=np.array([HIDDEN]),
            query=np.array([7, 2, 1]),
            monitored=np.array([0]),
            named_classes=3,
            new_classes=None,
        ),
    ]
    items = np.arange(8)
    return Deal(
        inputs=np.stack([items, items], axis=1).astype(np.float64),
        labels=items.copy(),
        facts={"stage": items * 10, "tens": items * 10 + 1},
        stages=stages,
        task_access="test",
        recurring=recurring,
    )


def _by_row(part: Stage | Query | Validation) -> dict[int, int]:
    """Return the id of every item of `part`; the input of an item is its row."""
    rows = np.asarray(part.inputs[np.arange(len(part.ids))])[:, 0].astype(int)
    found = dict(zip(rows.tolist(), part.ids.tolist(), strict=True))
    assert len(found) == len(part.ids)
    return found


SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_appearance_of_an_item_has_an_id_of_its_own(seed: int) -> None:
    deal = _recurrent()
    stages = [episode.stage for episode in seal(deal, seed).episodes]
    assert [set(_by_row(stage)) for stage in stages] == [{0, 1, 2}, {1, 2, 3}, {4}]
    assert len({id_ for stage in stages for id_ in stage.ids.tolist()}) == 7
    for stage, dealt in zip(stages, deal.stages, strict=True):
        given = dict(zip(dealt.rows.tolist(), dealt.observed_labels.tolist(), strict=True))
        labels = dict(zip(_by_row(stage), stage.labels.tolist(), strict=True))
        assert labels == given
        assert stage.ids.tolist() == sorted(stage.ids.tolist())


@pytest.mark.parametrize("seed", SEEDS)
def test_an_item_is_asked_for_by_the_id_it_last_had_a_label_under(seed: int) -> None:
    (first, asked_first), (second, asked_second), (third, asked_third) = seal(_recurrent(), seed).episodes
    early, late = _by_row(asked_first), _by_row(asked_second)
    assert set(early) == set(late) == {0, 1, 2, 7}
    assert early[0] == late[0] == _by_row(first)[0]
    assert early[1] == _by_row(first)[1]
    assert late[1] == _by_row(second)[1]
    assert late[2] == _by_row(second)[2]
    # Without a label so far, or with none at all: an id that no stage was given.
    given = {id_ for stage in (first, second, third) for id_ in stage.ids.tolist()}
    assert not given & {early[2], early[7], late[7]}
    assert early[7] == late[7]
    assert asked_third is asked_second  # nothing asked for has had a label since
    for query in (asked_first, asked_second):
        assert query.ids.tolist() == sorted(query.ids.tolist())
        assert query.tasks is not None
        tasks = dict(zip(_by_row(query), query.tasks.tolist(), strict=True))
        assert tasks == {0: 0, 1: 10, 2: 20, 7: 70}


@pytest.mark.parametrize("seed", SEEDS)
def test_held_items_keep_one_id_that_no_stage_and_no_query_has(seed: int) -> None:
    deal = _recurrent()
    episodes = seal(deal, seed).episodes
    early, late = (episode.stage.validation for episode in episodes[:2])
    assert early is not None
    assert late is not None
    assert episodes[2].stage.validation is None
    assert set(_by_row(early)) == {6}
    assert set(_by_row(late)) == {0, 5, 6}
    assert early.labels.tolist() == [6]
    assert late.labels.tolist() == list(_by_row(late))
    assert late.ids.tolist() == sorted(late.ids.tolist())
    assert _by_row(early)[6] == _by_row(late)[6]
    others = {id_ for stage, query in episodes for id_ in (*stage.ids.tolist(), *query.ids.tolist())}
    assert not others & set(late.ids.tolist())


@pytest.mark.parametrize("recurring", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_labels_and_facts_are_found_under_every_id_of_an_item(seed: int, recurring: bool) -> None:
    sealed = seal(_recurrent(recurring=recurring), seed)
    parts = [part for stage, query in sealed.episodes for part in (stage, query, stage.validation) if part]
    for row, id_ in (pair for part in parts for pair in _by_row(part).items()):
        assert sealed.truth.labels[id_] == row
        assert sealed.truth.facts["stage"][id_] == row * 10
        assert sealed.truth.facts["tens"][id_] == row * 10 + 1
    # 8 items, and 7 appearances where each has an id of its own: no id is left over, none is missing.
    labels = sealed.truth.labels.tolist()
    assert sorted(labels) == sorted([*range(8), *([] if recurring else [0, 1, 2, 3, 2, 1, 4])])
    assert [len(values) for values in sealed.truth.facts.values()] == [len(labels)] * 2
    assert sealed.truth.named_classes == [2, 3, 3]


@pytest.mark.parametrize("seed", SEEDS)
def test_items_that_recur_keep_one_id_in_all_they_appear_in(seed: int) -> None:
    sealed = seal(_recurrent(recurring=True), seed)
    parts = [part for stage, query in sealed.episodes for part in (stage, query, stage.validation) if part]
    ids: dict[int, set[int]] = {}
    for row, id_ in (pair for part in parts for pair in _by_row(part).items()):
        ids.setdefault(row, set()).add(id_)
    assert all(len(own) == 1 for own in ids.values())
    assert len(set.union(*ids.values())) == len(ids) == 8
    assert sealed.episodes[0].query is sealed.episodes[2].query


def test_new_ids_say_nothing_about_whether_an_item_came_before() -> None:
    """Of the ids of a stage, those of old items are as often below the middle as those of new ones: where ids
    were numbered in order of appearance, or drawn stage by stage, they would not be.
    """
    above = [_by_row(seal(_recurrent(), seed).episodes[1].stage) for seed in range(200)]
    share = np.mean([ids[3] > ids[2] for ids in above])
    assert abs(share - 0.5) < 0.15  # four standard errors of 200 throws
    stages = [seal(_recurrent(), seed).episodes for seed in range(200)]
    later = np.mean([np.mean(one[1].stage.ids) > np.mean(one[0].stage.ids) for one in stages])
    assert abs(later - 0.5) < 0.15
    plain = np.mean([_by_row(one[0].query)[7] > np.mean(one[0].stage.ids) for one in stages])
    assert abs(plain - 0.5) < 0.15


def test_the_upper_bound_is_asked_by_the_ids_it_was_given_last() -> None:
    sealed = seal(fully_labelled(_recurrent()), 0)
    assert [episode.stage.labels.tolist() for episode in sealed.episodes] == [
        list(_by_row(episode.stage)) for episode in sealed.episodes
    ]
    late = _by_row(sealed.episodes[1].query)
    assert late[1] == _by_row(sealed.episodes[1].stage)[1]
    assert late[2] == _by_row(sealed.episodes[1].stage)[2]


def test_permuted_truth_leaves_what_is_held_or_was_given_once() -> None:
    labels = [with_permuted_truth(_recurrent(), seed).labels for seed in range(20)]
    assert all(own[[0, 1, 2, 5, 6]].tolist() == [0, 1, 2, 5, 6] for own in labels)
    assert len({tuple(own[[3, 4, 7]]) for own in labels}) == 6  # all orders of three
