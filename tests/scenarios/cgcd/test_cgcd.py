"""C-GCD: who gets which items, what is told and what is not, and scores of answers whose worth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.cell.sealing import Sealed, build
from harness.checks.scenarios import check_scenario
from harness.contracts import HIDDEN, Deal, StoredPrediction
from harness.errors import UserError
from harness.plugins import find
from harness.selection import resolved, single
from scenarios.cgcd.scenario import CGCD, Allocation
from scenarios.shared.class_lists import class_list

EMBEDDED = ("digits", "chars47", "glyphs", "clinc150")


def _scenario(text: str) -> CGCD:
    plugin = find("scenario", "cgcd")
    scenario: CGCD = plugin.cls(**resolved(plugin, single(text)))
    return scenario


def _allocated(
    text: str, train: int | list[int], test: int | list[int], *, classes: int, seed: int = 0
) -> tuple[CGCD, Allocation]:
    """Allocate `train` and `test` items of every class, in the order of the classes."""
    scenario = _scenario(text)
    labels = np.concatenate([np.repeat(np.arange(classes), train), np.repeat(np.arange(classes), test)])
    is_test = np.arange(len(labels)) >= np.sum(np.broadcast_to(train, classes))
    return scenario, scenario.allocate(labels, is_test, classes, seed)


def _sizes(dealt: Allocation) -> list[int]:
    return [len(stage.rows) for stage in dealt.stages]


def _asked(dealt: Allocation) -> list[int]:
    return [len(stage.query) for stage in dealt.stages]


@pytest.fixture(scope="module", params=EMBEDDED)
def dealt(request: pytest.FixtureRequest) -> tuple[CGCD, Deal]:
    scenario = _scenario(f"cgcd[preset={request.param}]")
    return scenario, scenario.deal(1)


# --- the invariants of the protocol -------------------------------------------------------------------------


def test_only_stage_0_has_labels_and_they_are_true(dealt: tuple[CGCD, Deal]) -> None:
    _, deal = dealt
    np.testing.assert_array_equal(deal.stages[0].observed_labels, deal.labels[deal.stages[0].rows])
    assert all((stage.observed_labels == HIDDEN).all() for stage in deal.stages[1:])


def test_a_stage_holds_exactly_the_classes_revealed_so_far_in_the_right_numbers(
    dealt: tuple[CGCD, Deal],
) -> None:
    scenario, deal = dealt
    known = scenario.initial
    for index, stage in enumerate(deal.stages[1:], 1):
        counts = np.bincount(deal.labels[stage.rows])
        new = stage.new_classes or 0
        assert len(counts) == known + new
        assert set(counts[: scenario.initial]) == {int(scenario.n_init)}
        assert set(counts[scenario.initial : known]) <= {int(scenario.n_seen)}
        assert set(counts[known:]) == {int(scenario.n_new)}, index
        known += new


def test_labelled_items_never_come_again(dealt: tuple[CGCD, Deal]) -> None:
    _, deal = dealt
    for stage in deal.stages[1:]:
        assert not np.intersect1d(stage.rows, deal.stages[0].rows).size


def test_test_items_are_apart_and_nested(dealt: tuple[CGCD, Deal]) -> None:
    _, deal = dealt
    asked: set[int] = set()
    for index, stage in enumerate(deal.stages):
        assert not np.intersect1d(stage.query, np.concatenate([each.rows for each in deal.stages])).size
        assert asked <= set(stage.query)
        asked = set(stage.query)
        assert set(deal.facts["stage"][stage.query]) == set(range(index + 1))


def test_the_labelled_share_is_rounded_down_class_by_class() -> None:
    _, dealt = _allocated("cgcd[initial=2,new=1x2,n_new=5,n_init=1,n_seen=1]", [9, 14, 20, 20], 3, classes=4)
    counts = np.bincount(dealt.labels[dealt.stages[0].rows])
    sizes = np.bincount(dealt.labels)[:2] - 3
    np.testing.assert_array_equal(counts, (0.8 * sizes).astype(int))


def test_what_comes_again_has_a_new_id_and_no_order_tells_old_from_new() -> None:
    """A known id would tell that the class is old. Ids come sorted, so the order is that of a random
    numbering.
    """
    sealed = build(_scenario("cgcd[preset=digits]"), 0)
    ids = [stage.ids for stage, _ in sealed.episodes]
    assert len(np.unique(np.concatenate(ids))) == sum(map(len, ids))
    shown = {
        stage.inputs[row].tobytes() for stage, _ in sealed.episodes[1:2] for row in range(len(stage.ids))
    }
    again = [
        stage.inputs[row].tobytes() in shown
        for stage, _ in sealed.episodes[2:3]
        for row in range(len(stage.ids))
    ]
    assert any(again), "the deal does show items twice"
    is_new = sealed.truth.facts["stage"][ids[1]] == 1
    halves = np.array_split(is_new, 2)
    assert abs(halves[0].mean() - halves[1].mean()) < 0.15


def test_expected_reuse_follows_from_independent_draws() -> None:
    """CIFAR-100 sizes: an initial item of stage t was shown before with probability 1 - 0.75^(t-1) (25 of a
    pool of 100).
    """
    _, dealt = _allocated("cgcd[preset=happy-cifar100]", 500, 100, classes=100)
    shown: set[int] = set()
    for index, stage in enumerate(dealt.stages[1:]):
        initial = [row for row in stage.rows if dealt.arrival[row] == 0]
        assert np.mean([row in shown for row in initial]) == pytest.approx(1 - 0.75**index, abs=0.05)
        shown |= set(initial)


def test_disjoint_draws_show_nothing_twice() -> None:
    _, dealt = _allocated("cgcd[preset=digits,resample=disjoint]", 140, 20, classes=10)
    rows = np.concatenate([stage.rows for stage in dealt.stages])
    assert len(np.unique(rows)) == len(rows)
    assert _sizes(dealt) == [4 * 112, 232, 248, 264]


def test_seeds_change_order_labelled_part_and_draws_and_streams_are_apart() -> None:
    base, other = (_allocated("cgcd[preset=digits]", 140, 20, classes=10, seed=seed)[1] for seed in (0, 1))
    assert not np.array_equal(base.labels, other.labels)
    longer = _allocated("cgcd[preset=digits,n_seen=9]", 140, 20, classes=10)[1]
    np.testing.assert_array_equal(base.stages[0].rows, longer.stages[0].rows)
    np.testing.assert_array_equal(base.stages[1].rows, longer.stages[1].rows)


def test_class_orders() -> None:
    natural = _allocated("cgcd[preset=digits,class_order=natural]", 140, 20, classes=10)[1]
    np.testing.assert_array_equal(natural.labels[:1400:140], np.arange(10))
    novel = _allocated("cgcd[preset=digits,class_order=novel]", 140, 20, classes=10)[1].labels[:1400:140]
    assert list(novel[:4]) == [0, 1, 2, 3]
    assert sorted(novel) == list(range(10))
    assert list(novel) != list(range(10))


# --- the published allocations ------------------------------------------------------------------------------

CIFAR_ASKED = [5000, 6000, 7000, 8000, 9000, 10000]


@pytest.mark.parametrize(
    ("preset", "classes", "train", "test", "sizes", "asked"),
    [
        ("happy-cifar100", 100, 500, 100, [20000, 5250, 5500, 5750, 6000, 6250], CIFAR_ASKED),
        ("happy-tinyimagenet", 200, 500, 50, [40000, 10500, 11000, 11500, 12000, 12500], CIFAR_ASKED),
        (
            "happy-imagenet100",
            1000,
            1300,
            50,
            [52000, 13000, 13600, 14200, 14800, 15400],
            [2500, 3000, 3500, 4000, 4500, 5000],
        ),
        (
            "happy-cub",
            200,
            30,
            29,
            [2400, 1000, 1100, 1200, 1300, 1400],
            [2900, 3480, 4060, 4640, 5220, 5800],
        ),
        (
            "happy-aircraft",
            100,
            67,
            33,
            [2650, 1050, 1150, 1250, 1350, 1450],
            [1650, 1980, 2310, 2640, 2970, 3300],
        ),
        (
            "happy-cifar100-10",
            100,
            500,
            100,
            [20000, *range(3250, 4500, 125)],
            [5000 + 500 * t for t in range(11)],
        ),
    ],
)
def test_published_stage_sizes(
    preset: str, classes: int, train: int, test: int, sizes: list[int], asked: list[int]
) -> None:
    """Sizes of Happy's released code (README, logs); CUB, Aircraft and ImageNet with equally large classes
    instead of their own.
    """
    _, dealt = _allocated(f"cgcd[preset={preset}]", train, test, classes=classes)
    assert _sizes(dealt) == sizes
    assert _asked(dealt) == asked


def test_cars_last_stage_takes_the_leftover_classes_and_short_classes_give_all() -> None:
    first = class_list("cars-known", "initial_list")[0]
    train = [24 if number == first else 42 for number in range(196)]
    scenario, dealt = _allocated("cgcd[preset=happy-cars]", train, 41, classes=196)
    assert [stage.new_classes for stage in dealt.stages[1:]] == [19, 19, 19, 19, 22]
    counts = [np.bincount(dealt.labels[stage.rows], minlength=196) for stage in dealt.stages[1:]]
    assert counts[0][0] == 24 - int(0.8 * 24), "a pool of 5 where 6 are asked"
    assert set(counts[0][98:117]) == {30}
    assert scenario.shortage == "all"


def test_imagenet_draws_its_hundred_classes_under_the_seed() -> None:
    taking_part = [
        set(
            np.flatnonzero(
                _allocated("cgcd[preset=happy-imagenet100]", 1300, 50, classes=1000, seed=seed)[1].arrival[
                    : 1000 * 1300 : 1300
                ]
                <= 5
            )
        )
        for seed in (0, 1)
    ]
    assert [len(each) for each in taking_part] == [100, 100]
    assert taking_part[0] != taking_part[1]


def test_metagcd_keeps_initial_items_apart_and_redraws_novel_ones() -> None:
    _, dealt = _allocated("cgcd[preset=metagcd-cifar100]", 500, 100, classes=100)
    initial = np.concatenate([stage.rows[dealt.arrival[stage.rows] == 0] for stage in dealt.stages])
    assert len(np.unique(initial)) == len(initial)
    counts = [np.bincount(dealt.labels[stage.rows], minlength=100) for stage in dealt.stages[1:]]
    assert [(set(each[:80]), set(each[80 : 80 + 5 * t])) for t, each in enumerate(counts, 1)] == [
        ({25}, {300})
    ] * 4


def test_class_incd_stages_hold_novel_classes_alone() -> None:
    _, dealt = _allocated("cgcd[preset=class-incd-cifar100]", 500, 100, classes=100)
    assert [sorted(set(dealt.arrival[stage.rows])) for stage in dealt.stages] == [[0], [1], [2]]
    assert _sizes(dealt) == [40000, 5000, 5000]


def test_promptccd_shares_a_class_over_the_stages() -> None:
    _, dealt = _allocated("cgcd[preset=promptccd-cifar100]", 500, 100, classes=100)
    counts = [np.bincount(dealt.labels[stage.rows], minlength=100) for stage in dealt.stages]
    assert [set(each[:70]) for each in counts] == [{435}, {35}, {15}, {15}]
    assert [set(each[70:80]) for each in counts[1:]] == [{350}, {100}, {50}]
    assert [set(each[80:90]) for each in counts[2:]] == [{450}, {50}]
    assert [set(each[90:]) for each in counts[3:]] == [{500}]
    rows = np.concatenate([stage.rows for stage in dealt.stages])
    assert len(np.unique(rows)) == len(rows)


def test_amounts_as_shares_all_and_per_stage() -> None:
    _, dealt = _allocated("cgcd[initial=2,new=2x2,n_new=all+50%,n_init=10%,n_seen=3]", 100, 5, classes=6)
    counts = [list(np.bincount(dealt.labels[stage.rows], minlength=6)) for stage in dealt.stages[1:]]
    assert counts == [[10, 10, 100, 100, 0, 0], [10, 10, 3, 3, 50, 50]]


def test_the_imbalance_falls_geometrically_within_a_group() -> None:
    _, dealt = _allocated("cgcd[initial=3,new=1x3,n_new=100,n_init=16,imbalance=4]", 100, 5, classes=6)
    assert list(np.bincount(dealt.labels[dealt.stages[1].rows])) == [16, 8, 4, 100, 50, 25]
    _, new_only = _allocated(
        "cgcd[initial=3,new=1x3,n_new=100,n_init=16,imbalance=4,imbalance_in=new]", 100, 5, classes=6
    )
    assert list(np.bincount(new_only.labels[new_only.stages[1].rows])) == [16, 16, 16, 100, 50, 25]


def test_an_unknown_number_of_classes_is_not_told() -> None:
    stages = [stage for stage, _ in build(_scenario("cgcd[preset=digits,known_k=false]"), 0).episodes]
    assert [(stage.named_classes, stage.new_classes) for stage in stages] == [
        (4, 4),
        (4, None),
        (4, None),
        (4, None),
    ]


def test_scopes_of_the_test() -> None:
    whole = _allocated("cgcd[preset=digits,test_scope=all]", 140, 20, classes=10)[1]
    own = _allocated("cgcd[preset=digits,test_scope=stage]", 140, 20, classes=10)[1]
    assert _asked(whole) == [200] * 4
    assert [set(own.arrival[stage.query]) for stage in own.stages] == [{0}, {1}, {2}, {3}]


# --- what cannot be done ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cgcd[initial=4,new=3x3]", "need 13 classes, digits has 10"),
        ("cgcd[initial=1]", "initial should be greater than or equal to 2"),
        ("cgcd[new=threextwo]", "such as 5x10"),
        ("cgcd[n_new=-3]", "n_new should be a number of items"),
        ("cgcd[n_new=120%]", "n_new should be a number of items"),
        ("cgcd[n_new=1000]", "needs 1000 items of class"),
        ("cgcd[n_new=100+90]", "says 2 amounts for 3 stages"),
        ("cgcd[n_init=60]", "needs 60 items of class"),
        ("cgcd[resample=disjoint,n_init=12]", "set shortage=all or resample=independent"),
        ("cgcd[shares=50/60]", "exceed 100 per cent"),
        ("cgcd[shares=50/50;100]", "4 rows of 4 down to 1 figures"),
        ("cgcd[test_fraction=0]", "no published test split"),
        ("cgcd[classes=12]", "has 10 classes"),
        ("cgcd[new=2+0+2,test_scope=stage]", "without new classes"),
        ("cgcd[dataset=digit]", "did you mean 'digits'"),
    ],
)
def test_bad_input_is_told_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UserError) as problem:
        _scenario(text).deal(0)
    assert said in str(problem.value)
    assert "\n" not in str(problem.value)


# --- scores -------------------------------------------------------------------------------------------------


def _answers(sealed: Sealed, respond: Any) -> list[StoredPrediction]:
    given = []
    for index, (_, query) in enumerate(sealed.episodes):
        ids = np.sort(query.ids)
        arrays = respond(index, sealed.truth.labels[ids], sealed.truth.facts["stage"][ids])
        given.append(StoredPrediction(stage=index, step=None, ids=ids, arrays=arrays))
    return given


@pytest.fixture(scope="module")
def sealed() -> Sealed:
    return build(_scenario("cgcd[preset=digits]"), 0)


def test_the_truth_under_any_names_scores_one(sealed: Sealed) -> None:
    names = np.random.default_rng(0).permutation(10)
    scores = CGCD().score(
        sealed.truth,
        _answers(
            sealed,
            lambda index, labels, _: {"classes": names[labels], "clusters": labels * 0 + 4 + 2 * index},
        ),
    )
    perfect = {
        "mean_all",
        "mean_old",
        "mean_new",
        "last_all",
        "last_old",
        "last_new",
        "last_initial",
        "last_novel",
        "first",
        "nmi",
        "ari",
        "balanced_all",
        "hardest_initial",
    }
    assert {name: scores.final[name] for name in perfect} == dict.fromkeys(perfect, pytest.approx(1.0))
    assert {
        scores.final[name]
        for name in ("forgetting_initial", "forgetting_seen", "k_error", "initial_variance")
    } == {0.0}
    np.testing.assert_allclose(scores.matrices["accuracy"], np.where(np.tri(4, dtype=bool), 1.0, np.nan))


def test_everything_new_taken_for_one_old_class(sealed: Sealed) -> None:
    """Old classes stay right; every class found since ends in row 0. Row 0 goes to whichever of its classes
    has most items there.
    """
    scores = CGCD().score(
        sealed.truth,
        _answers(sealed, lambda _, labels, arrival: {"classes": np.where(arrival == 0, labels, 0)}),
    )
    assert scores.final["new_taken_for_old"] == 1.0
    assert scores.final["first"] == 1.0
    groups = scores.per_stage
    labels = [sealed.truth.labels[query.ids] for _, query in sealed.episodes]
    largest = max(np.bincount(labels[1])[[0, 4, 5]])
    right = sum(np.bincount(labels[1])[[1, 2, 3]]) + largest
    assert groups["all"][1] == pytest.approx(right / len(labels[1]))
    assert np.isnan(groups["old"][0])
    assert np.isnan(scores.final["k_error"]), "nobody said how many rows there are"


def test_all_is_the_mean_of_old_and_new_by_their_items(sealed: Sealed) -> None:
    rng = np.random.default_rng(0)
    scores = CGCD().score(
        sealed.truth,
        _answers(
            sealed, lambda _, labels, __: {"classes": np.where(rng.random(len(labels)) < 0.6, labels, 7)}
        ),
    )
    for index, (_, query) in enumerate(sealed.episodes[1:], 1):
        arrival = sealed.truth.facts["stage"][query.ids]
        stage = {name: values[index] for name, values in scores.per_stage.items()}
        is_new, is_first = (arrival == index).mean(), (arrival == 0).mean()
        assert stage["all"] == pytest.approx(stage["new"] * is_new + stage["old"] * (1 - is_new))
        assert stage["all"] == pytest.approx(stage["initial"] * is_first + stage["novel"] * (1 - is_first))


def test_the_probability_gap_is_old_minus_new(sealed: Sealed) -> None:
    respond = lambda _, labels, __: {
        "classes": labels,
        "old_probability": np.full(len(labels), 0.75, np.float16),
    }
    assert CGCD().score(sealed.truth, _answers(sealed, respond)).final["probability_gap"] == pytest.approx(
        0.5
    )


def test_clusters_said_give_the_error_of_k_and_what_counts_as_old(sealed: Sealed) -> None:
    """True are 4, 6, 8, 10 classes; the learner says 4, 7, 8, 8: errors 1, 0, -2."""
    said = [4, 7, 8, 8]
    respond = lambda index, labels, _: {"classes": labels, "clusters": np.full(len(labels), said[index])}
    scores = CGCD(known_k=False).score(sealed.truth, _answers(sealed, respond))
    np.testing.assert_array_equal(scores.per_stage["k_error"], [0, 1, 0, -2])
    assert scores.final["k_error"] == pytest.approx(1.0)
    asked = [sealed.truth.labels[query.ids] for _, query in sealed.episodes]
    below = [np.mean(asked[t][asked[t] >= 2 + 2 * t] < said[t - 1]) for t in (1, 2, 3)]
    np.testing.assert_allclose(scores.per_stage["new_taken_for_old"][1:], below)


def test_a_stage_without_new_classes_leaves_new_undefined_and_the_rest_scored() -> None:
    scenario = _scenario("cgcd[preset=digits,new=2+0+2]")
    sealed = build(scenario, 0)
    scores = scenario.score(sealed.truth, _answers(sealed, lambda _, labels, __: {"classes": labels}))
    assert np.isnan(scores.per_stage["new"][2])
    assert scores.final["mean_new"] == 1.0
    assert scores.per_stage["old"][2] == 1.0


def test_rows_of_any_number_are_scored_without_a_table_of_their_size(sealed: Sealed) -> None:
    scores = CGCD().score(
        sealed.truth, _answers(sealed, lambda _, labels, __: {"classes": labels * 10**12 - 5})
    )
    assert scores.final["mean_all"] == 1.0


def test_the_answer_with_the_best_test_accuracy_counts_only_where_that_is_said_and_no_board_takes_it(
    sealed: Sealed,
) -> None:
    ended = _answers(sealed, lambda _, labels, __: {"classes": labels * 0})
    probes = [replace(a, step=7, arrays={"classes": sealed.truth.labels[a.ids]}) for a in ended]
    last, best = (
        _scenario("cgcd[preset=digits]"),
        _scenario("cgcd[preset=digits,choose=best-on-test,probe_every=7]"),
    )
    assert last.score(sealed.truth, [*probes, *ended]).final["mean_all"] < 0.5
    assert best.score(sealed.truth, [*probes, *ended]).final["mean_all"] == 1.0
    assert last.board_exclusion_reason() == ""
    assert "test accuracy" in best.board_exclusion_reason()
    with pytest.raises(UserError, match="set probe_every"):
        _scenario("cgcd[choose=best-on-test]").deal(0)


def test_an_unfinished_run_has_stages_but_no_summary(sealed: Sealed) -> None:
    scores = CGCD().score(sealed.truth, _answers(sealed, lambda _, labels, __: {"classes": labels})[:2])
    assert scores.final == {}
    assert scores.per_stage["all"] == [1.0, 1.0]


def test_transductive_answers_are_scored_apart() -> None:
    scenario = _scenario("cgcd[preset=digits,transductive=true]")
    sealed = build(scenario, 0)
    on_test = {
        stage: set(query.ids[sealed.truth.facts["is_test"][query.ids]])
        for stage, (_, query) in enumerate(sealed.episodes)
    }
    answers = _answers(sealed, lambda _, labels, __: {"classes": labels})
    wrong = [
        replace(
            a, arrays={"classes": np.where(np.isin(a.ids, list(on_test[a.stage])), a.arrays["classes"], 0)}
        )
        for a in answers
    ]
    scores = scenario.score(sealed.truth, wrong)
    assert scores.final["mean_all"] == 1.0
    assert max(scores.per_stage["transductive_all"][1:]) < 0.5


@pytest.mark.parametrize(
    "text",
    ["cgcd[preset=digits]", "cgcd[preset=clinc150]", "cgcd[preset=digits,known_k=false,transductive=true]"],
)
def test_the_scenario_conforms(text: str) -> None:
    assert [finding for finding in check_scenario(_scenario(text)) if not finding.holds] == []
