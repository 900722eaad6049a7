"""Novel class discovery: who gets which items and labels, what is told, and every figure on answers whose
worth is counted by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cell.run import CellContext, CellSettings
from harness.cell.sealing import Sealed, build, fully_labelled, seal
from harness.checks.scenarios import check_scenario
from harness.contracts import HIDDEN, Deal, Scores, StoredPrediction, Truth
from harness.errors import UserError
from harness.parameters import validated
from harness.store import plots
from scenarios.datasets.by_name import dataset_named
from scenarios.ncd.scenario import NCD, Allocation
from scenarios.ncd.scoring import HELD, LABELLED, METRICS, TEST, UNLABELLED
from scenarios.shared.class_lists import PUBLISHED, class_list

EMBEDDED = ("digits", "chars47", "clinc150", "gcd-digits")


def _scenario(preset: str = "digits", **said: Any) -> NCD:
    return NCD(**validated(NCD, {**NCD.presets[preset].values, **said}))


def _allocated(
    scenario: NCD, train: int | list[int], test: int, *, classes: int, seed: int = 0
) -> Allocation:
    """Allocate `train` and `test` items of every class, in the order of the classes."""
    labels = np.concatenate([np.repeat(np.arange(classes), train), np.repeat(np.arange(classes), test)])
    is_test = np.arange(len(labels)) >= np.sum(np.broadcast_to(train, classes))
    return scenario.allocate(labels, is_test, classes, seed)


def _sizes(dealt: Allocation | Deal) -> tuple[int, int]:
    """Return how many items of stage 1 come with labels, and without."""
    given = dealt.stages[1].observed_labels
    return int((given != HIDDEN).sum()), int((given == HIDDEN).sum())


def _counts(dealt: Allocation, part: int) -> list[int]:
    """Return the items of every class that have a role."""
    own = dealt.labels[dealt.role == part]
    return [int((own == label).sum()) for label in range(len(dealt.numbers))]


@pytest.fixture(scope="module", params=EMBEDDED)
def dealt(request: pytest.FixtureRequest) -> tuple[NCD, Deal]:
    scenario = _scenario(request.param)
    return scenario, scenario.deal(1)


# --- the invariants of the protocol -------------------------------------------------------------------------


def test_labels_are_true_and_those_of_known_classes_alone(dealt: tuple[NCD, Deal]) -> None:
    scenario, deal = dealt
    first, second = deal.stages
    np.testing.assert_array_equal(first.observed_labels, deal.labels[first.rows])
    assert set(first.observed_labels) == set(range(scenario.known))
    visible = second.observed_labels != HIDDEN
    np.testing.assert_array_equal(second.rows[visible], first.rows)
    np.testing.assert_array_equal(second.observed_labels[visible], first.observed_labels)


def test_an_unlabelled_item_is_in_stage_1_alone_and_watched_there(dealt: tuple[NCD, Deal]) -> None:
    _, deal = dealt
    unlabelled = deal.stages[1].rows[deal.stages[1].observed_labels == HIDDEN]
    np.testing.assert_array_equal(unlabelled, deal.stages[1].monitored)
    np.testing.assert_array_equal(np.flatnonzero(deal.facts["role"] == UNLABELLED), unlabelled)
    assert len(deal.stages[0].monitored) == 0
    assert not np.intersect1d(unlabelled, deal.stages[0].rows).size


def test_unlabelled_items_are_novel_unless_mixed(dealt: tuple[NCD, Deal]) -> None:
    scenario, deal = dealt
    classes = set(deal.labels[deal.stages[1].monitored])
    mixed = scenario.unlabelled_known == "mix"
    assert classes == set(range(0 if mixed else scenario.known, scenario.known + scenario.novel))


def test_the_whole_test_is_asked_after_both_stages_and_never_shown(dealt: tuple[NCD, Deal]) -> None:
    scenario, deal = dealt
    first, second = deal.stages
    np.testing.assert_array_equal(first.query, second.query)
    np.testing.assert_array_equal(np.flatnonzero(deal.facts["role"] == TEST), first.query)
    assert set(deal.labels[first.query]) == set(range(scenario.known + scenario.novel))
    assert not np.intersect1d(first.query, second.rows).size


def test_what_is_named_and_told(dealt: tuple[NCD, Deal]) -> None:
    scenario, deal = dealt
    assert [(stage.named_classes, stage.new_classes) for stage in deal.stages] == [
        (scenario.known, scenario.known),
        (scenario.known, scenario.novel),
    ]


def test_class_numbers_lead_back_to_the_data_set(dealt: tuple[NCD, Deal]) -> None:
    scenario, deal = dealt
    numbers = deal.class_numbers
    assert numbers is not None
    assert len(set(numbers)) == len(numbers) == scenario.known + scenario.novel
    own, takes_part = dataset_named(scenario.dataset).load().labels, deal.labels < len(numbers)
    np.testing.assert_array_equal(numbers[deal.labels[takes_part]], own[takes_part])
    assert not set(own[~takes_part]) & set(numbers)


def test_labelled_items_keep_their_ids_and_hidden_labels_stay_hidden() -> None:
    (first, _), (second, query) = build(_scenario("gcd-digits"), 0).episodes
    again = second.labels != HIDDEN
    np.testing.assert_array_equal(second.ids[again], first.ids)
    np.testing.assert_array_equal(second.labels[again], first.labels)
    assert set(second.ids[~again]) <= set(query.ids)
    assert not np.isin(second.ids[again], query.ids).any()


def test_ids_do_not_tell_known_from_novel_among_unlabelled_items() -> None:
    sealed = build(_scenario("gcd-digits"), 0)
    stage = sealed.episodes[1].stage
    is_novel = sealed.truth.labels[stage.ids[stage.labels == HIDDEN]] >= 5
    halves = np.array_split(is_novel, 2)
    assert 0.4 < is_novel.mean() < 0.8
    assert abs(halves[0].mean() - halves[1].mean()) < 0.1


def test_the_upper_bound_is_handed_every_label_and_every_class() -> None:
    deal = fully_labelled(_scenario("gcd-digits", told_novel="none").deal(0))
    np.testing.assert_array_equal(deal.stages[1].observed_labels, deal.labels[deal.stages[1].rows])
    assert [(stage.named_classes, stage.new_classes) for stage in deal.stages] == [(5, 5), (10, 5)]


@pytest.mark.parametrize("preset", EMBEDDED)
def test_the_scenario_conforms(preset: str) -> None:
    assert [finding for finding in check_scenario(_scenario(preset)) if not finding.holds] == []


def test_it_conforms_with_items_held_out_and_a_number_not_told() -> None:
    scenario = _scenario("gcd-digits", validation_fraction=0.2, told_novel="none", imbalance=4)
    assert [finding for finding in check_scenario(scenario) if not finding.holds] == []


# --- the published splits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "classes", "train", "test", "known", "sizes", "asked"),
    [
        ("cifar10-5", 10, 5000, 1000, 5, (25_000, 25_000), (5000, 5000)),
        ("cifar100-20", 100, 500, 100, 80, (40_000, 10_000), (8000, 2000)),
        ("cifar100-50", 100, 500, 100, 50, (25_000, 25_000), (5000, 5000)),
        ("imagenet-30-a", 1000, 13, 50, 882, (882 * 13, 30 * 13), (44_100, 1500)),
        ("imagenet-30-b", 1000, 13, 50, 882, (882 * 13, 30 * 13), (44_100, 1500)),
        ("imagenet-30-c", 1000, 13, 50, 882, (882 * 13, 30 * 13), (44_100, 1500)),
        ("cub", 200, 30, 29, 100, (3000, 3000), (2900, 2900)),
        ("cars", 196, 42, 41, 98, (98 * 42, 98 * 42), (98 * 41, 98 * 41)),
        ("aircraft", 100, 67, 33, 50, (3350, 3350), (1650, 1650)),
        ("gcd-cifar10", 10, 5000, 1000, 5, (12_500, 37_500), (5000, 5000)),
        ("gcd-cifar100", 100, 500, 100, 80, (20_000, 30_000), (8000, 2000)),
        ("gcd-imagenet100", 100, 13, 50, 50, (325, 975), (2500, 2500)),
        ("gcd-imagenet", 1000, 14, 50, 500, (3500, 10_500), (25_000, 25_000)),
        ("gcd-cub", 200, 30, 29, 100, (1500, 4500), (2900, 2900)),
        ("gcd-cars", 196, 42, 41, 98, (2058, 6174), (98 * 41, 98 * 41)),
        ("gcd-aircraft", 100, 67, 33, 50, (1675, 5025), (1650, 1650)),
        ("gcd-herbarium", 683, 50, 4, 341, (8525, 25_625), (1364, 1368)),
    ],
)
def test_published_sizes(
    preset: str,
    classes: int,
    train: int,
    test: int,
    known: int,
    sizes: tuple[int, int],
    asked: tuple[int, int],
) -> None:
    """ImageNet with a hundredth of its training items; the fine-grained sets with equally large classes
    instead of their own.
    """
    dealt = _allocated(_scenario(preset), train, test, classes=classes)
    is_known = dealt.labels[dealt.stages[0].query] < known
    assert _sizes(dealt) == sizes
    assert (int(is_known.sum()), int((~is_known).sum())) == asked
    assert len(np.unique(dealt.numbers)) == len(dealt.numbers)


def test_svhn_keeps_its_unequal_classes() -> None:
    train = [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659]
    dealt = _allocated(_scenario("svhn-5"), train, 100, classes=10)
    assert _sizes(dealt) == (sum(train[:5]), sum(train[5:]))
    np.testing.assert_array_equal(dealt.numbers, np.arange(10))


def test_the_published_lists_fit_together() -> None:
    """Sizes as in the papers; the parts are disjoint and, where two lists make up a data set, complete."""
    lists = {name: class_list(name, "known_list") for name in PUBLISHED}
    for name, size, known in (
        ("cub", 200, 100),
        ("cars", 196, 98),
        ("aircraft", 100, 50),
        ("herbarium", 683, 341),
    ):
        assert len(lists[f"{name}-known"]) == known
        assert sorted(lists[f"{name}-known"] + lists[f"{name}-novel"]) == list(range(size))
    thirty = [set(lists[f"imagenet-30-{letter}"]) for letter in "abc"]
    assert [len(each) for each in thirty] == [30, 30, 30]
    assert len(set(lists["imagenet-882"])) == 882
    assert set.union(*thirty).isdisjoint(lists["imagenet-882"])
    assert len({*lists["imagenet-100-known"], *lists["imagenet-100-novel"]}) == 100
    assert max(lists["imagenet-100-known"]) < min(lists["imagenet-100-novel"])


def test_imagenet_lists_are_the_published_word_net_ids() -> None:
    """Class numbers are places among the 1000 sorted ids, here as timm ships them; the first and last of each
    published list.
    """
    timm = find_spec("timm")
    assert timm is not None
    assert timm.origin is not None
    ids = (Path(timm.origin).parent / "data" / "_info" / "imagenet_synsets.txt").read_text().split()
    assert ids == sorted(ids)
    ends = {
        letter: [ids[class_list(f"imagenet-30-{letter}", "novel_list")[end]] for end in (0, -1)]
        for letter in "abc"
    }
    assert ends == {
        "a": ["n01580077", "n07695742"],
        "b": ["n01883070", "n12998815"],
        "c": ["n01580077", "n07716906"],
    }
    rest = [
        ids[number] for number in range(1000) if number not in set(class_list("imagenet-882", "known_list"))
    ]
    assert (len(rest), rest[0], rest[-1]) == (118, "n01498041", "n13133613")


def test_cub_novel_classes_come_hard_ones_first() -> None:
    novel = class_list("cub-novel", "novel_list")
    assert (novel[0], novel[34], novel[68], novel[-1]) == (29, 152, 20, 138)
    dealt = _allocated(_scenario("cub"), 2, 1, classes=200)
    np.testing.assert_array_equal(dealt.numbers[[0, 100]], [150, 29])


# --- what parameters do -------------------------------------------------------------------------------------


def test_seeds_change_classes_and_streams_are_apart() -> None:
    scenario = _scenario("chars47", unlabelled_known="mix", labelled_fraction=0.5, validation_fraction=0.1)
    base, same, other = (_allocated(scenario, 20, 5, classes=47, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(base.role, same.role)
    assert set(base.numbers[:24]) != set(other.numbers[:24])
    without = _allocated(
        _scenario("chars47", unlabelled_known="mix", labelled_fraction=0.5), 20, 5, classes=47
    )
    np.testing.assert_array_equal(base.role == UNLABELLED, without.role == UNLABELLED)
    np.testing.assert_array_equal(np.isin(base.role, (LABELLED, HELD)), without.role == LABELLED)


def test_half_of_the_classes_is_known_by_default() -> None:
    numbers = _allocated(NCD(class_order="natural"), 4, 2, classes=9)
    assert (numbers.stages[0].named_classes, len(numbers.numbers)) == (4, 9)
    np.testing.assert_array_equal(numbers.numbers, np.arange(9))
    rest = _allocated(NCD(class_order="natural", novel_list="0-2"), 4, 2, classes=9)
    np.testing.assert_array_equal(rest.numbers, [3, 4, 5, 6, 7, 8, 0, 1, 2])


def test_lists_name_the_classes_in_their_order_and_leave_others_out() -> None:
    dealt = _allocated(NCD(known_list="7+0-1", novel_list="4+3"), 4, 2, classes=10)
    np.testing.assert_array_equal(dealt.numbers, [7, 0, 1, 4, 3])
    assert _sizes(dealt) == (12, 8)
    assert len(dealt.stages[0].query) == 10
    assert set(dealt.labels[dealt.role == 0]) == {5}


def test_a_known_list_leaves_the_novel_classes_to_the_seed() -> None:
    dealt = [_allocated(NCD(known_list="0-4", novel=3), 4, 2, classes=10, seed=seed) for seed in range(4)]
    assert all(list(each.numbers[:5]) == [0, 1, 2, 3, 4] for each in dealt)
    assert len({tuple(each.numbers[5:]) for each in dealt}) > 1


def test_dropped_known_items_are_nowhere() -> None:
    dealt = _allocated(_scenario(labelled_fraction=0.25), 40, 10, classes=10)
    assert _sizes(dealt) == (50, 200)
    assert int((dealt.role == 0).sum()) == 150


def test_the_labelled_share_is_drawn_over_all_known_classes_together() -> None:
    """As in GCD: 100 of 200 in one draw, so that classes differ, and every known item not drawn is mixed in."""
    dealt = _allocated(_scenario("gcd-digits"), 40, 10, classes=10)
    counts = _counts(dealt, LABELLED)
    assert sum(counts) == 100
    assert len(set(counts[:5])) > 1
    assert np.add(counts, _counts(dealt, UNLABELLED)).tolist() == [40] * 10


def test_the_share_of_novel_items_the_cap_and_the_imbalance() -> None:
    assert (
        _counts(_allocated(_scenario(novel_fraction=0.3), 40, 10, classes=10), UNLABELLED)
        == [0] * 5 + [12] * 5
    )
    capped = _allocated(_scenario(cap=7), 40, 10, classes=10)
    assert (_counts(capped, LABELLED), _counts(capped, UNLABELLED)) == ([7] * 5 + [0] * 5, [0] * 5 + [7] * 5)
    falling = [32, 16, 8, 4, 2]
    both = _allocated(_scenario(imbalance=16), 32, 10, classes=10)
    assert (_counts(both, LABELLED), _counts(both, UNLABELLED)) == (falling + [0] * 5, [0] * 5 + falling)
    novel = _allocated(_scenario(imbalance=16, imbalance_in="novel"), 32, 10, classes=10)
    assert (_counts(novel, LABELLED), _counts(novel, UNLABELLED)) == ([32] * 5 + [0] * 5, [0] * 5 + falling)
    known = _allocated(_scenario(imbalance=16, imbalance_in="known"), 32, 10, classes=10)
    assert (_counts(known, LABELLED), _counts(known, UNLABELLED)) == (falling + [0] * 5, [0] * 5 + [32] * 5)
    assert (
        _counts(_allocated(_scenario(novel_fraction=0.01), 20, 10, classes=10), UNLABELLED)
        == [0] * 5 + [1] * 5
    )


@pytest.mark.parametrize(
    ("told", "kept", "number"),
    [
        (True, "true", 5),
        ("true", "true", 5),
        ("none", "none", None),
        (-0.2, "-0.2", 4),
        ("0.2", "0.2", 6),
        ("-0.9", "-0.9", 1),
    ],
)
def test_the_number_of_novel_classes_is_told_hidden_or_wrong(
    told: Any, kept: str, number: int | None
) -> None:
    scenario = _scenario(told_novel=told)
    assert scenario.told_novel == kept
    (first, _), (second, _) = build(scenario, 0).episodes
    assert (first.new_classes, second.new_classes) == (5, number)


def test_items_held_out_are_labelled_and_in_no_stage() -> None:
    scenario = _scenario("gcd-digits", validation_fraction=0.2)
    deal = scenario.deal(0)
    first, second = deal.stages
    counts = [np.bincount(deal.labels[rows], minlength=10)[:5] for rows in (first.validation, first.rows)]
    np.testing.assert_array_equal(counts[0], np.round(0.2 * (counts[0] + counts[1])))
    np.testing.assert_array_equal(first.validation, second.validation)
    np.testing.assert_array_equal(first.validation_labels, deal.labels[first.validation])
    assert not np.intersect1d(first.validation, np.concatenate([second.rows, second.query])).size
    np.testing.assert_array_equal(np.flatnonzero(deal.facts["role"] == HELD), first.validation)
    (stage, _), (later, _) = seal(deal, 0).episodes
    assert stage.validation is not None
    assert later.validation is not None
    np.testing.assert_array_equal(stage.validation.ids, later.validation.ids)


def test_the_budget() -> None:
    budget = _scenario().budget()
    assert (budget.first_epochs, budget.gradient_steps) == (20, 880)
    assert (budget.batch_size, budget.first_batch_size) == (64, None)
    assert budget.backbone == "cnn"
    assert budget.augmentations.startswith("affine")


def test_stage_0_can_have_batches_of_its_own(tmp_path: Path) -> None:
    """As UNO's, of 256 before 512; a protocol that says nothing of it is written as it was before there was
    such a parameter.
    """
    scenario = _scenario(first_batch_size=24)
    assert "first_batch_size" not in _scenario().model_dump()
    context = CellContext(
        settings=CellSettings(root_seed=1, budget=scenario.budget()),
        scratch=tmp_path,
        on_progress=lambda *_: None,
    )
    seen = []
    for stage in (0, 1, 0):
        context.enter(stage, lambda _: None, lambda *_: None)
        seen.append(context.batch_size)
    assert seen == [24, 64, 24]


def test_every_preset_says_where_it_comes_from_and_can_be_made() -> None:
    for name, preset in NCD.presets.items():
        assert preset.source
        assert (_scenario(name).unlabelled_known == "mix") == name.startswith("gcd")


# --- what cannot be done ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"known": 8, "novel": 5}, "known=8 and novel=5 do not fit the 10 classes of digits"),
        ({"known": 12}, "do not fit the 10 classes"),
        ({"known": 9}, "here are 9 and 1 of digits"),
        ({"known_list": "0-4", "novel_list": "4-9"}, "class 4 is both in known_list and in novel_list"),
        ({"known_list": "0-4", "novel_list": "5+11"}, "class 11 does not exist, digits has classes 0 to 9"),
        ({"known_list": "0-4", "known": 4}, "known=4, but known_list names 5 classes"),
        ({"known_list": "0+1+1"}, "known_list says a class twice"),
        ({"known_list": "zero"}, "such as 0-4 or 0+3+7"),
        ({"novel_list": "5-"}, "novel_list should be class numbers"),
        ({"novel_list": "1-2-3"}, "novel_list should be class numbers"),
        ({"test_fraction": 0}, "no published test split; set test_fraction"),
        ({"test_fraction": 1}, "test_fraction should be less than 1"),
        ({"labelled_fraction": 1.2}, "labelled_fraction should be less than or equal to 1"),
        ({"labelled_fraction": 0}, "labelled_fraction should be greater than 0"),
        ({"novel_fraction": 0}, "novel_fraction should be greater than 0"),
        ({"validation_fraction": 1}, "validation_fraction should be less than 1"),
        ({"told_novel": "some"}, "told_novel should be true, none, or a relative error"),
        ({"told_novel": -1}, "above -1"),
        ({"unlabelled_known": "mix"}, "set labelled_fraction below 1"),
        ({"labelled_fraction": 0.001}, "raise labelled_fraction or cap"),
        ({"cap": 1, "validation_fraction": 0.1}, "lower validation_fraction"),
        ({"dataset": "digit"}, "did you mean 'digits'"),
        ({"dataset": "cifar100"}, "has to be read from your disk"),
        ({"knwon": 3}, "did you mean 'known'"),
    ],
)
def test_bad_input_is_told_in_one_sentence(said: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UserError) as problem:
        NCD(**validated(NCD, said)).deal(0)
    assert message in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_class_without_items_is_named() -> None:
    scenario = _scenario()
    labels, is_test = np.tile(np.arange(10), 4), np.repeat([False, True], 20)
    with pytest.raises(
        UserError, match=r"class 7 has no test item \(1 of 10 classes have none\): it has 4 items in all"
    ):
        scenario.allocate(labels, is_test & (labels != 7), 10, 0)
    with pytest.raises(UserError, match="class 9 has no training item"):
        scenario.allocate(labels, is_test | (labels == 9), 10, 0)


# --- scores counted by hand ---------------------------------------------------------------------------------

KNOWN = [0, 0, 0, 0, 1, 1]
NOVEL = [2, 2, 2, 2, 3, 3]
"""Two known classes of 4 and 2 test items, two novel ones of 4 and 2; the same for unlabelled items."""


def _truth(unlabelled: list[int]) -> Truth:
    """Test items have ids 0 to 11, unlabelled ones come behind."""
    labels = np.array(KNOWN + NOVEL + unlabelled)
    return Truth(
        labels=labels,
        facts={"role": np.where(np.arange(len(labels)) < 12, TEST, UNLABELLED)},
        named_classes=[2, 2],
    )


def _answer(stage: int, items: int, step: int | None = None, **arrays: Any) -> StoredPrediction:
    return StoredPrediction(
        stage=stage,
        step=step,
        ids=np.arange(items),
        arrays={name: np.array(values) for name, values in arrays.items()},
    )


FIRST: dict[str, Any] = {
    "classes": [0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 1],
    "among_known": [0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 1],
}
CLASSES = [0, 0, 0, 2, 1, 1, 2, 2, 2, 0, 3, 2]
AMONG_NOVEL = [[0, 0]] * 6 + [[0, 1], [0, 1], [0, 1], [1, 0], [1, 0], [0, 0]]


@pytest.fixture(scope="module")
def scores() -> Scores:
    """Six unlabelled items, all novel; two heads, the first of which is chosen."""
    among_novel = [*AMONG_NOVEL, [1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [0, 1]]
    last = _answer(
        1,
        18,
        classes=[*CLASSES, 3, 3, 3, 2, 2, 2],
        among_novel=among_novel,
        among_known=[0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        relation_shift=np.array([0] * 12 + [0.5, 0.25, 0.25, 0, 0.5, 0], dtype=np.float16),
    )
    return NCD().score(_truth(NOVEL), [_answer(0, 12, **FIRST), last])


def test_task_aware_figures_on_unlabelled_items(scores: Scores) -> None:
    """Class 2 (4): rows 1, 1, 1, 0. Class 3 (2): rows 0, 0. Right: 3 + 2 of 6. The second head says 0, 0, 1,
    1 and 1, 1: 2 + 2 of 6.
    """
    final = scores.final
    assert final["novel_train"] == 5 / 6
    assert final["novel_train_balanced"] == (3 / 4 + 1) / 2
    assert final["novel_train_heads"] == pytest.approx((5 / 6 + 4 / 6) / 2)
    assert final["balance"] == pytest.approx(1.0)
    assert final["empty_rows"] == 0


def test_mutual_information_and_rand_index_by_hand(scores: Scores) -> None:
    """Table [[1, 2], [3, 0]] of rows by classes. I = H(row) - H(row | class); pairs together: 4 of both, 6 by
    rows, 7 by classes, of 15.
    """
    rows, classes = math.log(2), math.log(6) - (4 * math.log(4) + 2 * math.log(2)) / 6
    within = 4 / 6 * (math.log(4) - 3 / 4 * math.log(3))
    assert scores.final["novel_train_nmi"] == pytest.approx((rows - within) / ((rows + classes) / 2))
    expected = 6 * 7 / 15
    assert scores.final["novel_train_ari"] == pytest.approx((4 - expected) / ((6 + 7) / 2 - expected))


def test_figures_on_novel_test_items(scores: Scores) -> None:
    """Class 2: rows 0, 0, 0, 1. Class 3: rows 1, 0. Right: 3 + 1 of 6. By `classes`: 2, 2, 2, 0 and 3, 2: 3 +
    1 of 6 too.
    """
    assert scores.final["novel_test"] == 4 / 6
    assert scores.final["novel_own"] == 4 / 6
    assert math.isfinite(scores.final["novel_test_nmi"])
    assert scores.final["novel_test_ari"] == pytest.approx((3 - 7 * 7 / 15) / (7 - 7 * 7 / 15))


def test_task_agnostic_figures(scores: Scores) -> None:
    """Rows by classes: 0: [3, 0, 1, 0], 1: [0, 2, 0, 0], 2: [1, 0, 3, 1], 3: [0, 0, 0, 1]; both readings
    agree on the diagonal.
    """
    final = scores.final
    for reading in ("joint", "strict"):
        assert (final[f"all_{reading}"], final[f"known_{reading}"], final[f"novel_{reading}"]) == (
            9 / 12,
            5 / 6,
            4 / 6,
        )
    assert final["novel_taken_for_known"] == 1 / 6
    assert final["known_taken_for_novel"] == 1 / 6


def test_figures_about_known_classes(scores: Scores) -> None:
    """Known test items by among_known: 2 + 2 of 6. Nearest known class of novel test items: as in stage 0 but
    for the 2nd and the 6th.
    """
    assert scores.final["known_test"] == 4 / 6
    assert scores.final["first_known"] == 5 / 6
    assert scores.final["relation_agreement"] == 4 / 6
    assert scores.final["relation_shift"] == 0.25


def test_everything_declared_is_there_and_pictures_too(scores: Scores, tmp_path: Path) -> None:
    assert {metric.name for metric in METRICS} <= set(scores.final)
    np.testing.assert_allclose(scores.matrices["novel_rows"], np.array([[3 / 4, 1 / 4], [0.0, 1.0]]))
    np.testing.assert_allclose(
        scores.histograms["relation_shift"]["unlabelled novel items"], [0.5, 0.25, 0.25, 0.0, 0.5, 0.0]
    )
    assert scores.per_stage["known_strict"] == [5 / 6, 5 / 6]
    names = {path.name for path in plots.draw(scores, tmp_path, title="by hand")}
    assert names == {"novel_rows_matrix.png", "relation_shift_histogram.png", "stages.png"}


def test_known_classes_that_changed_places_are_told_by_the_strict_reading() -> None:
    swapped = [1, 1, 1, 1, 0, 0, 2, 2, 2, 2, 3, 3]
    scores = NCD().score(_truth(NOVEL), [_answer(0, 12, **FIRST), _answer(1, 18, classes=[*swapped, *NOVEL])])
    final = scores.final
    assert (final["all_joint"], final["known_joint"], final["novel_joint"]) == (1.0, 1.0, 1.0)
    assert (final["all_strict"], final["known_strict"], final["novel_strict"]) == (0.5, 0.0, 1.0)
    assert final["novel_own"] == 1.0


def test_a_novel_class_in_a_known_row_is_told_by_the_strict_reading() -> None:
    """Class 2 is answered as row 1, known class 1 as row 2: v2 exchanges them; v3 gives row 2 to none and row
    3 to class 3.
    """
    hidden = [0, 0, 0, 0, 2, 2, 1, 1, 1, 1, 3, 3]
    scores = NCD().score(_truth(NOVEL), [_answer(0, 12, **FIRST), _answer(1, 18, classes=[*hidden, *NOVEL])])
    final = scores.final
    assert (final["all_joint"], final["known_joint"], final["novel_joint"], final["novel_own"]) == (
        1.0,
        1.0,
        1.0,
        1.0,
    )
    assert (final["all_strict"], final["known_strict"], final["novel_strict"]) == (6 / 12, 4 / 6, 2 / 6)
    assert (final["novel_taken_for_known"], final["known_taken_for_novel"]) == (4 / 6, 2 / 6)


def test_one_cluster_for_everything_has_no_information() -> None:
    last = _answer(1, 18, classes=[0] * 18, among_novel=[0] * 18)
    final = NCD().score(_truth(NOVEL), [_answer(0, 12, **FIRST), last]).final
    assert (final["novel_train"], final["novel_train_nmi"], final["novel_train_ari"]) == (4 / 6, 0.0, 0.0)
    assert (final["balance"], final["empty_rows"], final["novel_train_heads"]) == (0.0, 1.0, 4 / 6)


def test_surplus_rows_are_errors() -> None:
    """Each unlabelled item in a row of its own: one of 4 and one of 2 are matched; entropy log 6 over log 2."""
    last = _answer(1, 18, classes=[*CLASSES, *NOVEL], among_novel=[0] * 12 + [0, 1, 2, 3, 4, 5])
    scores = NCD().score(_truth(NOVEL), [_answer(0, 12, **FIRST), last])
    assert scores.final["novel_train"] == 2 / 6
    assert scores.final["balance"] == pytest.approx(math.log(6) / math.log(2))
    assert scores.matrices["novel_rows"].shape == (2, 6)


def test_what_was_not_answered_is_undefined_and_classes_stand_for_clusters() -> None:
    first = _answer(0, 12, classes=FIRST["classes"])
    scores = NCD().score(_truth(NOVEL), [first, _answer(1, 18, classes=[*CLASSES, 3, 3, 3, 0, 0, 0])])
    missing = {
        "novel_train_heads",
        "balance",
        "empty_rows",
        "known_test",
        "relation_shift",
        "relation_agreement",
    }
    assert {metric.name for metric in METRICS if math.isnan(scores.final[metric.name])} == missing
    assert scores.final["novel_train"] == 5 / 6
    assert scores.matrices == {}


def test_rows_of_any_number_are_scored_as_clusters() -> None:
    """No table is sized by a number answered: -7 and 10^12 are rows like 2 and 3, and no known ones."""
    names = {0: 0, 1: 1, 2: -7, 3: 10**12}
    last = _answer(
        1,
        18,
        classes=[names[row] for row in [*KNOWN, *NOVEL, *NOVEL]],
        among_novel=[10**12 - row for row in KNOWN + NOVEL * 2],
    )
    final = NCD().score(_truth(NOVEL), [_answer(0, 12, **FIRST), last]).final
    assert {
        final[name]
        for name in ("novel_train", "novel_test", "all_joint", "all_strict", "known_strict", "novel_strict")
    } == {1.0}


def test_the_generalised_form_is_scored_on_all_unlabelled_items() -> None:
    """Rows by classes: 0: [1, 0, 0, 0], 1: [0, 2, 0, 0], 2: [3, 0, 3, 0], 3: [0, 0, 1, 2]: right are 1 + 2
    known, 3 + 2 novel of 12.
    """
    unlabelled = [0, 2, 2, 2, 1, 1, 2, 2, 2, 3, 3, 3]
    last = _answer(1, 24, classes=[*CLASSES, *unlabelled])
    scenario = _scenario("gcd-digits")
    final = scenario.score(_truth(KNOWN + NOVEL), [_answer(0, 12, **FIRST), last]).final
    assert final["unlabelled_all_joint"] == 8 / 12
    assert (final["unlabelled_known_joint"], final["unlabelled_novel_joint"]) == (3 / 6, 5 / 6)
    assert final["novel_train"] == 5 / 6
    assert scenario.metrics[0].name == "unlabelled_all_joint"
    assert _scenario().metrics[0].name == "novel_train"
    assert {metric.name for metric in scenario.metrics} <= set(final)


def test_probes_become_curves() -> None:
    truth = _truth(NOVEL)
    answers = [
        _answer(0, 12, step=5, **FIRST),
        _answer(0, 12, **FIRST),
        _answer(1, 18, step=100, classes=[*CLASSES, *NOVEL]),
    ]
    scores = NCD().score(truth, answers)
    assert scores.final == {}
    assert scores.probes["novel_train"] == [(1, 100, 1.0)]
    assert scores.probes["known_strict"] == [(0, 5, 5 / 6), (1, 100, 5 / 6)]


@pytest.mark.parametrize("preset", ["digits", "gcd-digits"])
def test_the_truth_under_any_names_of_novel_rows_scores_one(preset: str) -> None:
    scenario = _scenario(preset)
    sealed: Sealed = build(scenario, 0)
    names = np.concatenate([np.arange(5), 5 + np.random.default_rng(0).permutation(5)])
    answers = []
    for index, (_, query) in enumerate(sealed.episodes):
        ids = np.sort(query.ids)
        rows = names[sealed.truth.labels[ids]]
        answers.append(
            StoredPrediction(
                stage=index,
                step=None,
                ids=ids,
                arrays={"classes": rows, "among_novel": rows, "among_known": rows},
            )
        )
    final = scenario.score(sealed.truth, answers).final
    lower = {metric.name for metric in scenario.metrics if metric.better == "lower"}
    assert {final[name] for name in lower - {"relation_shift"}} == {0.0}
    perfect = {metric.name for metric in scenario.metrics} - lower - {"balance"}
    assert {name: final[name] for name in perfect} == dict.fromkeys(perfect, pytest.approx(1.0))
