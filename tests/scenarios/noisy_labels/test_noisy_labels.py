"""Noisy labels: every kind of noise has the frequencies it promises, deals change nothing else, and the two
Gaussians show the effect.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ndtr, ndtri
from scipy.stats import chisquare

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import Sealed, build
from harness.checks.scenarios import check_scenario
from harness.contracts import (
    HIDDEN,
    Deal,
    IntArray,
    Prediction,
    Query,
    Scenario,
    Stage,
    StoredPrediction,
    Strategy,
    Validation,
)
from harness.errors import UserError
from harness.metrics.noisy_labels import transition
from harness.selection import configured
from scenarios.grokking.two_gaussians import TwoGaussians
from scenarios.noisy_labels.scenario import NoisyLabels
from scenarios.noisy_labels.scoring import TEST, TRAIN, VALIDATION
from scenarios.noisy_labels.streams import Mode
from scenarios.shared.human_labels import human_labels
from scenarios.shared.instance_noise import Features, entropy, part_dependent, prepared
from scenarios.shared.noise import Known, drawn, noise_of
from scenarios.shared.noise_maps import CIFAR100_SUPERCLASS, class_map, next_in_group

ONE, TWO, FIVE = (f"class-incremental[dataset=digits,stages={stages}]" for stages in (1, 2, 5))
DISCOVERY = "cgcd[preset=digits]"


def _noisy(
    labels: IntArray, text: str, *, classes: int = 10, seed: int = 0, parts: IntArray | None = None
) -> IntArray:
    """Return what the noise `text` makes of `labels`."""
    known = Known(
        labels=labels,
        class_numbers=np.arange(classes),
        rows=np.arange(len(labels)),
        inputs=lambda: labels,
        parts=np.zeros_like(labels) if parts is None else parts,
    )
    return noise_of(text).corrupted(known, np.random.default_rng(seed))


def _balanced(classes: int, each: int) -> IntArray:
    return np.tile(np.arange(classes), each)


def _wrong_per_class(labels: IntArray, observed: IntArray, classes: int = 10) -> list[int]:
    counts: list[int] = np.bincount(labels[labels != observed], minlength=classes).tolist()
    return counts


def _assert_drawn_from(matrix: Any, labels: IntArray, observed: IntArray) -> None:
    """Every frequency is within five standard errors of its chance; what has no chance never occurs."""
    found, sizes = (
        transition(labels, observed, len(matrix)),
        np.bincount(labels, minlength=len(matrix))[:, None],
    )
    expected = np.asarray(matrix)
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / sizes) + 1e-9).all()


# --- symmetric noise ----------------------------------------------------------------------------------------


def test_symmetric_noise_counts_wrong_labels_exactly_in_every_class_and_part() -> None:
    """40 % of 100, 53, 7 and 52 items are 40, 21, 3 and 21."""
    labels = np.repeat([0, 1, 2, 0, 1], [100, 53, 7, 52, 100])
    parts = np.repeat([0, 1], [160, 152])
    observed = _noisy(labels, "symmetric[rate=0.4]", classes=3, parts=parts)
    assert _wrong_per_class(labels[:160], observed[:160], 3) == [40, 21, 3]
    assert _wrong_per_class(labels[160:], observed[160:], 3) == [21, 40, 0]


@pytest.mark.parametrize("more", ["", ",counting=global", ",counting=each-row"])
def test_symmetric_noise_prefers_no_class(more: str) -> None:
    labels = _balanced(10, 2000)
    observed = _noisy(labels, f"symmetric[rate=0.4{more}]")
    _assert_drawn_from(np.where(np.eye(10, dtype=bool), 0.6, 0.4 / 9), labels, observed)
    assert (
        chisquare(np.bincount((observed - labels)[observed != labels] % 10, minlength=10)[1:]).pvalue > 1e-3
    )


def test_global_counting_is_exact_in_total_but_not_in_the_classes() -> None:
    labels, parts = _balanced(10, 100), np.repeat([0, 1], [700, 300])
    observed = _noisy(labels, "symmetric[rate=0.4,counting=global]", parts=parts)
    assert [int((observed != labels)[parts == part].sum()) for part in (0, 1)] == [280, 120]
    assert len(set(_wrong_per_class(labels, observed))) > 1


def test_rows_by_themselves_are_wrong_at_the_rate_and_their_number_varies() -> None:
    labels = _balanced(10, 200)
    counts = [
        int((_noisy(labels, "symmetric[rate=0.3,counting=each-row]", seed=seed) != labels).sum())
        for seed in range(20)
    ]
    assert abs(sum(counts) - 20 * 600) < 5 * np.sqrt(20 * 2000 * 0.3 * 0.7)
    assert np.std(counts) == pytest.approx(np.sqrt(2000 * 0.3 * 0.7), rel=0.5)


@pytest.mark.parametrize("counting", ["per-class", "global", "each-row"])
def test_forty_per_cent_that_may_hit_the_true_class_are_a_rate_of_036(counting: str) -> None:
    """As in ELR and DivideMix: 40 % of the rows get any of 10 classes, so 0.4 * 9/10 of the labels are wrong."""
    labels = _balanced(10, 2000)
    observed = _noisy(labels, f"symmetric[rate=0.36,include_self=true,counting={counting}]")
    _assert_drawn_from(np.where(np.eye(10, dtype=bool), 0.64, 0.04), labels, observed)
    if counting == "per-class":  # 800 rows of every class are hit, of which each is wrong with chance 0.9
        assert max(abs(count - 720) for count in _wrong_per_class(labels, observed)) < 5 * np.sqrt(
            800 * 0.9 * 0.1
        )


def test_every_row_can_be_hit_when_the_true_class_is_among_the_new_ones() -> None:
    labels = _balanced(10, 1000)
    _assert_drawn_from(
        np.full((10, 10), 0.1), labels, _noisy(labels, "symmetric[rate=0.9,include_self=true]")
    )


# --- class maps ---------------------------------------------------------------------------------------------

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TAKEN_FOR = {"truck": "automobile", "bird": "airplane", "cat": "dog", "dog": "cat", "deer": "horse"}


def test_the_map_of_cifar10_turns_exactly_the_rate_of_its_sources_and_a_swap_does_not_undo_itself() -> None:
    """Decided from labels already changed, as in ELR's code, a quarter of the cats would be dogs instead of
    40 %.
    """
    labels = _balanced(10, 100)
    expected = np.eye(10)
    for source, target in TAKEN_FOR.items():
        expected[CIFAR10.index(source), [CIFAR10.index(source), CIFAR10.index(target)]] = 0.6, 0.4
    for seed in range(3):
        observed = _noisy(labels, "asymmetric[rate=0.4,map=cifar10]", seed=seed)
        np.testing.assert_allclose(transition(labels, observed, 10), expected)
    assert (observed != labels).mean() == pytest.approx(0.4 / 2), (
        "40 % asymmetric noise changes 20 % of the labels"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mnist", {7: 1, 2: 7, 3: 8, 5: 6, 6: 5}),
        ("9>1/ 2>0", {9: 1, 2: 0}),
        ("cifar10", {9: 1, 2: 0, 3: 5, 5: 3, 4: 7}),
    ],
)
def test_maps_are_read_by_name_and_from_pairs(text: str, expected: dict[int, int]) -> None:
    assert class_map(text, np.arange(10)) == expected


def test_a_map_speaks_of_the_numbers_of_the_data_set_wherever_its_classes_stand() -> None:
    assert class_map("30>7/7>12", np.array([7, 12, 30])) == {2: 0, 0: 1}


def test_globally_counted_map_noise_hits_the_sources_alone() -> None:
    labels = np.repeat(np.arange(10), np.arange(10, 110, 10))
    observed = _noisy(labels, "asymmetric[rate=0.3,map=mnist,counting=global]")
    counts = np.array(_wrong_per_class(labels, observed))
    assert counts.sum() == 0.3 * (80 + 30 + 40 + 60 + 70)
    assert set(np.flatnonzero(counts)) <= {7, 2, 3, 5, 6}


def test_pair_flips_go_to_the_next_class_and_from_the_last_to_the_first() -> None:
    labels = _balanced(7, 100)
    observed = _noisy(labels, "pair[rate=0.45]", classes=7)
    np.testing.assert_allclose(
        transition(labels, observed, 7), 0.55 * np.eye(7) + 0.45 * np.roll(np.eye(7), 1, axis=1)
    )


SUPERCLASSES = """beaver dolphin otter seal whale; aquarium_fish flatfish ray shark trout; orchid poppy rose sunflower tulip;
bottle bowl can cup plate; apple mushroom orange pear sweet_pepper; clock keyboard lamp telephone television;
bed chair couch table wardrobe; bee beetle butterfly caterpillar cockroach; bear leopard lion tiger wolf;
bridge castle house road skyscraper; cloud forest mountain plain sea; camel cattle chimpanzee elephant kangaroo;
fox porcupine possum raccoon skunk; crab lobster snail spider worm; baby boy girl man woman;
crocodile dinosaur lizard snake turtle; hamster mouse rabbit shrew squirrel;
maple_tree oak_tree palm_tree pine_tree willow_tree; bicycle bus motorcycle pickup_truck train;
lawn_mower rocket streetcar tank tractor"""


def test_the_superclasses_of_cifar100_are_those_of_its_names() -> None:
    """Fine classes are numbered by the alphabet; superclasses in the order of the data set's page."""
    superclass = {
        name: number for number, group in enumerate(SUPERCLASSES.split(";")) for name in group.split()
    }
    assert len(superclass) == 100
    assert tuple(superclass[name] for name in sorted(superclass)) == CIFAR100_SUPERCLASS


