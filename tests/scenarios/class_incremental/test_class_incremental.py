"""The class-incremental scenario: invariants of the deal, and scores of answers whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest

from harness.cell.sealing import Sealed, build
from harness.contracts import Deal, StoredPrediction
from harness.errors import UserError
from scenarios.class_incremental.scenario import ClassIncremental


def _answers(sealed: Sealed, what: str) -> list[StoredPrediction]:
    """Answer the truth, zeros, or the truth for classes of the current stage and zero otherwise (perfect
    forgetting).
    """
    given = []
    for index, (_, query) in enumerate(sealed.episodes):
        ids = np.sort(query.ids)
        labels, arrival = sealed.truth.labels[ids], sealed.truth.facts["stage"][ids]
        classes = {"truth": labels, "zeros": labels * 0, "only new": np.where(arrival == index, labels, -1)}[
            what
        ]
        given.append(StoredPrediction(stage=index, step=None, ids=ids, arrays={"classes": classes}))
    return given


@pytest.fixture(scope="module")
def deal() -> Deal:
    return ClassIncremental().deal(0)


def test_every_item_is_dealt_once(deal: Deal) -> None:
    train = np.concatenate([stage.rows for stage in deal.stages])
    assert len(np.unique(train)) == len(train)
    assert sorted([*train, *deal.stages[0].query]) == list(range(1797))


def test_stages_bring_disjoint_classes_in_the_order_of_their_numbers(deal: Deal) -> None:
    assert [sorted(set(stage.observed_labels)) for stage in deal.stages] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
        [8, 9],
    ]
    assert [(stage.named_classes, stage.new_classes) for stage in deal.stages] == [
        (2, 2),
        (4, 2),
        (6, 2),
        (8, 2),
        (10, 2),
    ]


def test_the_test_split_takes_the_same_share_of_every_class(deal: Deal) -> None:
    whole = np.bincount(deal.labels)
    np.testing.assert_allclose(
        np.bincount(deal.labels[deal.stages[0].query]) / whole, 0.2, atol=0.5 / whole.min() + 1e-9
    )


def test_all_stages_ask_the_whole_test_set(deal: Deal) -> None:
    for stage in deal.stages:
        np.testing.assert_array_equal(stage.query, deal.stages[0].query)


def test_class_order_and_split_have_streams_of_their_own() -> None:
    """The number of stages moves neither the order of the classes nor the split."""
    five, two = (ClassIncremental(stages=stages).deal(3) for stages in (5, 2))
    np.testing.assert_array_equal(five.labels, two.labels)
    np.testing.assert_array_equal(five.stages[0].query, two.stages[0].query)
    assert not np.array_equal(five.labels, ClassIncremental().deal(4).labels)


def test_natural_order_keeps_the_data_sets_numbers() -> None:
    from harness.selection import configured

    np.testing.assert_array_equal(
        ClassIncremental(class_order="natural").deal(5).labels, configured("dataset", "digits").load().labels
    )


def test_a_larger_first_stage_leaves_the_rest_to_share() -> None:
    stages = ClassIncremental(stages=4, first_classes=4).deal(0).stages
    assert [stage.new_classes for stage in stages] == [4, 2, 2, 2]
    assert [stage.new_classes for stage in ClassIncremental(stages=3).deal(0).stages] == [4, 3, 3]


def test_a_font_family_is_on_one_side_of_the_split() -> None:
    from harness.selection import configured

    deal = ClassIncremental(dataset="glyphs").deal(0)
    groups = configured("dataset", "glyphs").load().groups
    assert groups is not None
    test = set(groups[deal.stages[0].query])
    assert len(test) == 1
    assert not test & {group for stage in deal.stages for group in groups[stage.rows]}


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"stages": 11}, "digits has 10 classes, which 11 stages with first_classes=0 cannot share"),
        ({"stages": 3, "first_classes": 9}, "which 3 stages with first_classes=9 cannot share"),
        ({"stages": 1, "first_classes": 3}, "which 1 stages with first_classes=3 cannot share"),
        ({"dataset": "digts"}, "unknown dataset 'digts'; did you mean 'digits'?"),
    ],
)
def test_what_cannot_be_dealt_is_refused(params: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        ClassIncremental(**params).deal(0)
    assert sentence in str(caught.value)


def test_the_truth_scores_full_marks() -> None:
    scenario = ClassIncremental()
    sealed = build(scenario, 0)
    scores = scenario.score(sealed.truth, _answers(sealed, "truth"))
    assert scores.final == {
        "average_accuracy": 1.0,
        "average_incremental_accuracy": 1.0,
        "forgetting": 0.0,
        "backward_transfer": 0.0,
        "forward_transfer": 1.0,
    }
    assert scores.per_stage["seen_accuracy"] == [1.0] * 5
    np.testing.assert_array_equal(scores.matrices["accuracy"], np.ones((5, 5)))


def test_knowing_only_the_newest_stage_is_perfect_forgetting() -> None:
    scenario = ClassIncremental()
    sealed = build(scenario, 0)
    scores = scenario.score(sealed.truth, _answers(sealed, "only new"))
    np.testing.assert_array_equal(scores.matrices["accuracy"], np.eye(5))
    assert scores.final["average_accuracy"] == pytest.approx(0.2)
    assert scores.final["forgetting"] == 1.0
    assert scores.final["backward_transfer"] == -1.0
    assert scores.final["forward_transfer"] == 0.0


def test_a_told_task_makes_chance_the_zero_of_forward_transfer() -> None:
    scenario = ClassIncremental(task_access="test")
    sealed = build(scenario, 0)
    assert sealed.episodes[0].query.tasks is not None
    assert scenario.score(sealed.truth, _answers(sealed, "truth")).final["forward_transfer"] == 0.5


def test_unfinished_cells_have_curves_but_no_final_figures() -> None:
    scenario = ClassIncremental()
    sealed = build(scenario, 0)
    scores = scenario.score(sealed.truth, _answers(sealed, "truth")[:2])
    assert scores.final == {}
    assert scores.per_stage["seen_accuracy"] == [1.0, 1.0]


def test_probes_are_scored_on_the_classes_named_so_far() -> None:
    scenario = ClassIncremental()
    sealed = build(scenario, 0)
    last = _answers(sealed, "zeros")[0]
    probe = StoredPrediction(stage=0, step=7, ids=last.ids, arrays=last.arrays)
    (row,) = scenario.score(sealed.truth, [probe, last]).probes["seen_accuracy"]
    labels = sealed.truth.labels[last.ids]
    assert row == (0, 7, pytest.approx(np.mean(labels[labels < 2] == 0)))


def test_views_are_lent_and_written_only_where_they_are_said() -> None:
    """So that a protocol from before there were views keeps its hash."""
    plain, shown = ClassIncremental(), ClassIncremental(augmentations="noise[std=0.2]")
    assert "views" not in plain.model_dump()
    assert shown.model_dump()["views"] == "noise[std=0.2]"
    assert (plain.budget().augmentations, shown.budget().augmentations) == ("same", "noise[std=0.2]")
