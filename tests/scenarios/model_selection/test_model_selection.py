"""What settings are chosen on: labels that learners are handed over anyway, and nothing else of a deal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import BLOBS
from search_worlds import HERE

from harness.cell.sealing import build, fully_labelled, seal
from harness.contracts import HIDDEN, Deal, DealtStage, Scenario, StoredPrediction
from harness.errors import UserError
from harness.protocol import fingerprint
from harness.protocol.cells import cells, contenders, protocols
from harness.selection import configured
from harness.store.mlflow_store import Store
from leaderboards.publishing.publish import publish
from scenarios.cgcd.scenario import CGCD
from scenarios.class_incremental.scenario import ClassIncremental
from scenarios.grokking.scenario import Grokking
from scenarios.model_selection.deals import held_out, novel_half
from scenarios.model_selection.scenario import HeldOut, model_selection_on
from scenarios.noisy_labels.scenario import NoisyLabels

WITH_CHOOSING = {
    "class-incremental": ClassIncremental(stages=3, epochs=2),
    "tasks told": ClassIncremental(stages=2, task_access="test"),
    "noisy": NoisyLabels(validation="noisy", told="matrix", epochs=2),
    "noisy stream": NoisyLabels(
        over="class-incremental[stages=3]", noise="pair[rate=0.3]", stream="by-true-open"
    ),
    "grokking": Grokking(
        modulus=11, train_fraction=0.7, corruption=0.2, backbone="quadratic[width=8]", steps=20
    ),
    "blobs": configured("scenario", f"{HERE}:Chosen[stages=2]"),
}
SCENARIOS = pytest.mark.parametrize("scenario", WITH_CHOOSING.values(), ids=WITH_CHOOSING)


def _chosen_on(scenario: Scenario) -> HeldOut:
    found = configured("scenario", scenario.model_selection())
    assert isinstance(found, HeldOut)
    return found


@SCENARIOS
def test_what_is_declared_reads_back_as_the_scenario_itself(scenario: Scenario) -> None:
    assert configured("scenario", _chosen_on(scenario).of) == scenario


@SCENARIOS
def test_no_test_item_is_dealt_and_training_items_either_train_or_are_asked(scenario: Scenario) -> None:
    beneath, deal = scenario.deal(1000), _chosen_on(scenario).deal(1000)
    tested = np.unique(np.concatenate([stage.query for stage in beneath.stages]))
    asked = np.unique(np.concatenate([stage.query for stage in deal.stages]))
    trained = np.unique(np.concatenate([stage.rows for stage in deal.stages]))
    assert not np.isin(np.concatenate([asked, trained]), tested).any()
    assert not np.isin(asked, trained).any()
    np.testing.assert_array_equal(
        np.union1d(asked, trained), np.unique(np.concatenate([stage.rows for stage in beneath.stages]))
    )
    for stage, own in zip(beneath.stages, deal.stages, strict=True):
        assert (stage.named_classes, stage.new_classes) == (own.named_classes, own.new_classes)
        assert (stage.noise_info and stage.noise_info.rate) == (own.noise_info and own.noise_info.rate)
        np.testing.assert_array_equal(own.rows, stage.rows[np.isin(stage.rows, own.rows)])
        assert not len(own.monitored)


@SCENARIOS
def test_the_truth_is_the_label_that_was_handed_over(scenario: Scenario) -> None:
    beneath, deal = scenario.deal(1000), _chosen_on(scenario).deal(1000)
    given = np.full(len(beneath.labels), HIDDEN)
    for stage in reversed(beneath.stages):
        given[stage.rows] = stage.observed_labels
    np.testing.assert_array_equal(deal.labels, given)
    if isinstance(scenario, (NoisyLabels, Grokking)):
        assert (deal.labels[deal.stages[-1].query] != beneath.labels[deal.stages[-1].query]).mean() > 0.1


@SCENARIOS
def test_hidden_labels_and_the_test_change_no_byte(scenario: Scenario) -> None:
    """All true labels are permuted, test queries and facts with them; the labels handed over stay."""
    beneath = scenario.deal(1000)
    shuffled = np.random.default_rng(0).permutation(len(beneath.labels))
    other = replace(
        beneath,
        labels=beneath.labels[shuffled],
        facts={
            name: values[shuffled] for name, values in beneath.facts.items() if isinstance(values, np.ndarray)
        },
        class_numbers=None,
        stages=[
            replace(stage, query=shuffled[: len(stage.query)], monitored=stage.monitored[:0])
            for stage in beneath.stages
        ],
    )
    first, second = held_out(beneath, 0.2, 1000), held_out(other, 0.2, 1000)
    assert fingerprint.of_deal(first) == fingerprint.of_deal(second)
    chosen_on = _chosen_on(scenario)
    figures = [
        chosen_on.score(sealed.truth, _answers(deal)).final
        for deal in (first, second)
        for sealed in [seal(deal, 1000)]
    ]
    assert figures[0] == figures[1]
    handed = [
        [(*stage.labels, *query.ids) for stage, query in seal(fully_labelled(deal), 1000).episodes]
        for deal in (first, second)
    ]
    assert handed[0] == handed[1]  # not even the upper bound is told a label that nobody was handed over


def _answers(deal: Deal, *, shift: int = 0, share: float = 0.0) -> list[StoredPrediction]:
    """Answer the truth plus `shift` for the first `share` of the items of every stage."""
    sealed = seal(deal, 1000)
    found = []
    for index, (_, query) in enumerate(sealed.episodes):
        ids = np.sort(query.ids)
        classes = sealed.truth.labels[ids] + shift * (np.arange(len(ids)) < share * len(ids))
        found.append(StoredPrediction(stage=index, step=None, ids=ids, arrays={"classes": classes}))
    return found


def test_the_figures_by_hand() -> None:
    """Three stages ask 8, 16 and 24 of 40 items a stage; a quarter of each is answered wrong, of the last one
    all but that.
    """
    scenario = HeldOut(of=f"{BLOBS}[items=20]")
    deal = scenario.deal(0)
    assert [len(stage.query) for stage in deal.stages] == [8, 16, 24]
    truth = seal(deal, 0).truth
    first, second, third = _by_seed(deal, [0.25, 0.25, 0.75])
    scores = scenario.score(truth, [first, second, third])
    assert scores.final == {
        "held_out_accuracy": pytest.approx((0.75 + 0.75 + 0.25) / 3),
        "final_held_out_accuracy": pytest.approx(0.25),
    }
    assert scenario.score(truth, [first, second]).final["held_out_accuracy"] == pytest.approx(0.75)
    assert scores.per_stage["held_out_accuracy"] == [0.75, 0.75, 0.25]
    probe = replace(third, step=4, stage=0)
    assert scenario.score(truth, [probe]).probes["held_out_accuracy"] == [(0, 4, 0.25)]
    assert scenario.score(truth, []).final == {}


def _by_seed(deal: Deal, shares: list[float]) -> list[StoredPrediction]:
    sealed = seal(deal, 0)
    found = []
    for index, ((_, query), share) in enumerate(zip(sealed.episodes, shares, strict=True)):
        ids = np.sort(query.ids)
        wrong = np.arange(len(ids)) < share * len(ids)
        found.append(
            StoredPrediction(
                stage=index, step=None, ids=ids, arrays={"classes": sealed.truth.labels[ids] + wrong}
            )
        )
    return found


def test_every_label_gives_its_share_and_keeps_one_item() -> None:
    """Of 10, 4, 2 and 1 items with a label, 20 % are 2, 1, 1 (at least one of two) and 0 (never the last
    one).
    """
    given = np.repeat([0, 1, 2, 3], [10, 4, 2, 1])
    stage = DealtStage(
        rows=np.arange(17), observed_labels=given, query=np.array([17]), named_classes=4, new_classes=4
    )
    deal = held_out(
        Deal(inputs=np.zeros((18, 2)), labels=np.zeros(18, dtype=np.int64), facts={}, stages=[stage]), 0.2, 0
    )
    np.testing.assert_array_equal(np.bincount(given[deal.stages[0].query], minlength=4), [2, 1, 1, 0])


def test_stages_draw_independently_and_seeds_change_the_draw() -> None:
    """The items of a stage that are held out do not depend on what other stages hold; another seed takes
    others.
    """
    deal = ClassIncremental(stages=2).deal(3)
    alone = replace(deal, stages=deal.stages[:1])
    np.testing.assert_array_equal(
        held_out(deal, 0.2, 3).stages[0].query, held_out(alone, 0.2, 3).stages[0].query
    )
    assert not np.array_equal(held_out(deal, 0.2, 3).stages[0].query, held_out(deal, 0.2, 4).stages[0].query)


def test_an_item_that_comes_again_is_asked_and_trains_nowhere() -> None:
    """It comes with a label first and without one later, as in category discovery."""
    rows = np.arange(10)
    first = DealtStage(
        rows=rows, observed_labels=np.repeat([0, 1], 5), query=np.array([10]), named_classes=2, new_classes=2
    )
    second = DealtStage(
        rows=rows,
        observed_labels=np.full(10, HIDDEN),
        query=np.array([10]),
        named_classes=2,
        new_classes=None,
    )
    deal = held_out(
        Deal(inputs=np.zeros((11, 2)), labels=np.zeros(11, dtype=np.int64), facts={}, stages=[first, second]),
        0.4,
        0,
    )
    assert [len(stage.query) for stage in deal.stages] == [4, 4]
    np.testing.assert_array_equal(np.sort(np.concatenate([deal.stages[1].rows, deal.stages[0].query])), rows)


# --- classes that play novel ones ---------------------------------------------------------------------------


DISCOVERY = {
    "cgcd": CGCD(initial=6, new="2+2"),
    "unknown number": CGCD(initial=5, new="2", known_k=False),
    "noisy": NoisyLabels(over="cgcd[initial=6,new=2]", noise="symmetric[rate=0.3]"),
}
FAMILIES = pytest.mark.parametrize("scenario", DISCOVERY.values(), ids=DISCOVERY)


@FAMILIES
def test_some_labelled_classes_play_the_novel_ones(scenario: Scenario) -> None:
    """Half of six classes is three, half of five is two (rounded to even); a tenth of every known class comes
    again without labels.
    """
    own = _chosen_on(scenario)
    assert configured("scenario", own.of) == scenario
    beneath, deal = scenario.deal(1000), own.deal(1000)
    first, second = deal.stages
    n_classes = len(np.unique(beneath.stages[0].observed_labels))
    n_known = {6: 3, 5: 3}[n_classes]
    assert (first.named_classes, first.new_classes, second.named_classes) == (n_known, n_known, n_known)
    assert second.new_classes == (None if beneath.stages[1].new_classes is None else n_classes - n_known)
    assert set(first.observed_labels) == set(range(n_known))
    assert set(second.observed_labels) == {HIDDEN}
    assert set(deal.labels[first.query]) == set(range(n_known))
    assert set(deal.labels[second.query]) == set(range(n_classes))
    np.testing.assert_array_equal(first.query, second.query[deal.labels[second.query] < n_known])
    every = np.concatenate([first.rows, second.rows, second.query])
    np.testing.assert_array_equal(
        np.sort(every), np.sort(beneath.stages[0].rows)
    )  # each item once, and nothing of later stages
    counts = (
        np.bincount(deal.labels[first.rows], minlength=n_known),
        np.bincount(deal.labels[second.rows], minlength=n_classes),
    )
    for label in range(n_known):
        assert counts[1][label] == max(1, round(0.1 * (counts[0][label] + counts[1][label])))
    assert not np.array_equal(own.deal(1001).labels, deal.labels)


@FAMILIES
def test_classes_that_play_novel_ones_are_what_was_handed_over(scenario: Scenario) -> None:
    """Labels follow from those given by one renaming; with other hidden labels and another test, the deal has
    the same bytes.
    """
    beneath = scenario.deal(1000)
    deal = novel_half(beneath, 0.2, 0.5, 1000)
    stage = beneath.stages[0]
    pairs = set(zip(stage.observed_labels.tolist(), deal.labels[stage.rows].tolist(), strict=True))
    assert len(pairs) == len(set(stage.observed_labels)) == len({new for _, new in pairs})
    assert set(np.delete(deal.labels, stage.rows)) == {HIDDEN}
    shuffled = np.random.default_rng(0).permutation(len(beneath.labels))
    other = replace(
        beneath,
        labels=beneath.labels[shuffled],
        facts={},
        class_numbers=None,
        stages=[
            replace(one, query=shuffled[: len(one.query)], monitored=one.monitored[:0])
            for one in beneath.stages
        ],
    )
    assert fingerprint.of_deal(novel_half(other, 0.2, 0.5, 1000)) == fingerprint.of_deal(deal)


def test_the_figures_of_discovery_by_hand() -> None:
    """Known classes right; one of the novel classes in a row of its own, the other one shared out between the
    rows of the known ones.
    """
    scenario = HeldOut(of="cgcd", novel=0.5)
    sealed = build(scenario, 0)
    ids = [np.sort(query.ids) for _, query in sealed.episodes]
    labels = [sealed.truth.labels[own] for own in ids]
    rows = [
        labels[0],
        np.where(labels[1] == 3, np.arange(len(ids[1])) % 2, np.array([0, 1, 7, 0])[labels[1]]),
    ]
    first, second = (
        StoredPrediction(stage=at, step=None, ids=ids[at], arrays={"classes": rows[at]}) for at in (0, 1)
    )
    sizes = np.bincount(labels[1])
    scores = scenario.score(sealed.truth, [first, second])
    assert (
        scores.final
        == {
            "held_out_all": pytest.approx((sizes[0] + sizes[1] + sizes[2]) / sizes.sum()),
            "held_out_old": 1.0,
            "held_out_new": pytest.approx(sizes[2] / (sizes[2] + sizes[3])),
        }
        or sizes[3] > sizes[0]
    )  # else the row would go to the larger class
    assert scores.per_stage["held_out_all"][0] == 1.0
    assert scenario.score(sealed.truth, [first]).final == {"held_out_all": 1.0, "held_out_old": 1.0}
    assert [metric.name for metric in scenario.metrics] == list(scores.final)


def test_only_discovery_has_classes_that_could_play_novel_ones() -> None:
    with pytest.raises(
        UserError, match="novel above 0 is for scenarios that hand over labels in the first stage alone"
    ):
        HeldOut(of="class-incremental", novel=0.5).deal(0)
    with pytest.raises(UserError, match="the first stage has 2 classes, and at least three are needed"):
        HeldOut(of="cgcd[initial=2]", novel=0.5).deal(0)
    assert CGCD(initial=2).model_selection() == ""
    assert CGCD(choose="best-on-test", probe_every=5).model_selection() == ""


def test_items_handed_over_to_choose_by_stay_so() -> None:
    scenario = WITH_CHOOSING["noisy"]
    beneath, deal = scenario.deal(0), _chosen_on(scenario).deal(0)
    np.testing.assert_array_equal(beneath.stages[0].validation, deal.stages[0].validation)
    np.testing.assert_array_equal(beneath.stages[0].validation_labels, deal.stages[0].validation_labels)
    assert not np.isin(deal.stages[0].validation, deal.stages[0].query).any()


def test_conditions_follow_the_scenario_beneath() -> None:
    for scenario in WITH_CHOOSING.values():
        own = _chosen_on(scenario)
        assert own.budget() == replace(scenario.budget(), probe_every=0, probe_epochs=0, probe_tail=0)
        assert (own.lower_bound, own.upper_bound) == (scenario.lower_bound, scenario.upper_bound)
        assert own.data_digests() == scenario.data_digests()


def test_the_truth_gets_full_marks_from_the_scenario_itself() -> None:
    scenario = _chosen_on(WITH_CHOOSING["noisy stream"])
    sealed = build(scenario, 0)
    perfect = [
        StoredPrediction(
            stage=index, step=None, ids=ids, arrays={"classes": scenario.perfect(sealed.truth, ids).classes}
        )
        for index, (_, query) in enumerate(sealed.episodes)
        for ids in [np.sort(query.ids)]
    ]
    assert scenario.score(sealed.truth, perfect).final == {
        "held_out_accuracy": 1.0,
        "final_held_out_accuracy": 1.0,
    }


@pytest.mark.parametrize(
    "text", ["anomaly", "two-gaussians", "ncd", "held-out", "noisy-labels[over=two-gaussians]", BLOBS]
)
def test_who_declares_nothing_has_nothing(text: str) -> None:
    assert configured("scenario", text).model_selection() == ""


def test_what_a_selection_cannot_say_is_not_declared() -> None:
    """A comma in a value would end it; a class derived from a built-in one does not go by its name."""

    class Mine(ClassIncremental):
        pass

    assert (
        model_selection_on(
            "class-incremental",
            Grokking(kind="transition", rows="0.9/0.1;0.2/0.8", modulus=2, operation="random_table"),
        )
        == ""
    )
    assert Mine().model_selection() == ""


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"of": "held-out"}, "held-out needs a scenario of another kind in `of`, not itself"),
        (
            {"of": "clas-incremental"},
            "unknown scenario 'clas-incremental'; did you mean 'class-incremental'?",
        ),
    ],
)
def test_what_does_not_fit_is_refused(params: dict[str, str], sentence: str) -> None:
    with pytest.raises((UserError, ValueError), match=sentence.replace("?", r"\?")):
        HeldOut(**params)


def test_labels_that_nobody_is_handed_over_cannot_be_held_out() -> None:
    stage = DealtStage(
        rows=np.arange(4),
        observed_labels=np.full(4, HIDDEN),
        query=np.array([4]),
        named_classes=0,
        new_classes=None,
    )
    with pytest.raises(UserError, match="no two training items of a class come with a label"):
        held_out(Deal(inputs=np.zeros((5, 2)), labels=np.arange(5), facts={}, stages=[stage]), 0.2, 0)


def test_no_board_takes_it(tmp_path: Path) -> None:
    todo = cells(protocols([f"held-out[of={BLOBS}]"]), contenders(["fine-tune"]), 1)
    with pytest.raises(UserError, match="cannot stand on a board: held-out deals no test item"):
        publish("mine", None, todo, Store(str(tmp_path)), None)  # type: ignore[arg-type]