@pytest.mark.parametrize(("groups", "sharing"), [("consecutive", 6), ("superclass", 100)])
def test_groups_of_five_are_cycles_and_consecutive_ones_are_no_superclasses(
    groups: str, sharing: int
) -> None:
    """With consecutive numbers, as in all published tables, six of the 100 pairs lie in one superclass."""
    targets = next_in_group(groups, 5, np.arange(100))
    assert sorted(targets) == sorted(targets.values()) == list(range(100))
    for start in range(100):
        place = start
        for step in range(5):
            place = targets[place]
            assert (place == start) == (step == 4)
    assert (
        sum(CIFAR100_SUPERCLASS[source] == CIFAR100_SUPERCLASS[target] for source, target in targets.items())
        == sharing
    )


def test_superclass_noise_turns_the_rate_of_every_class_to_the_next_of_its_group() -> None:
    labels = _balanced(6, 50)
    observed = _noisy(labels, "superclass[rate=0.2,size=3]", classes=6)
    expected = 0.8 * np.eye(6)
    expected[[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]] = 0.2
    np.testing.assert_allclose(transition(labels, observed, 6), expected)


# --- a matrix of one's own ----------------------------------------------------------------------------------


def test_a_matrix_is_read_alike_from_text_and_from_files(tmp_path: Path) -> None:
    matrix = np.array([[0.9, 0.1, 0.0], [0.25, 0.5, 0.25], [0.0, 0.0, 1.0]])
    np.save(tmp_path / "t.npy", matrix)
    np.savetxt(tmp_path / "t.csv", matrix, delimiter=",")
    labels = _balanced(3, 1000)
    texts = ["rows=0.9/0.1/0;0.25/0.5/0.25;0/0/1", f"file={tmp_path / 't.npy'}", f"file={tmp_path / 't.csv'}"]
    observed = [_noisy(labels, f"matrix[{text}]", classes=3) for text in texts]
    assert _wrong_per_class(labels, observed[0], 3) == [100, 500, 0]
    _assert_drawn_from(matrix, labels, observed[0])
    for other in observed[1:]:
        np.testing.assert_array_equal(other, observed[0])


@pytest.mark.parametrize("counting", ["per-class", "global", "each-row"])
def test_draws_follow_any_matrix(counting: Any) -> None:
    rng = np.random.default_rng(3)
    matrix = rng.dirichlet(np.full(6, 0.7), size=6)
    matrix[4] = np.eye(6)[4]
    labels = _balanced(6, 5000)
    observed = drawn(matrix, labels, counting, rng, np.zeros_like(labels))
    if (
        counting == "global"
    ):  # a share of the total, with the same chance for every row of a class, but not independently
        assert (observed != labels).sum() == round(5000 * (6 - np.trace(matrix)))
        found = transition(labels, observed, 6)
        np.testing.assert_allclose(found[4], matrix[4])
    else:
        _assert_drawn_from(matrix, labels, observed)
    if counting == "per-class":
        assert _wrong_per_class(labels, observed, 6) == [
            round(5000 * (1 - chance)) for chance in np.diag(matrix)
        ]


# --- noise that depends on the item -------------------------------------------------------------------------


@cache
def _digits() -> tuple[Any, IntArray]:
    data = configured("dataset", "digits").load()
    images = np.asarray(data.inputs[np.arange(len(data.labels))], dtype=np.float64)
    return (255 * images / images.max()).astype(np.uint8), data.labels


def test_part_dependent_noise_is_the_published_algorithm() -> None:
    """Item by item, with the draws in the same order: first all rates, then one projection per class."""
    inputs, labels = np.random.default_rng(0).normal(size=(12, 2, 3)), np.arange(12) % 4
    found = part_dependent(
        inputs, labels, 4, np.random.default_rng(7), rate=0.3, std=0.2, features="raw", temperature=2.0
    )
    rng = np.random.default_rng(7)
    low, high = ndtr(-0.3 / 0.2), ndtr(0.7 / 0.2)
    rates = [0.3 + 0.2 * ndtri(low + luck * (high - low)) for luck in rng.uniform(size=12)]
    projections = [rng.normal(size=(6, 4)) for _ in range(4)]
    for item, label in enumerate(labels):
        weights = [
            np.exp(
                sum(x * w for x, w in zip(inputs[item].ravel(), projections[label][:, j], strict=True)) / 2
            )
            for j in range(4)
        ]
        wrong = sum(weights) - weights[label]
        expected = [1 - rates[item] if j == label else rates[item] * weights[j] / wrong for j in range(4)]
        np.testing.assert_allclose(found[item], expected, atol=1e-9)


def test_part_dependent_rows_are_distributions_with_the_items_own_rates() -> None:
    inputs, labels = _digits()
    rows = np.arange(len(labels))
    options: dict[str, Any] = {"rate": 0.4, "features": "standardise", "temperature": 0.0}
    chances = part_dependent(inputs, labels, 10, np.random.default_rng(0), std=0.1, **options)
    assert (chances >= 0).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    rates = 1 - chances[rows, labels]
    assert abs(rates.mean() - 0.4) < 5 * 0.1 / np.sqrt(len(labels))
    assert rates.std() == pytest.approx(0.1, rel=0.1)
    np.testing.assert_array_equal(
        chances, part_dependent(inputs, labels, 10, np.random.default_rng(0), std=0.1, **options)
    )
    fixed = part_dependent(inputs, labels, 10, np.random.default_rng(0), std=0.0, **options)
    np.testing.assert_allclose(fixed[rows, labels], 0.6)


def test_raw_pixels_saturate_and_their_own_scale_leaves_the_choice_open() -> None:
    """At its own scale the choice is about as open as among independent standard normal logits."""
    inputs, labels = _digits()

    def openness(features: Features, temperature: float) -> float:
        rng, options = np.random.default_rng(0), {"rate": 0.4, "std": 0.1, "temperature": temperature}
        return entropy(part_dependent(inputs, labels, 10, rng, features=features, **options), labels)

    logits = np.random.default_rng(1).normal(size=(4000, 9))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert openness("raw", 1.0) < 0.01
    assert 0.1 < openness("unit", 1.0) < 0.6
    assert openness("standardise", 0.0) == pytest.approx(
        -(shares * np.log(shares)).sum(axis=1).mean() / np.log(9), abs=0.05
    )


def test_raw_pixels_send_a_class_to_one_or_two_others_and_standardised_ones_do_not() -> None:
    """Images share a large mean, so of 9 wrong classes two get most items of a class; by luck they would get
    30 %.
    """
    images, labels = (
        np.random.default_rng(0).integers(0, 256, (400, 3, 32, 32), dtype=np.uint8),
        np.arange(400) % 4,
    )

    def two_commonest(features: Features, temperature: float) -> float:
        rng, options = np.random.default_rng(1), {"rate": 0.4, "std": 0.1, "temperature": temperature}
        chances = part_dependent(images, labels, 10, rng, features=features, **options)
        chances[np.arange(400), labels] = 0
        counts = [
            np.sort(np.bincount(chances[labels == label].argmax(axis=1), minlength=10))[-2:].sum()
            for label in range(4)
        ]
        return float(np.sum(counts) / 400)

    assert two_commonest("raw", 1.0) > 0.7
    assert two_commonest("standardise", 0.0) < 0.4


def test_entropy_is_one_for_an_open_choice_and_zero_for_none() -> None:
    chances = np.array(
        [[0.7, 0.1, 0.1, 0.1], [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]]
    )
    assert entropy(chances[:1], np.array([0])) == pytest.approx(1)
    assert entropy(chances[1:2], np.array([0])) == 0
    assert entropy(chances[2:3], np.array([0])) == 0
    expected = (1 + 0 + np.log(2) / np.log(3)) / 3  # the third row is never wrong, so it has no say
    assert entropy(chances, np.zeros(4, dtype=np.int64)) == pytest.approx(expected)


def test_features_are_shown_as_said() -> None:
    inputs = np.array([[[0, 100]], [[50, 200]], [[100, 0]]], dtype=np.uint8)
    np.testing.assert_array_equal(prepared(inputs, "raw"), [[0, 100], [50, 200], [100, 0]])
    np.testing.assert_allclose(prepared(inputs, "unit"), [[0, 0.5], [0.25, 1], [0.5, 0]])
    shown = prepared(inputs, "standardise")
    np.testing.assert_allclose([shown.mean(axis=0), shown.std(axis=0)], [[0, 0], [1, 1]], atol=1e-12)


def test_instance_noise_draws_every_label_from_the_row_of_its_item() -> None:
    """The expected number of wrong labels per class, and of (class, label) pairs, follows from the rows."""
    inputs, labels = _digits()
    known = Known(
        labels=labels,
        class_numbers=np.arange(10),
        rows=np.arange(len(labels)),
        inputs=lambda: inputs,
        parts=labels * 0,
    )
    observed = noise_of("instance[rate=0.3]").corrupted(known, np.random.default_rng(5))
    rows = part_dependent(
        inputs,
        labels,
        10,
        np.random.default_rng(5),
        rate=0.3,
        std=0.1,
        features="standardise",
        temperature=0.0,
    )
    found, expected, spread = np.zeros((10, 10)), np.zeros((10, 10)), np.zeros((10, 10))
    for label, seen, row in zip(labels, observed, rows, strict=True):
        found[label, seen] += 1
        expected[label] += row
        spread[label] += row * (1 - row)
    assert (np.abs(found - expected) <= 5 * np.sqrt(spread) + 1e-9).all()


# --- labels that people gave --------------------------------------------------------------------------------


def _columns(labels: IntArray) -> dict[str, IntArray]:
    """Return columns as those of CIFAR-10N: the true labels, and 40 % wrong ones that lean towards some
    classes.
    """
    rng = np.random.default_rng(1234)
    turned = np.where(
        rng.random(len(labels)) < 0.4, (labels + rng.choice([1, 1, 1, 4], len(labels))) % 10, labels
    )
    return {
        "clean_label": labels.astype(np.int64),
        "worse_label": turned.astype(np.int64),
        "aggre_label": labels.astype(np.int64),
    }


def _archive(content: Any, *, new: bool, old_numpy: bool) -> bytes:
    """Return `content` as torch writes it: as a zip or (before 1.6) a row of pickles; numpy 1 said
    `numpy.core` for `numpy._core`.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=new)
    if not old_numpy:
        return buffer.getvalue()
    if not new:
        return buffer.getvalue().replace(b"numpy._core.", b"numpy.core.")
    renamed = io.BytesIO()
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(renamed, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"numpy._core.", b"numpy.core."))
    return renamed.getvalue()


@pytest.mark.parametrize("old_numpy", [False, True])
@pytest.mark.parametrize("new", [False, True])
def test_files_in_the_form_of_cifar_n_are_read(tmp_path: Path, new: bool, old_numpy: bool) -> None:
    labels, rows = _balanced(10, 20), np.array([5, 3, 199, 40])
    columns, file = _columns(labels), tmp_path / "CIFAR-10_human.pt"
    file.write_bytes(_archive(columns, new=new, old_numpy=old_numpy))
    found = human_labels(str(file), "worse_label", rows, labels[rows])
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, columns["worse_label"][rows])


def test_plain_arrays_and_tensors_do_as_well(tmp_path: Path) -> None:
    labels, rows = _balanced(10, 20), np.arange(200)
    columns = _columns(labels)
    np.savez(tmp_path / "human.npz", **{name: values.astype(np.uint8) for name, values in columns.items()})  # type: ignore[arg-type]
    torch.save({name: torch.from_numpy(values) for name, values in columns.items()}, tmp_path / "human.pt")
    for name in ("human.npz", "human.pt"):
        np.testing.assert_array_equal(
            human_labels(str(tmp_path / name), "worse_label", rows, labels), columns["worse_label"]
        )


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        torch.from_numpy,
        np.ndarray.tolist,
        lambda values: [*torch.from_numpy(values)],
        np.uint8,
        np.int32,
        lambda values: values[:, None],
    ],
)
@pytest.mark.parametrize("new", [False, True])
def test_a_column_is_an_array_a_list_or_a_tensor(tmp_path: Path, new: bool, form: Any) -> None:
    labels = _balanced(10, 2)
    columns, file = _columns(labels), tmp_path / "human.pt"
    file.write_bytes(
        _archive({name: form(values) for name, values in columns.items()}, new=new, old_numpy=True)
    )
    found = human_labels(str(file), "worse_label", np.arange(20), labels)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, columns["worse_label"])


def test_a_column_that_nobody_asks_for_blocks_none(tmp_path: Path) -> None:
    labels = _balanced(10, 2)
    strange: dict[str, Any] = {
        "coarse": [int(label) // 5 for label in labels],
        "ragged": [[1], [2, 3]],
        "votes": np.zeros((20, 3)),
        "share": np.float32(0.4),
        "times": np.arange(20) / 3,
        "names": np.array(["cat"] * 20),
        "classes": ["cat", "dog"],
        "note": "as published",
        "none": None,
        "dates": np.zeros(20, dtype="datetime64[s]"),
        "low": torch.zeros(20, dtype=torch.bfloat16),
        "nested": {"who": [{1, 2}]},
        "objects": np.array([None, "a"], dtype=object),
        "empty": [],
    }
    torch.save(
        {**_columns(labels), **strange, "file": Path("a"), "by": zipfile.ZipInfo("a")}, tmp_path / "human.pt"
    )
    arrays = {name: values for name, values in strange.items() if isinstance(values, np.ndarray)}
    np.savez(tmp_path / "human.npz", **_columns(labels), **arrays)  # type: ignore[arg-type]
    for name in ("human.pt", "human.npz"):
        np.testing.assert_array_equal(
            human_labels(str(tmp_path / name), "worse_label", np.arange(20), labels),
            _columns(labels)["worse_label"],
        )
        with pytest.raises(UserError, match="column objects should hold one integer an item"):
            human_labels(str(tmp_path / name), "objects", np.arange(20), labels)
    with pytest.raises(UserError, match=r"unknown column of human.pt 'coarser'; did you mean 'coarse'"):
        human_labels(str(tmp_path / "human.pt"), "coarser", np.arange(20), labels)


@pytest.mark.parametrize(
    ("clean", "said"), [(np.arange(3), "its clean_label has 3 items, worse_label has 20"), (["a"] * 20, "")]
)
def test_clean_labels_are_of_as_many_items_or_cannot_be_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clean: Any, said: str
) -> None:
    torch.save({"clean_label": clean, "worse_label": np.arange(20)}, tmp_path / "human.pt")
    if said:
        with pytest.raises(UserError, match=said):
            human_labels(str(tmp_path / "human.pt"), "worse_label", np.arange(20), np.arange(20))
    else:
        np.testing.assert_array_equal(
            human_labels(str(tmp_path / "human.pt"), "worse_label", np.arange(20), np.zeros(20)),
            np.arange(20),
        )
        assert "whether it belongs to the data set is not checked" in caplog.text


class _Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("form", ["pt", "npz", "npy"])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, form: str, new: bool) -> None:
    file, content = tmp_path / f"human.{form}", {"worse_label": _Trap(tmp_path / "mark")}
    if form == "pt":
        torch.save({"clean_label": np.arange(10), **content}, file, _use_new_zipfile_serialization=new)
    elif form == "npz":
        np.savez(file, worse_label=np.array([content], dtype=object), clean_label=np.arange(10))
    else:
        np.save(file, np.array(content, dtype=object), allow_pickle=True)
    with pytest.raises(
        UserError, match="should be a .pt or .npz file" if form == "npy" else "cannot read human labels from"
    ) as problem:
        human_labels(str(file), "worse_label", np.arange(10), np.arange(10))
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("column", "rows", "classes", "said"),
    [
        (
            "worst_label",
            [0, 1],
            [0, 1],
            "unknown column of human.npz 'worst_label'; did you mean 'worse_label'?",
        ),
        ("worse_label", [0, 250], [0, 0], "has labels for 200 items, the data set hands over item 250"),
        (
            "worse_label",
            [0, 1, 2, 3],
            [0, 1, 3, 2],
            "its clean_label differs from the data set for 2 of 4 items",
        ),
    ],
)
def test_human_labels_that_do_not_fit_are_refused(
    tmp_path: Path, column: str, rows: list[int], classes: list[int], said: str
) -> None:
    np.savez(tmp_path / "human.npz", **_columns(_balanced(10, 20)))  # type: ignore[arg-type]
    with pytest.raises(UserError) as problem:
        human_labels(str(tmp_path / "human.npz"), column, np.array(rows), np.array(classes))
    assert said in str(problem.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([np.arange(3)], "should hold labels by the name of their column"),
        ({"worse_label": np.zeros((2, 2), dtype=int)}, "column worse_label should hold one integer an item"),
        ({"worse_label": {"a": np.arange(3)}}, "column worse_label should hold one integer an item"),
        ({"worse_label": [0.5, 1.0]}, "column worse_label should hold one integer an item"),
        ({"worse_label": [[0], [1, 2]]}, "column worse_label should hold one integer an item"),
        ({"worse_label": ["cat", "dog"]}, "column worse_label should hold one integer an item"),
    ],
)
def test_what_holds_no_columns_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "human.pt")
    with pytest.raises(UserError, match=said):
        human_labels(str(tmp_path / "human.pt"), "worse_label", np.array([0]), np.array([0]))


def test_a_twin_has_the_transition_matrix_of_the_people_but_labels_of_its_own(tmp_path: Path) -> None:
    labels = _balanced(10, 1000)
    columns, file = _columns(labels), tmp_path / "human.npz"
    np.savez(file, **columns)  # type: ignore[arg-type]
    people, twin = (_noisy(labels, f"human[file={file}{more}]") for more in ("", ",twin=true"))
    np.testing.assert_array_equal(people, columns["worse_label"])
    _assert_drawn_from(transition(labels, people, 10), labels, twin)
    both = ((people != labels) & (twin != labels)).mean()
    assert both == pytest.approx(0.4 * 0.4, abs=0.02), "which items are wrong is independent of the people's"


def test_human_labels_reach_the_items_they_were_given_to_whatever_the_order_of_classes(
    tmp_path: Path,
) -> None:
    _, labels = _digits()
    columns, file = _columns(labels), tmp_path / "human.npz"
    np.savez(file, **columns)  # type: ignore[arg-type]
    deal = _scenario(noise=f"human[file={file}]").deal(3)
    assert deal.class_numbers is not None
    assert not np.array_equal(deal.class_numbers, np.arange(10))
    (stage,) = deal.stages
    np.testing.assert_array_equal(
        deal.class_numbers[stage.observed_labels], columns["worse_label"][stage.rows]
    )


# --- what is dealt ------------------------------------------------------------------------------------------


def _scenario(**values: Any) -> NoisyLabels:
    return NoisyLabels(**values)


def _base(scenario: NoisyLabels, seed: int = 0) -> Deal:
    return scenario.base.deal(seed)


def _given(deal: Deal) -> dict[int, int]:
    """Return the label that was handed over with every item, for training or validation."""
    pairs = [
        pair
        for stage in deal.stages
        for pair in ((stage.rows, stage.observed_labels), (stage.validation, stage.validation_labels))
    ]
    return {
        int(row): int(label)
        for rows, labels in pairs
        for row, label in zip(rows, labels, strict=True)
        if label != HIDDEN
    }


@pytest.mark.parametrize("over", [ONE, FIVE, DISCOVERY, "two-gaussians[items=100,dimensions=90]"])
def test_only_labels_handed_over_are_wrong_and_nothing_else_is_changed(over: str) -> None:
    scenario = _scenario(over=over, noise="symmetric[rate=0.2]")
    deal, base = scenario.deal(0), _base(scenario)
    np.testing.assert_array_equal(deal.labels, base.labels)
    for name, values in base.facts.items():
        np.testing.assert_array_equal(deal.facts[name], values)
    for stage, before in zip(deal.stages, base.stages, strict=True):
        np.testing.assert_array_equal(stage.query, before.query)
        assert (stage.named_classes, stage.new_classes) == (before.named_classes, before.new_classes)
    given, true = _given(deal), _given(base)
    assert given.keys() == true.keys()
    counts = np.bincount([label for row, label in true.items() if given[row] != label])
    expected = [round(0.2 * size) for size in np.bincount(list(true.values()))]
    np.testing.assert_array_equal(counts, expected)
    tested = np.unique(np.concatenate([stage.query for stage in deal.stages]))
    assert (deal.facts["part"][tested] == TEST).all()
    assert (deal.facts["observed"][tested] == HIDDEN).all()
    assert [int(deal.facts["observed"][row]) for row in given] == list(given.values())


def test_the_same_seed_deals_the_same_labels_and_another_seed_other_ones() -> None:
    scenario = _scenario(over=FIVE)
    one, again, other = (scenario.deal(seed) for seed in (0, 0, 1))
    assert _given(one) == _given(again)
    wrong = [
        {row for row, label in _given(deal).items() if label != deal.labels[row]} for deal in (one, other)
    ]
    shared = len(wrong[0] & wrong[1]) / len(wrong[0])
    assert shared == pytest.approx(0.4 * 0.8, abs=0.1), (
        "a wrong item is trained on again in 80 %, and wrong again in 40 % of these"
    )


@pytest.mark.parametrize(
    "more",
    [
        {"watched": 7},
        {"probe_epochs": 0, "tail": 3},
        {"told": "matrix"},
        {"epochs": 3, "batch_size": 8, "backbone": "linear"},
        {"report": "stream"},
        {"unidentifiable": True},
        {"stream": "by-true-open"},
    ],
    ids=str,
)
def test_what_has_nothing_to_do_with_the_noise_does_not_move_it(more: dict[str, Any]) -> None:
    assert _given(_scenario(over=FIVE).deal(0)) == _given(_scenario(over=FIVE, **more).deal(0))


@pytest.mark.parametrize("stream", ["by-observed", "within-stage", "by-true-open", "by-true-masked"])
def test_without_noise_every_stream_is_the_scenario_beneath(stream: Mode) -> None:
    scenario = _scenario(over=FIVE, noise="none", stream=stream)
    for stage, before in zip(scenario.deal(0).stages, _base(scenario).stages, strict=True):
        np.testing.assert_array_equal(stage.rows, before.rows)
        np.testing.assert_array_equal(stage.observed_labels, before.observed_labels)
        assert (stage.named_classes, stage.new_classes) == (before.named_classes, before.new_classes)


def test_a_map_means_the_classes_of_the_data_set_in_whatever_order_they_arrive() -> None:
    deal = _scenario(over=FIVE, noise="asymmetric[rate=0.3,map=mnist]").deal(2)
    assert deal.class_numbers is not None
    seen = {
        (int(deal.class_numbers[deal.labels[row]]), int(deal.class_numbers[label]))
        for row, label in _given(deal).items()
    }
    assert {pair for pair in seen if pair[0] != pair[1]} == {(7, 1), (2, 7), (3, 8), (5, 6), (6, 5)}


@pytest.mark.parametrize("stream", ["by-observed", "within-stage"])
def test_noises_joined_by_plus_take_one_stage_each(stream: Mode) -> None:
    deal = _scenario(over=TWO, noise="symmetric[rate=0.2] + pair[rate=0.4]", stream=stream).deal(0)
    given = _given(deal)
    labels, observed = deal.labels[list(given)], np.array(list(given.values()))
    sizes = np.bincount(labels)
    assert _wrong_per_class(labels, observed) == [round(0.2 * size) for size in sizes[:5]] + [
        round(0.4 * size) for size in sizes[5:]
    ]
    late = labels >= 5
    assert [len(set(observed[labels == label]) - {label}) for label in range(5, 10)] == [1] * 5, (
        "a pair flip has one target"
    )
    assert set(observed[late]) <= set(range(5, 10)) or stream == "by-observed"


# --- validation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["noisy", "clean"])
def test_validation_items_are_a_share_of_every_class_apart_from_training(policy: str) -> None:
    scenario = _scenario(validation=policy, validation_fraction=0.25, noise="symmetric[rate=0.4]")
    deal, (before,) = scenario.deal(0), _base(scenario).stages
    (stage,) = deal.stages
    assert sorted([*stage.rows, *stage.validation]) == list(before.rows)
    sizes, held = np.bincount(before.observed_labels), np.bincount(deal.labels[stage.validation])
    assert held.tolist() == [round(0.25 * size) for size in sizes]
    assert (deal.facts["part"][stage.validation] == VALIDATION).all()
    assert (deal.facts["part"][stage.rows] == TRAIN).all()
    np.testing.assert_array_equal(deal.facts["observed"][stage.validation], stage.validation_labels)
    assert _wrong_per_class(deal.labels[stage.rows], stage.observed_labels) == [
        round(0.4 * size) for size in sizes - held
    ]
    wrong = [round(0.4 * size) for size in held] if policy == "noisy" else [0] * 10
    assert _wrong_per_class(deal.labels[stage.validation], stage.validation_labels) == wrong


def test_the_validation_labels_do_not_move_the_training_labels_and_the_default_holds_nothing_out() -> None:
    noisy, clean = (_scenario(validation=policy).deal(0).stages[0] for policy in ("noisy", "clean"))
    np.testing.assert_array_equal(noisy.rows, clean.rows)
    np.testing.assert_array_equal(noisy.observed_labels, clean.observed_labels)
    assert build(_scenario(), 0).episodes[0].stage.validation is None


@pytest.mark.parametrize("policy", ["noisy", "clean"])
@pytest.mark.parametrize("stream", ["by-observed", "within-stage", "by-true-open", "by-true-masked"])
def test_no_label_that_is_handed_over_names_a_class_before_its_time(stream: Mode, policy: str) -> None:
    """The contract: labels lie in [0, named_classes). That holds for those to choose by as well."""
    for stage, _ in build(_scenario(over=FIVE, stream=stream, validation=policy), 0).episodes:
        assert isinstance(stage.validation, Validation)
        assert stage.labels.max() < stage.named_classes
        assert stage.validation.labels.max() < stage.named_classes


# --- what learners are told, and what the upper bound is ----------------------------------------------------


@pytest.mark.parametrize("over", [ONE, FIVE])
def test_what_is_told_of_a_stage_is_what_counting_gives(over: str) -> None:
    assert all(stage.noise_info is None for stage, _ in build(_scenario(over=over), 0).episodes)
    for told in ("rate", "matrix"):
        sealed = build(_scenario(over=over, told=told), 0)
        for stage, _ in sealed.episodes:
            labels = sealed.truth.labels[stage.ids]
            assert stage.noise_info is not None
            assert stage.noise_info.rate == pytest.approx(np.mean(labels != stage.labels))
            if told == "rate":
                assert stage.noise_info.matrix is None
                continue
            assert stage.noise_info.matrix is not None
            assert stage.noise_info.matrix.shape == (stage.named_classes, stage.named_classes)
            np.testing.assert_allclose(stage.noise_info.matrix.sum(axis=1), 1, rtol=1e-6)
            for label in range(stage.named_classes):
                seen = stage.labels[labels == label]
                expected = [
                    np.mean(seen == other) if len(seen) else label == other
                    for other in range(stage.named_classes)
                ]
                np.testing.assert_allclose(stage.noise_info.matrix[label], expected, rtol=1e-6)


@pytest.mark.parametrize("stream", ["by-observed", "by-true-open"])
def test_the_upper_bound_is_handed_true_labels_and_scored_by_the_same_truth(stream: Mode) -> None:
    scenario = _scenario(over=FIVE, stream=stream, validation="noisy")
    sealed, revealed = build(scenario, 0), build(scenario, 0, reveal=True)
    assert scenario.upper_bound == scenario.base.upper_bound
    for (noisy, _), (true, _) in zip(sealed.episodes, revealed.episodes, strict=True):
        np.testing.assert_array_equal(true.ids, noisy.ids)
        np.testing.assert_array_equal(true.labels, sealed.truth.labels[true.ids])
        assert (noisy.labels != true.labels).any()
        assert true.labels.max() < true.named_classes
        assert true.validation is not None
        np.testing.assert_array_equal(true.validation.labels, sealed.truth.labels[true.validation.ids])
    np.testing.assert_array_equal(revealed.truth.labels, sealed.truth.labels)
    assert revealed.truth.named_classes == sealed.truth.named_classes
    for name, values in sealed.truth.facts.items():
        np.testing.assert_array_equal(revealed.truth.facts[name], values)


# --- streams of stages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stages", "rate"), [(5, 0.4), (2, 0.4), (5, 0.2)])
def test_stages_by_observed_label_hold_foreign_items_at_the_derived_share(stages: int, rate: float) -> None:
    """A wrong label goes to one of K - 1 classes, K - m of which are of other stages: r (K - m) / (K - 1) of
    the items are foreign.
    """
    scenario = _scenario(
        over=f"class-incremental[dataset=digits,stages={stages}]", noise=f"symmetric[rate={rate}]"
    )
    deals = [scenario.deal(seed) for seed in range(5)]
    each = 10 // stages
    foreign = []
    for deal in deals:
        for index, stage in enumerate(deal.stages):
            assert set(stage.observed_labels) == set(range(each * index, each * (index + 1)))
            foreign.append(deal.facts["stage"][stage.rows] != index)
        assert sorted(np.concatenate([stage.rows for stage in deal.stages])) == sorted(_given(deal))
    share = rate * (10 - each) / 9
    assert np.concatenate(foreign).mean() == pytest.approx(
        share, abs=5 * np.sqrt(share * (1 - share) / sum(map(len, foreign)))
    )
    for own in foreign:
        assert own.mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / len(own)))


def test_within_a_stage_of_two_classes_symmetric_noise_is_a_pair_flip() -> None:
    scenario = _scenario(over=FIVE, stream="within-stage", noise="symmetric[rate=0.4]")
    deal = scenario.deal(0)
    for index, (stage, before) in enumerate(zip(deal.stages, _base(scenario).stages, strict=True)):
        np.testing.assert_array_equal(stage.rows, before.rows)
        wrong = stage.observed_labels != before.observed_labels
        np.testing.assert_array_equal(stage.observed_labels[wrong], before.observed_labels[wrong] ^ 1)
        sizes = np.bincount(before.observed_labels)[2 * index :]
        assert _wrong_per_class(before.observed_labels, stage.observed_labels)[2 * index : 2 * index + 2] == [
            round(0.4 * size) for size in sizes
        ]


def test_stages_that_are_corrupted_apart_have_luck_of_their_own() -> None:
    """Row by row, two stages agree in being wrong with chance r^2 + (1 - r)^2."""
    deal = _scenario(over=FIVE, stream="within-stage", noise="symmetric[rate=0.4,counting=each-row]").deal(0)
    wrong = [(deal.labels[stage.rows] != stage.observed_labels)[:250] for stage in deal.stages]
    for one, other in pairwise(wrong):
        assert np.mean(one == other) == pytest.approx(0.52, abs=5 * 0.5 / np.sqrt(250))


def test_in_the_open_stream_items_stay_and_labels_may_name_what_has_not_come() -> None:
    scenario = _scenario(over=FIVE, stream="by-true-open", noise="pair[rate=0.3]")
    deal = scenario.deal(0)
    named, new = zip(*[(stage.named_classes, stage.new_classes) for stage in deal.stages], strict=True)
    for stage, before in zip(deal.stages, _base(scenario).stages, strict=True):
        np.testing.assert_array_equal(stage.rows, before.rows)
        assert stage.observed_labels.max() < stage.named_classes
    assert (
        sum(
            len(set(stage.observed_labels[stage.observed_labels >= 2 * index + 2]))
            for index, stage in enumerate(deal.stages)
        )
        > 0
    )
    highest = np.maximum.accumulate(
        [max(2 * index + 1, int(stage.observed_labels.max())) for index, stage in enumerate(deal.stages)]
    )
    assert list(named) == (highest + 1).tolist()
    assert list(new) == np.diff([0, *named]).tolist()


def test_the_masked_stream_is_the_open_one_without_the_labels_that_come_too_early() -> None:
    opened, masked = (
        _scenario(over=FIVE, stream=stream, validation="noisy").deal(0)
        for stream in ("by-true-open", "by-true-masked")
    )
    for index, (one, other) in enumerate(zip(opened.stages, masked.stages, strict=True)):
        for rows, given, found, found_given in [
            (one.rows, one.observed_labels, other.rows, other.observed_labels),
            (one.validation, one.validation_labels, other.validation, other.validation_labels),
        ]:
            timely = given < 2 * index + 2
            np.testing.assert_array_equal(found, rows[timely])
            np.testing.assert_array_equal(found_given, given[timely])
        assert (other.named_classes, other.new_classes) == (2 * index + 2, 2)
    wrong = [
        np.mean(np.concatenate([deal.labels[stage.rows] != stage.observed_labels for stage in deal.stages]))
        for deal in (opened, masked)
    ]
    assert wrong[0] == pytest.approx(0.4, abs=0.01)
    assert wrong[1] < 0.3


@pytest.mark.parametrize("stream", ["by-observed", "within-stage", "by-true-open", "by-true-masked"])
def test_over_category_discovery_only_the_labels_of_stage_0_lie(stream: Mode) -> None:
    """They can only name the classes of stage 0, so all streams are one; later stages hide their labels and
    stay as they are.
    """
    scenario = _scenario(over=DISCOVERY, stream=stream, noise="symmetric[rate=0.25]")
    deal, base = scenario.deal(0), _base(scenario)
    sizes = np.bincount(base.stages[0].observed_labels)
    np.testing.assert_array_equal(deal.stages[0].rows, base.stages[0].rows)
    assert _wrong_per_class(base.stages[0].observed_labels, deal.stages[0].observed_labels, 4) == [
        round(0.25 * size) for size in sizes
    ]
    assert set(deal.stages[0].observed_labels) == {0, 1, 2, 3}
    for stage, before in zip(deal.stages[1:], base.stages[1:], strict=True):
        np.testing.assert_array_equal(stage.rows, before.rows)
        assert (stage.observed_labels == HIDDEN).all()
        assert (stage.named_classes, stage.new_classes) == (before.named_classes, before.new_classes)


@pytest.mark.parametrize("watched", [0, 30])
def test_training_items_to_look_at_are_labelled_ones_of_the_stages_so_far_and_all_held_out_ones(
    watched: int,
) -> None:
    deal = _scenario(over=FIVE, watched=watched, validation="noisy").deal(0)
    held: set[int] = set()
    shown: set[int] = set()
    for index, stage in enumerate(deal.stages):
        held |= set(stage.validation)
        shown |= set(stage.rows)
        looked_at = set(stage.monitored)
        assert len(looked_at) == len(stage.monitored)
        assert held <= looked_at <= held | shown
        assert not looked_at & set(stage.query)
        assert len(looked_at - held) == (len(shown) if watched == 0 else 30 * (index + 1))


@pytest.mark.parametrize("over", [FIVE, DISCOVERY])
def test_an_item_to_look_at_is_asked_under_the_id_it_was_learned_under(over: str) -> None:
    """Otherwise no learner could say what it makes of the label that came with it, so nothing could be kept
    or suspected.
    """
    sealed = build(_scenario(over=over, noise="symmetric[rate=0.2]"), 0)
    learned: set[int] = set()
    for stage, query in sealed.episodes:
        learned |= set(stage.ids[stage.labels != HIDDEN].tolist())
        looked_at = query.ids[sealed.truth.facts["part"][query.ids] == TRAIN]
        assert len(looked_at) > 0
        assert set(looked_at.tolist()) <= learned


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"over": FIVE, "stream": "by-true-open", "validation": "noisy"},
        {"over": FIVE, "told": "matrix", "validation": "clean"},
        {"over": DISCOVERY, "validation": "noisy"},
        {"over": "two-gaussians[items=60,dimensions=50,test_items=40]"},
    ],
    ids=str,
)
def test_the_scenario_conforms(values: dict[str, Any]) -> None:
    assert [finding for finding in check_scenario(_scenario(**values)) if not finding.holds] == []


# --- scores -------------------------------------------------------------------------------------------------


def _answers(sealed: Sealed, what: str) -> list[StoredPrediction]:
    """Answer the truth, or with every training item the label that came with it."""
    given = []
    for index, (_, query) in enumerate(sealed.episodes):
        ids = np.sort(query.ids)
        labels, observed = sealed.truth.labels[ids], sealed.truth.facts["observed"][ids]
        classes = labels if what == "truth" else np.where(observed == HIDDEN, labels, observed)
        given.append(StoredPrediction(stage=index, step=None, ids=ids, arrays={"classes": classes}))
    return given


def test_a_learner_that_knows_better_and_one_that_believes_everything() -> None:
    """Believing everything implies T^ = I, which errs by twice the rate."""
    scenario = _scenario(watched=0, validation="noisy", noise="symmetric[rate=0.4]")
    sealed = build(scenario, 0)
    wise, gullible = (
        scenario.score(sealed.truth, _answers(sealed, what)).final for what in ("truth", "labels")
    )
    assert {"memorised": 0, "corrected": 1, "matrix_error": 0, "last_accuracy": 1}.items() <= wise.items()
    assert {
        "memorised": 1,
        "corrected": 0,
        "last_accuracy": 1,
        "chosen_accuracy": 1,
    }.items() <= gullible.items()
    assert gullible["wrong_labels"] == pytest.approx(0.4, abs=0.005)
    assert gullible["matrix_error"] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("report", ["labels", "stream"])
@pytest.mark.parametrize("over", [ONE, TWO, "two-gaussians"])
def test_every_figure_that_is_promised_is_there_at_the_end_and_none_before(over: str, report: str) -> None:
    """Boards rank by the first metric; where it is missing, nothing can be ranked."""
    scenario = _scenario(over=over, report=report)
    sealed = build(scenario, 0)
    answers = _answers(sealed, "truth")
    assert {metric.name for metric in scenario.metrics} <= scenario.score(sealed.truth, answers).final.keys()
    assert scenario.score(sealed.truth, answers[:-1]).final == {}


def test_over_category_discovery_the_scores_beneath_stay_what_they_are() -> None:
    scenario = _scenario(over=DISCOVERY, report="stream")
    sealed, plain = build(scenario, 0), build(scenario.base, 0)
    scores = scenario.score(sealed.truth, _answers(sealed, "labels"))
    asked = [
        replace(answer, ids=query.ids, arrays={"classes": plain.truth.labels[query.ids]})
        for answer, (_, query) in zip(_answers(sealed, "truth"), plain.episodes, strict=True)
    ]
    for name, figure in scenario.base.score(plain.truth, asked).final.items():
        np.testing.assert_equal(scores.final[name], figure)
    assert scores.final["memorised"] == 1


@pytest.mark.filterwarnings("error")
def test_labels_ahead_of_their_time_leave_the_scores_beneath_finite() -> None:
    scenario = _scenario(
        over="class-incremental[dataset=digits,stages=5,task_access=test]", stream="by-true-open"
    )
    sealed = build(scenario, 0)
    final = scenario.score(sealed.truth, _answers(sealed, "truth")).final
    assert all(np.isfinite(final[metric.name]) for metric in scenario.base.metrics)


# --- looks between epochs -----------------------------------------------------------------------------------


class Restless(Strategy):
    """Answers by the ids of items, otherwise after every epoch, and offers a look at every gradient step and
    epoch.
    """

    def learn(self, stage: Stage) -> None:
        self.epoch = 0
        for epoch in range(1, self.context.epochs + 1):
            self.epoch = epoch
            for step in (2 * epoch - 1, 2 * epoch):
                self.context.probe(step)
            self.context.epoch_ended(epoch)

    def predict(self, query: Query) -> Prediction:
        return Prediction(
            classes=(query.ids + self.epoch) % 10,
            suspicion=np.zeros(len(query.ids)),
            kept=np.ones(len(query.ids)),
        )


def _run(
    scenario: Scenario, strategy: Strategy, folder: Path, seed: int = 0
) -> tuple[Sealed, list[StoredPrediction]]:
    """Run a cell in this process, under the conditions that `harness.execution.execute` sets."""
    sealed = build(scenario, seed)
    settings = CellSettings(
        root_seed=learner_seed(seed),
        budget=scenario.budget(),
        needed=scenario.answers,
        probed=scenario.probed,
    )
    results = run_cell(strategy, sealed.episodes, settings, scratch=folder)
    return sealed, [answer for result in results for answer in result.answers]


def _test_accuracy(sealed: Sealed, answer: StoredPrediction) -> float:
    answered = dict(zip(answer.ids.tolist(), answer.arrays["classes"].tolist(), strict=True))
    tested = np.flatnonzero(sealed.truth.facts["part"] == TEST).tolist()
    return float(np.mean([answered[item] == sealed.truth.labels[item] for item in tested]))


@pytest.mark.parametrize(
    ("epochs", "probe_epochs", "tail", "steps", "in_tail"),
    [
        (7, 2, 2, [2, 4, 6], 2),
        (8, 2, 2, [2, 4, 6, 7], 2),
        (9, 4, 3, [4, 7, 8], 3),
        (5, 0, 2, [4], 2),
        (4, 0, 1, [], 1),
        (3, 1, 9, [1, 2], 3),
    ],
)
def test_looks_come_at_multiples_and_in_the_tail_which_is_averaged(
    tmp_path: Path, epochs: int, probe_epochs: int, tail: int, steps: Sequence[int], in_tail: int
) -> None:
    scenario = _scenario(epochs=epochs, probe_epochs=probe_epochs, tail=tail, watched=20)
    sealed, answers = _run(scenario, Restless(), tmp_path)
    assert [answer.step for answer in answers] == [*steps, None]
    assert all(answer.arrays.keys() == {"classes"} for answer in answers[:-1]), (
        "of a look between epochs only predictions are kept"
    )
    assert answers[-1].arrays.keys() == {"classes", "suspicion", "kept"}
    accuracies = [_test_accuracy(sealed, answer) for answer in answers]
    assert len(set(accuracies)) == len(accuracies)
    scores = scenario.score(sealed.truth, answers)
    assert scores.final["tail_accuracy"] == pytest.approx(np.mean(accuracies[-in_tail:]))
    assert scores.final["last_accuracy"] == pytest.approx(accuracies[-1])
    assert scores.final["best_accuracy"] == pytest.approx(max(accuracies))
    assert [(stage, step) for stage, step, _ in scores.probes["accuracy"]] == [
        *((0, step) for step in steps),
        (0, epochs),
    ]


def test_of_several_stages_only_the_epochs_of_the_last_are_averaged(tmp_path: Path) -> None:
    scenario = _scenario(over=TWO, epochs=4, probe_epochs=0, tail=3, watched=20)
    sealed, answers = _run(scenario, Restless(), tmp_path)
    assert [(answer.stage, answer.step) for answer in answers] == [
        (0, 2),
        (0, 3),
        (0, None),
        (1, 2),
        (1, 3),
        (1, None),
    ]
    accuracies = [_test_accuracy(sealed, answer) for answer in answers[3:]]
    assert scenario.score(sealed.truth, answers).final["tail_accuracy"] == pytest.approx(np.mean(accuracies))


def test_a_trained_network_is_looked_at_between_epochs(tmp_path: Path) -> None:
    scenario = _scenario(
        epochs=5,
        probe_epochs=2,
        tail=2,
        watched=50,
        validation="noisy",
        batch_size=64,
        backbone="mlp[width=32]",
    )
    sealed, answers = _run(scenario, configured("strategy", "cross-entropy"), tmp_path)
    assert [(answer.step, sorted(answer.arrays) == ["classes"]) for answer in answers] == [
        (2, True),
        (4, True),
        (None, False),
    ]
    final = scenario.score(sealed.truth, answers).final
    accuracies = [_test_accuracy(sealed, answer) for answer in answers]
    assert final["tail_accuracy"] == pytest.approx(np.mean(accuracies[-2:]))
    validation = sealed.episodes[0].stage.validation
    assert validation is not None
    agreeing = [
        np.mean(answer.arrays["classes"][np.isin(answer.ids, validation.ids)] == validation.labels)
        for answer in answers
    ]
    assert final["chosen_accuracy"] == pytest.approx(accuracies[int(np.argmax(agreeing))])


# --- what cannot be done ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("noise=symmetric[rate=1.0]", "rate should be less than 1, got 1.0"),
        ("noise=pair[rate=-0.1]", "rate should be greater than or equal to 0, got -0.1"),
        ("noise=instance[rate=1.5]", "rate should be less than 1, got 1.5"),
        ("noise=symetric", "unknown noise 'symetric'; did you mean 'symmetric'?"),
        ("noise=symmetric[rat=0.2]", "unknown parameter of Symmetric 'rat'; did you mean 'rate'?"),
        ("noise=symmetric[counting=per-item]", "counting should be"),
        (
            "noise=symmetric[rate=0.95,include_self=true]",
            "would hit more than every row: with 10 classes the rate is at most 0.9",
        ),
        (
            "noise=symmetric[rate=0.95]",
            "labels 10 of 10 classes as another one more often than as themselves",
        ),
        ("noise=pair[rate=0.6]", "lower the rate, or set unidentifiable=true"),
        ("noise=pair+pair", "2 kinds of noise are joined by +, the base scenario has 1 stages with labels"),
        ("noise=asymmetric[map=3>3]", "takes class 3 for itself"),
        ("noise=asymmetric[map=3>4/3>5]", "says twice what class 3 is taken for"),
        ("noise=asymmetric[map=3>10]", "names class 10, which is not among the 10 classes"),
        ("noise=asymmetric[map=3>x]", "expected SOURCE>TARGET"),
        ("noise=asymmetric[map=cifar]", "unknown class map 'cifar'; did you mean 'cifar10'?"),
        (
            "over=two-gaussians,noise=asymmetric[map=mnist]",
            "map=mnist is about classes 0 to 9, here are 2 classes up to 1",
        ),
        ("noise=superclass[size=3]", "10 classes do not fall into groups of 3"),
        ("noise=superclass[groups=superclass]", "CIFAR-100's classes 0 to 99, here are 10 classes"),
        ("noise=matrix", "needs either rows=0.9/0.1;0.2/0.8 or file=PATH"),
        (
            "over=two-gaussians,noise=matrix[rows=0.9/0.2;0/1]",
            "row 0 of the matrix transition matrix should hold chances that sum to 1",
        ),
        ("over=two-gaussians,noise=matrix[rows=1/0;1.2/-0.2]", "and negative entries"),
        ("over=two-gaussians,noise=matrix[rows=0.9/0.1;0.5]", "cannot read the transition matrix"),
        ("over=two-gaussians,noise=matrix[rows=0.9/0.1;0.5/a]", "cannot read the transition matrix"),
        ("over=two-gaussians,noise=matrix[rows=0.9/0.1]", "has shape (1, 2), here are 2 classes"),
        ("noise=matrix[rows=0.9/0.1;0/1]", "has shape (2, 2), here are 10 classes"),
        ("noise=matrix[file=/nowhere/t.npy]", "cannot read the transition matrix '/nowhere/t.npy'"),
        ("noise=human", "no file '' with human labels"),
        (
            "over=two-gaussians,unidentifiable=true,noise=matrix[rows=0/1;0/1]",
            "leaves 1 of 2 classes without a single right label",
        ),
        ("over=noisy-labels", "not itself"),
        ("over=class-incrementl", "did you mean 'class-incremental'"),
        ("tial=5", "unknown parameter of NoisyLabels 'tial'; did you mean 'tail'?"),
        ("validation_fraction=1", "validation_fraction should be less than 1"),
        ("stream=by-label", "stream should be"),
        # one class a stage leaves nothing to be taken for
        (
            "over=class-incremental[stages=10],stream=within-stage",
            "symmetric noise needs at least two classes",
        ),
        (
            "over=class-incremental[stages=10],stream=within-stage,noise=symmetric[rate=0.2,include_self=true]",
            "needs at least two classes",
        ),
        (
            "over=class-incremental[stages=10],stream=within-stage,noise=instance",
            "needs at least two classes",
        ),
        # gradient steps and epochs would be mixed up
        ("probe_every=5", "probe_epochs"),
    ],
)
def test_bad_input_is_told_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UserError) as problem:
        configured("scenario", f"noisy-labels[{text}]").deal(0)
    assert said in str(problem.value)
    assert "\n" not in str(problem.value)


def test_superclasses_are_those_of_the_classes_of_cifar100_and_no_other_hundred() -> None:
    with pytest.raises(UserError, match="CIFAR-100"):
        next_in_group("superclass", 5, np.arange(50, 150))


@pytest.mark.filterwarnings("ignore:loadtxt")
@pytest.mark.parametrize("content", [b"", b"0.9,0.1\n0.2", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("name", ["t.npy", "t.csv"])
def test_a_broken_file_of_a_matrix_is_told_in_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="transition matrix") as problem:
        _noisy(_balanced(2, 4), f"matrix[file={tmp_path / name}]", classes=2)
    assert "\n" not in str(problem.value)


def test_a_matrix_from_a_pickle_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([_Trap(tmp_path / "mark")], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot read the transition matrix"):
        _noisy(_balanced(2, 4), f"matrix[file={tmp_path / 't.npy'}]", classes=2)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(("noise", "wrong"), [("symmetric[rate=0.95]", 0.95), ("pair[rate=0.6]", 0.6)])
def test_noise_that_hides_which_class_is_which_is_dealt_where_that_is_said(noise: str, wrong: float) -> None:
    (stage,) = (deal := _scenario(noise=noise, unidentifiable=True).deal(0)).stages
    assert np.mean(deal.labels[stage.rows] != stage.observed_labels) == pytest.approx(wrong, abs=0.005)


def test_a_tie_between_two_classes_is_identifiable_enough() -> None:
    (stage,) = (deal := _scenario(noise="pair[rate=0.5]").deal(0)).stages
    assert np.mean(deal.labels[stage.rows] != stage.observed_labels) == pytest.approx(0.5, abs=0.005)


# --- two Gaussians ------------------------------------------------------------------------------------------


def test_the_two_gaussians_lie_around_plus_and_minus_a_unit_vector() -> None:
    deal = TwoGaussians(items=2000, dimensions=20, sigma=0.3, test_items=1000).deal(0)
    inputs = np.asarray(deal.inputs[np.arange(3000)])
    assert inputs.dtype == np.float32
    for label, sign in ((0, -1), (1, 1)):
        own = inputs[deal.labels == label]
        assert len(own) == 1500
        centre = sign * np.eye(20)[0]
        assert np.abs(own.mean(axis=0) - centre).max() < 5 * 0.3 / np.sqrt(1500)
        covariance = np.cov((own - centre).T)
        np.testing.assert_allclose(covariance, 0.09 * np.eye(20), atol=5 * 0.09 * np.sqrt(2 / 1500))
    (stage,) = deal.stages
    assert sorted([*stage.rows, *stage.query]) == list(range(3000))
    assert (len(stage.rows), len(stage.query)) == (2000, 1000)
    np.testing.assert_array_equal(stage.observed_labels, deal.labels[stage.rows])
    assert (stage.named_classes, stage.new_classes) == (2, 2)


def test_the_two_gaussians_are_drawn_anew_under_every_seed() -> None:
    one, again, other = (
        np.asarray(TwoGaussians(items=10, dimensions=5).deal(seed).inputs[np.arange(10)])
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.isclose(one, other).any()


@pytest.mark.parametrize("seed", [0, 1])
def test_cross_entropy_learns_the_line_then_every_wrong_label_and_early_learning_regularisation_does_not(
    tmp_path: Path, seed: int
) -> None:
    """The theorem of Liu et al. 2020: 500 items in 450 dimensions, 40 % of the labels wrong, full-batch
    gradient descent.
    """
    scenario = configured("scenario", "noisy-labels[preset=two-gaussians]")
    final = {}
    for name in ("cross-entropy[", "elr[weight=3,"):
        sealed, answers = _run(
            scenario, configured("strategy", f"{name}lr=1,momentum=0,weight_decay=0]"), tmp_path, seed
        )
        final[name] = scenario.score(sealed.truth, answers).final
        if name == "cross-entropy[":
            accuracies = [
                _test_accuracy(sealed, answer)
                for answer in answers
                if answer.step is not None and answer.step <= 200
            ]
            assert max(accuracies) > 0.97, "the line is found in the first tenth of the training"
    assert final["cross-entropy["]["best_accuracy"] > 0.97
    assert final["cross-entropy["]["last_accuracy"] < 0.75
    assert final["cross-entropy["]["memorised"] > 0.95
    assert final["elr[weight=3,"]["last_accuracy"] > 0.97
    assert final["elr[weight=3,"]["memorised"] < 0.1
