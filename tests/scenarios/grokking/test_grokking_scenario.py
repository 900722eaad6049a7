"""Grokking under label corruption: tables are those of the formulas, sets are nested, streams independent,
nothing leaks, scores count.
"""

from __future__ import annotations

import doctest
import hashlib
import math
import random
import runpy
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare
from sklearn.metrics import roc_auc_score

from harness.cell.sealing import Sealed, build
from harness.checks.scenarios import check_scenario
from harness.contracts import HIDDEN, Deal, Scores, Status, StoredPrediction, TrainingBudget
from harness.errors import UserError
from harness.metrics.grokking import PHASES
from harness.parameters import validated
from harness.store import line_plots, plots
from leaderboards.publishing.board import BoardCell, Entry
from scenarios.grokking import operations, splitting
from scenarios.grokking.corruption import Kind
from scenarios.grokking.operations import NAMES, OPERATIONS, OperationName, table_of
from scenarios.grokking.presets import PRESETS
from scenarios.grokking.scenario import Grokking, train_digest
from scenarios.grokking.scoring import METRICS, TEST, TRAIN
from scenarios.grokking.splitting import floored, whole_groups

KINDS: tuple[Kind, ...] = ("any", "other", "flip", "structured", "pair_consistent")


def _grokking(**values: Any) -> Grokking:
    """Return a scenario of 11 x 11 pairs, checked as the command line checks it."""
    return Grokking(**validated(Grokking, {"modulus": 11, "train_fraction": 0.6, **values}))


def _by_pair(deal: Deal, fact: str) -> dict[int, int]:
    """Return a fact of the training pairs by the pair's number."""
    train = deal.facts["role"] == TRAIN
    return dict(zip(deal.facts["pair"][train].tolist(), deal.facts[fact][train].tolist(), strict=True))


def _pairs(deal: Deal, fact: str) -> set[int]:
    return {pair for pair, holds in _by_pair(deal, fact).items() if holds}


def _trained(deal: Deal) -> set[int]:
    return set(_by_pair(deal, "given"))


@pytest.mark.parametrize("module", [operations, splitting])
def test_the_examples_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


# --- tables -------------------------------------------------------------------------------------------------


def _quotient(x: int, y: int, p: int) -> int:
    return next(q for q in range(p) if q * y % p == x)


BY_HAND: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda x, y, p: (x + y) % p,
    "sub": lambda x, y, p: (x - y) % p,
    "mul": lambda x, y, p: (x * y) % p,
    "div": _quotient,
    "sq_sum": lambda x, y, p: (x * x + y * y) % p,
    "quad": lambda x, y, p: (x * x + x * y + y * y) % p,
    "quad_x": lambda x, y, p: (x * x + x * y + y * y + x) % p,
    "cube": lambda x, y, p: (x * x * x + x * y) % p,
    "cube2": lambda x, y, p: (x * x * x + x * y * y + y) % p,
    "mix_div": lambda x, y, p: _quotient(x, y, p) if y % 2 else (x - y) % p,
    "mix_mul": lambda x, y, p: x * y % p if x % 2 else (x + y) % p,
    "mix_sub": lambda x, y, p: (x - y) % p if x % 2 else (x + y) % p,
}


@pytest.mark.parametrize("modulus", [2, 5, 13, 31])
@pytest.mark.parametrize("operation", BY_HAND)
def test_every_table_is_that_of_its_formula_in_row_major_order(
    operation: OperationName, modulus: int
) -> None:
    table = table_of(operation, modulus, seed=0)
    pairs = [(x, y) for x in range(modulus) for y in range(modulus) if y or operation != "div"]
    assert table.pairs.tolist() == [list(pair) for pair in pairs]
    assert table.ids.tolist() == [x * modulus + y for x, y in pairs]
    assert table.labels.tolist() == [BY_HAND[operation](x, y, modulus) for x, y in pairs]


@pytest.mark.parametrize("operation", BY_HAND)
def test_operations_that_say_so_commute_and_the_others_do_not(operation: OperationName) -> None:
    p = 7
    labels = {(x, y): BY_HAND[operation](x, y, p) for x in range(1, p) for y in range(1, p)}
    assert OPERATIONS[operation].commutes == all(label == labels[y, x] for (x, y), label in labels.items())


def test_a_modulus_need_not_be_prime_where_nothing_is_divided() -> None:
    assert table_of("quad", 12, seed=0).labels.tolist() == [
        (x * x + x * y + y * y) % 12 for x in range(12) for y in range(12)
    ]


def test_the_random_table_has_no_rule_and_comes_from_the_seed_alone() -> None:
    """Its labels are uniform, and independent of x, of y and of what any formula makes of them."""
    p = 31
    table = table_of("random_table", p, seed=0)
    assert chisquare(np.bincount(table.labels, minlength=p)).pvalue > 1e-3
    x, y = table.pairs.T
    for other in (x, y, *(table_of(name, p, seed=0).labels for name in BY_HAND if name != "div")):
        assert chi2_contingency(np.histogram2d(other, table.labels, bins=p)[0] + 1e-9).pvalue > 1e-4
    np.testing.assert_array_equal(table.labels, table_of("random_table", p, seed=0).labels)
    assert (table.labels == table_of("random_table", p, seed=1).labels).mean() < 0.1


# --- splits and corruption ----------------------------------------------------------------------------------


@given(
    st.integers(0, 50),
    st.lists(st.floats(0.1, 0.9), min_size=2, max_size=4),
    st.sampled_from(["pairs", "orbits"]),
)
@settings(max_examples=40, deadline=None)
def test_a_larger_share_to_train_on_contains_the_smaller_one(
    seed: int, fractions: list[float], split: str
) -> None:
    trained = [
        _trained(_grokking(train_fraction=fraction, split=split).deal(seed)) for fraction in sorted(fractions)
    ]
    assert all(small <= large for small, large in pairwise(trained))


@given(st.integers(0, 50), st.lists(st.floats(0, 0.95), min_size=2, max_size=4), st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_a_larger_corruption_contains_the_smaller_one_with_the_same_labels(
    seed: int, rates: list[float], kind: Kind
) -> None:
    deals = [_grokking(corruption=rate, kind=kind).deal(seed) for rate in sorted(rates)]
    for small, large in pairwise(deals):
        assert _trained(small) == _trained(large)
        assert _pairs(small, "corrupted") <= _pairs(large, "corrupted")
        labels = _by_pair(large, "given")
        assert all(labels[pair] == _by_pair(small, "given")[pair] for pair in _pairs(small, "corrupted"))


@given(st.integers(0, 50), st.sampled_from(KINDS))
@settings(max_examples=40, deadline=None)
def test_the_wrong_label_of_a_pair_depends_neither_on_the_shares_nor_on_the_other_pairs(
    seed: int, kind: Kind
) -> None:
    few, many = (
        _grokking(train_fraction=alpha, corruption=xi, kind=kind).deal(seed)
        for alpha, xi in ((0.4, 0.9), (0.8, 0.5))
    )
    both = _pairs(few, "corrupted") & _pairs(many, "corrupted")
    assert both
    assert {pair: _by_pair(few, "given")[pair] for pair in both} == {
        pair: _by_pair(many, "given")[pair] for pair in both
    }


def test_split_and_corruption_are_streams_of_their_own() -> None:
    """Neither another operation, nor a kind, nor a rate moves the split; neither an operation nor a kind
    moves who is corrupted.
    """
    plain = _grokking(corruption=0.3).deal(0)
    for values in (
        {"corruption": 0.7},
        {"kind": "any"},
        {"operation": "quad"},
        {"operation": "random_table"},
        {"encoding": "tokens-3"},
    ):
        assert _trained(_grokking(**{"corruption": 0.3, **values}).deal(0)) == _trained(plain), values
    for values in ({"kind": "any"}, {"kind": "flip"}, {"operation": "sub"}):
        assert _pairs(_grokking(**{"corruption": 0.3, **values}).deal(0), "corrupted") == _pairs(
            plain, "corrupted"
        ), values
    other = _grokking(corruption=0.3).deal(1)
    assert _trained(other) != _trained(plain)
    common = _trained(other) & _trained(plain)
    assert _pairs(other, "corrupted") & common != _pairs(plain, "corrupted") & common
    drawn_first = _trained(_grokking(train_fraction=0.18).deal(0))
    assert len(drawn_first) == len(_pairs(plain, "corrupted")) == 21
    assert len(drawn_first & _pairs(plain, "corrupted")) < 14, (
        "those drawn first for the split are not those corrupted"
    )
    first = np.array([pair in _pairs(plain, "corrupted") for pair in sorted(_trained(plain))])
    assert abs(np.corrcoef(first, np.arange(len(first)))[0, 1]) < 0.3, (
        "who is corrupted has nothing to do with where a pair stands"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("alpha", "xi"), [(0.6, 0.25), (0.29, 0.5), (0.8, 0.0), (0.7, 0.95)])
def test_as_many_labels_are_corrupted_as_said_and_really_wrong_ones_differ_from_the_truth(
    kind: Kind, alpha: float, xi: float
) -> None:
    deal = _grokking(train_fraction=alpha, corruption=xi, kind=kind).deal(0)
    n_train, corrupted, wrong = len(_trained(deal)), _pairs(deal, "corrupted"), _pairs(deal, "wrong")
    assert n_train == math.floor(round(alpha * 121, 9))
    amount = math.floor(round(xi * n_train, 9))
    assert amount - len(corrupted) in ((0, 1) if kind == "pair_consistent" else (0,))
    assert wrong <= corrupted
    truth = dict(zip(deal.facts["pair"].tolist(), deal.labels.tolist(), strict=True))
    assert wrong == {pair for pair, label in _by_pair(deal, "given").items() if label != truth[pair]}
    if kind in ("other", "flip", "pair_consistent"):
        assert wrong == corrupted


def _corrupted(**values: Any) -> list[tuple[int, int, int, int]]:
    """Return x, y, true and given label of the corrupted pairs among 43 x 43."""
    deal = _grokking(modulus=43, train_fraction=0.9, corruption=0.9, **values).deal(0)
    hit = deal.facts["corrupted"]
    return [
        (*divmod(int(pair), 43), int(label), int(given_))
        for pair, label, given_ in zip(
            deal.facts["pair"][hit], deal.labels[hit], deal.facts["given"][hit], strict=True
        )
    ]


def test_any_label_is_uniform_over_all_and_another_one_over_the_wrong_ones() -> None:
    """1,496 labels: about 1/43 of those drawn from all are the true ones."""
    shifts = {
        kind: np.array([(given_ - label) % 43 for _, _, label, given_ in _corrupted(kind=kind)])
        for kind in ("any", "other")
    }
    assert len(shifts["any"]) == len(shifts["other"]) == 1497
    assert chisquare(np.bincount(shifts["any"], minlength=43)).pvalue > 1e-3
    assert chisquare(np.bincount(shifts["other"], minlength=43)[1:]).pvalue > 1e-3
    assert not (shifts["other"] == 0).any()


def test_kinds_draw_by_themselves() -> None:
    """Of the pairs with x <= y, whose number is that of the orbit, one in 42 gets the same label by chance."""
    labels = {
        kind: {(x, y): given_ for x, y, _, given_ in _corrupted(kind=kind) if x <= y}
        for kind in ("other", "pair_consistent")
    }
    both = labels["other"].keys() & labels["pair_consistent"].keys()
    assert len(both) > 500
    assert np.mean([labels["other"][pair] == labels["pair_consistent"][pair] for pair in both]) < 0.08


def test_flips_are_the_next_label_and_structured_ones_those_of_the_other_operation() -> None:
    assert all(given_ == (label + 1) % 43 for _, _, label, given_ in _corrupted(kind="flip"))
    assert all(given_ == (x - y) % 43 for x, y, _, given_ in _corrupted(kind="structured"))
    assert all(
        given_ == x * y % 43 for x, y, _, given_ in _corrupted(kind="structured", other_operation="mul")
    )


def test_consistent_pairs_are_wrong_together_and_alike() -> None:
    deal = _grokking(modulus=43, train_fraction=0.7, corruption=0.4, kind="pair_consistent").deal(3)
    labels, corrupted, trained = _by_pair(deal, "given"), _pairs(deal, "corrupted"), _trained(deal)
    mirrored = {pair: (pair % 43) * 43 + pair // 43 for pair in corrupted}
    both = {pair: mirror for pair, mirror in mirrored.items() if mirror in trained}
    assert len(both) > 100
    assert all(mirror in corrupted and labels[mirror] == labels[pair] for pair, mirror in both.items())


def test_a_matrix_is_drawn_from_by_the_row_of_the_true_label(tmp_path: Path) -> None:
    matrix = np.random.default_rng(5).dirichlet(np.full(43, 0.3), size=43)
    matrix[7] = np.eye(43)[7]
    np.save(tmp_path / "t.npy", matrix)
    np.savetxt(tmp_path / "t.csv", matrix, delimiter=",")
    drawn = _corrupted(kind="transition", file=str(tmp_path / "t.npy"))
    assert drawn == _corrupted(kind="transition", file=str(tmp_path / "t.csv"))
    assert all(given_ == 7 for _, _, label, given_ in drawn if label == 7)
    assert all(matrix[label, given_] > 0 for _, _, label, given_ in drawn)
    found = np.mean([matrix[label, given_] for _, _, label, given_ in drawn])
    expected = np.mean([np.square(matrix[label]).sum() for _, _, label, _ in drawn])
    assert found == pytest.approx(expected, rel=0.1)


def test_a_matrix_is_read_from_text() -> None:
    deal = _grokking(
        modulus=3, train_fraction=0.9, corruption=0.99, kind="transition", rows="0/1/0;0/0/1;0/0/1"
    ).deal(0)
    labels, given_, hit = deal.labels, deal.facts["given"], deal.facts["corrupted"]
    assert hit.sum() == 7
    np.testing.assert_array_equal(given_[hit], np.array([1, 2, 2])[labels[hit]])
    np.testing.assert_array_equal(deal.facts["wrong"], hit & (labels != 2))


@pytest.mark.parametrize("operation", ["add", "sub", "div"])
def test_mirror_images_stay_together_when_split_by_orbit(operation: OperationName) -> None:
    for seed in range(5):
        scenario = _grokking(operation=operation, split="orbits", train_fraction=0.5)
        deal = scenario.deal(seed)
        every, trained = set(deal.facts["pair"].tolist()), _trained(deal)
        mirrors = {pair: (pair % 11) * 11 + pair // 11 for pair in every}
        assert all(
            (mirror in trained) == (pair in trained) for pair, mirror in mirrors.items() if mirror in every
        )
        assert 0 <= floored(0.5, len(every)) - len(trained) <= 1


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(0, 14), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_whole_groups_are_the_longest_such_prefix(groups: list[int], size: int, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(groups))
    taken = whole_groups(order, np.array(groups, dtype=np.int64), size).tolist()
    sequence = list(dict.fromkeys(groups[row] for row in order))
    expected: list[int] = []
    for group in sequence:
        members = [int(row) for row in order if groups[row] == group]
        if len(expected) + len(members) > size:
            break
        expected += members
    assert taken == expected


# --- the published split ------------------------------------------------------------------------------------

DOSHI = {"modulus": 97, "train_fraction": 0.5, "corruption": 0.35, "kind": "any", "split": "doshi2024"}


def test_the_published_split_has_the_counts_of_the_released_data() -> None:
    deal = _grokking(**DOSHI).deal(0)
    assert len(_trained(deal)) == 4704
    assert len(_pairs(deal, "corrupted")) == 1646
    assert len(_pairs(deal, "wrong")) == 1629


def test_the_published_split_is_what_the_global_generators_give_and_leaves_them_alone() -> None:
    before = random.getstate(), torch.get_rng_state()
    deal = _grokking(**DOSHI).deal(3)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    try:
        random.seed(420)
        pairs = [(x, y) for x in range(97) for y in range(97)]
        random.shuffle(pairs)
        torch.manual_seed(0)
        drawn = torch.randint(0, 97, (1646,)).tolist()
    finally:
        random.setstate(before[0])
        torch.set_rng_state(before[1])
    expected = {x * 97 + y: (x + y) % 97 for x, y in pairs[:4704]}
    expected |= {x * 97 + y: label for (x, y), label in zip(pairs[:1646], drawn, strict=True)}
    assert _by_pair(deal, "given") == expected


# --- the budget and what is shown ---------------------------------------------------------------------------


def test_the_budget_is_steps_and_a_full_batch_is_one_pass() -> None:
    assert _grokking(steps=70, probe_every=7).budget() == TrainingBudget(
        backbone="quadratic[width=500,modulus=11]",
        batch_size=121,
        epochs=70,
        gradient_steps=70,
        probe_every=7,
    )
    small = _grokking(steps=70, batch_size=30, backbone="mlp[width=8]", encoding="one-hot").budget()
    assert (small.backbone, small.batch_size) == ("mlp[width=8]", 30)
    assert (small.epochs, small.gradient_steps) == (24, 70), "72 pairs are 3 batches of 30"
    assert (
        _grokking(operation="div", backbone="relu[hidden=20+20]").budget().backbone
        == "relu[hidden=20+20,modulus=11]"
    )
    assert _grokking(operation="div").budget().batch_size == 110


def test_pairs_are_shown_as_asked() -> None:
    codes = {}
    for encoding in ("pair-index", "tokens-2", "tokens-3", "one-hot", "binary[bits=5]"):
        deal = _grokking(encoding=encoding, backbone="mlp").deal(2)
        codes[encoding] = np.asarray(deal.inputs[np.arange(121)])
    x, y = np.divmod(np.arange(121), 11)
    np.testing.assert_array_equal(codes["pair-index"], np.column_stack([x, y]))
    np.testing.assert_array_equal(codes["tokens-2"], codes["pair-index"])
    np.testing.assert_array_equal(codes["tokens-3"], np.column_stack([x, y, np.full(121, 11)]))
    assert [codes[name].dtype for name in ("pair-index", "tokens-3", "one-hot", "binary[bits=5]")] == [
        np.int64,
        np.int64,
        np.float32,
        np.float32,
    ]
    hot = codes["one-hot"]
    assert hot.shape == (121, 22)
    assert (hot.sum(axis=1) == 2).all()
    np.testing.assert_array_equal(
        np.column_stack([hot[:, :11].argmax(axis=1), hot[:, 11:].argmax(axis=1)]), codes["pair-index"]
    )
    bits = codes["binary[bits=5]"]
    assert bits.shape == (121, 10)
    assert set(np.unique(bits)) == {0, 1}
    by_residue = {int(residue): tuple(code) for residue, code in zip(x, bits[:, :5], strict=True)}
    assert len(set(by_residue.values())) == 11, "no two residues share a code"
    assert all(by_residue[int(residue)] == tuple(code) for residue, code in zip(y, bits[:, 5:], strict=True))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"operation": "div", "modulus": 12}, "needs a prime modulus; 12 is not prime, the next one is 13"),
        ({"operation": "mix_div", "modulus": 9}, "needs a prime modulus; 9 is not prime, the next one is 11"),
        ({"corruption": 1.0}, "corruption should be less than 1"),
        ({"corruption": -0.1}, "corruption should be greater than or equal to 0"),
        ({"train_fraction": 0}, "train_fraction should be greater than 0"),
        ({"modulus": 1}, "modulus should be greater than or equal to 2"),
        ({"kind": "transition"}, "either rows=0.9/0.1;0.2/0.8 or file=PATH"),
        ({"kind": "transition", "rows": "1/0;0/1"}, r"shape \(2, 2\), the modulus is 11"),
        (
            {"kind": "transition", "rows": "1/0;0.5/0.6", "modulus": 2},
            "row 1 of the corruption's transition matrix .* got a sum of 1.1",
        ),
        ({"kind": "transition", "rows": "a/0;0/1", "modulus": 2}, "cannot read the transition matrix"),
        ({"kind": "transition", "file": "none.npy"}, "cannot read the transition matrix 'none.npy'"),
        ({"rows": "1/0;0/1"}, "rows and file are for kind=transition"),
        ({"kind": "structured", "other_operation": "add"}, "needs another operation than add"),
        ({"kind": "structured", "other_operation": "div"}, "has no label where y is 0"),
        ({"kind": "structured", "other_operation": "mix_div", "modulus": 12}, "needs a prime modulus"),
        ({"kind": "pair_consistent", "operation": "sub"}, "sub does not"),
        ({"split": "doshi2024"}, "set kind=any"),
        ({"encoding": "one_hot"}, "did you mean 'one-hot'"),
        ({"encoding": "binary[size=3]"}, "unknown parameter of encoding binary 'size'"),
        ({"encoding": "one-hot"}, "quadratic looks operands up, which encoding=one-hot does not show"),
        ({"backbone": "quadratic[width=8,modulus=7]"}, "another modulus than 11"),
        ({"epochs": 3}, "epochs should be less than or equal to 0"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_sentence(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _grokking(**values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"modulus": 2, "train_fraction": 0.1}, "0.1 of 4 pairs leaves 0 to train on and 4 to test with"),
        ({"modulus": 2, "train_fraction": 0.1, "split": "doshi2024", "kind": "any"}, "leaves 0 to train on"),
        ({"modulus": 2, "train_fraction": 1 - 1e-12}, "leaves 4 to train on and 0 to test with"),
        ({"encoding": "binary[bits=3]", "backbone": "mlp"}, "give 11 different codes, got 3"),
    ],
)
def test_a_deal_that_leaves_nothing_is_refused(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _grokking(**values).deal(0)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_deal(name: str) -> None:
    scenario = Grokking(**validated(Grokking, {**PRESETS[name].values, "corruption": 0.2}))
    deal = scenario.deal(0)
    assert len(_pairs(deal, "corrupted")) == floored(0.2, len(_trained(deal)))


def test_the_digest_is_that_of_the_rows_of_the_training_table() -> None:
    deal = _grokking(corruption=0.3).deal(4)
    rows = b"".join(
        struct.pack("<qqq", *divmod(pair, 11), label)
        for pair, label in sorted(_by_pair(deal, "given").items())
    )
    assert train_digest(deal, 11) == hashlib.sha256(rows).hexdigest()
    assert train_digest(
        _grokking(corruption=0.3, encoding="one-hot", backbone="mlp").deal(4), 11
    ) == train_digest(deal, 11)
    assert train_digest(_grokking(corruption=0.4).deal(4), 11) != train_digest(deal, 11)


# --- the firewall -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"corruption": 0.3},
        {"corruption": 0.3, "kind": "structured", "operation": "div"},
        {"operation": "random_table"},
        {"corruption": 0.3, "encoding": "one-hot", "backbone": "mlp", "told": "rate"},
        {"split": "orbits", "corruption": 0.2},
    ],
)
def test_the_scenario_holds_to_every_claim(values: Mapping[str, Any]) -> None:
    for finding in check_scenario(_grokking(**values)):
        assert finding.holds, f"{finding.claim}: {finding.detail}"


def test_a_learner_holds_no_test_pair_no_true_label_and_no_mask() -> None:
    deal = _grokking(corruption=0.4).deal(5)
    stage, query = build(_grokking(corruption=0.4), 5).episodes[0]
    shown = {
        int(x) * 11 + int(y): int(label)
        for (x, y), label in zip(stage.inputs[np.arange(len(stage.ids))], stage.labels, strict=True)
    }
    assert shown == _by_pair(deal, "given")
    assert stage.validation is None
    assert stage.noise_info is None
    held = [value for name in type(stage).__slots__ if isinstance(value := getattr(stage, name), np.ndarray)]
    assert sorted(array.shape for array in held) == [(72,), (72,), (72, 2)]
    assert (stage.named_classes, stage.new_classes) == (11, 11)
    (
        np.testing.assert_array_equal(np.sort(query.ids), np.arange(121)),
        "test and training pairs are asked together",
    )
    at_test = np.isin(query.ids, stage.ids, invert=True)
    assert at_test.sum() == 49
    assert abs(np.corrcoef(at_test, np.arange(121))[0, 1]) < 0.3, (
        "nothing in the order of the query tells which"
    )
    hidden = build(_grokking(corruption=0.4), 5).truth
    assert abs(np.corrcoef(hidden.facts["wrong"][stage.ids], np.arange(72))[0, 1]) < 0.4


def test_the_share_of_wrong_labels_is_told_where_the_protocol_says_so() -> None:
    scenario = _grokking(corruption=0.5, kind="any", told="rate")
    stage = build(scenario, 0).episodes[0].stage
    assert stage.noise_info is not None
    assert stage.noise_info.matrix is None
    assert stage.noise_info.rate == pytest.approx(len(_pairs(scenario.deal(0), "wrong")) / 72)


def test_the_upper_bound_is_handed_the_true_labels() -> None:
    scenario = _grokking(corruption=0.5)
    stage = build(scenario, 0, reveal=True).episodes[0].stage
    pairs = stage.inputs[np.arange(len(stage.ids))]
    np.testing.assert_array_equal(stage.labels, pairs.sum(axis=1) % 11)


# --- scores -------------------------------------------------------------------------------------------------


def _answers(
    world: Sealed, looks: Sequence[tuple[int | None, np.ndarray[Any, Any]]], **fields: Any
) -> list[StoredPrediction]:
    """Return answers at the steps, each with the classes said for every id."""
    ids = np.arange(len(world.truth.labels))
    return [
        StoredPrediction(stage=0, step=step, ids=ids, arrays={"classes": classes, **fields})
        for step, classes in looks
    ]


def _states(world: Sealed) -> dict[str, np.ndarray[Any, Any]]:
    """Return what a network answers that knows nothing, has learned its rows by heart, knows the rule too, or
    the rule alone.
    """
    truth = world.truth
    given_, train = truth.facts["given"], truth.facts["role"] == TRAIN
    nothing = np.full(len(truth.labels), 3)
    return {
        "nothing": nothing,
        "memory": np.where(train, given_, (truth.labels + 1) % 11),
        "both": np.where(train, given_, truth.labels),
        "rule": truth.labels,
    }


COURSES: dict[str, tuple[str, list[str]]] = {
    "coexistence": ("coexistence", ["nothing", "memory", "memory", "both", "both", "both"]),
    "inversion": ("full_inversion", ["nothing", "memory", "both", "rule", "rule", "rule"]),
    "memorisation": ("memorisation", ["nothing", "memory", "memory", "memory", "memory", "memory"]),
    "forgetting": ("forgetting", ["memory", "rule", "rule", "rule", "nothing", "nothing"]),
    "confusion": ("confusion", ["nothing"] * 6),
}


def _course(name: str, scenario: Grokking) -> Scores:
    world = build(scenario, 0)
    states = _states(world)
    looks = [
        (step, states[state])
        for step, state in zip((10, 20, 30, 40, 50, None), COURSES[name][1], strict=True)
    ]
    return scenario.score(world.truth, _answers(world, looks))


@pytest.mark.parametrize("name", COURSES)
def test_every_course_ends_in_its_phase_and_in_no_other(name: str) -> None:
    final = _course(name, _grokking(corruption=0.4, steps=60)).final
    assert [phase for phase in PHASES if final[f"phase_{phase}"]] == [COURSES[name][0]]
    assert sum(value for key, value in final.items() if key.startswith("published_")) == 1
    assert all(metric.name in final for metric in METRICS)


def test_times_and_areas_by_hand() -> None:
    """Nothing at 10, memory at 20, both at 30, the rule at 40, 50 and 60; 72 pairs, 28 of them wrong."""
    final = _course("inversion", _grokking(corruption=0.4, steps=60)).final
    nothing = float(
        np.mean(
            build(_grokking(corruption=0.4), 0).truth.labels[
                build(_grokking(corruption=0.4), 0).truth.facts["role"] == TEST
            ]
            == 3
        )
    )
    assert (final["n_train"], final["n_corrupt"], final["n_really_wrong"]) == (72, 28, 28)
    assert (final["test_accuracy"], final["clean_accuracy"], final["memorised"], final["recovered"]) == (
        1,
        1,
        0,
        1,
    )
    assert final["train_accuracy"] == pytest.approx(44 / 72)
    assert (final["time_to_clean_99"], final["time_to_test_95"], final["time_to_test_99"]) == (20, 30, 30)
    assert (final["delay"], final["delay_ratio"]) == (10, 1.5)
    assert math.isnan(final["time_to_train_99"]), "held at 20 and 30 only"
    assert (final["time_to_inversion"], final["ever_memorised"], final["peak_memorised"]) == (40, 1, 1)
    assert final["area_test"] == pytest.approx((nothing + 0 + 1 + 1 + 1 + 1) / 6)


def test_a_probe_at_the_last_step_is_the_end_and_counts_once() -> None:
    scenario = _grokking(corruption=0.4, steps=30)
    world = build(scenario, 0)
    states = _states(world)
    looks = [(10, states["nothing"]), (20, states["both"]), (30, states["both"]), (None, states["both"])]
    scores = scenario.score(world.truth, _answers(world, looks))
    assert [step for _, step, _ in scores.probes["test"]] == [10, 20, 30]
    assert math.isnan(scores.final["time_to_test_95"]), "two looks hold nothing for three"
    unfinished = scenario.score(world.truth, _answers(world, looks[:-1]))
    assert unfinished.final == {}
    assert [step for _, step, _ in unfinished.probes["test"]] == [10, 20, 30]
    assert scenario.score(world.truth, []).final == {}


def test_without_wrong_labels_nothing_is_memorised_inverted_or_found() -> None:
    for values in ({}, {"corruption": 0.01}):  # a hundredth of 72 rows is none
        scenario = _grokking(steps=20, **values)
        world = build(scenario, 0)
        final = scenario.score(
            world.truth, _answers(world, [(10, _states(world)["nothing"]), (None, world.truth.labels)])
        ).final
        assert final["phase_generalised"] == 1
        for name in (
            "memorised",
            "recovered",
            "peak_memorised",
            "ever_memorised",
            "time_to_inversion",
            "loss_auroc_end",
        ):
            assert math.isnan(final[name]), name


def test_wrong_labels_are_sought_by_loss_by_suspicion_and_by_disagreement() -> None:
    """Losses that grow with the pair's number, suspicion that knows: everything against scikit-learn and
    counting.
    """
    scenario = _grokking(corruption=0.25, steps=200)
    world = build(scenario, 1)
    facts = world.truth.facts
    train, wrong = facts["role"] == TRAIN, facts["wrong"][facts["role"] == TRAIN]
    losses, states = (facts["pair"] / 128).astype(np.float16), _states(world)
    looks = [
        (25, states["memory"]),
        (50, states["rule"]),
        (100, states["rule"]),
        (150, states["rule"]),
        (None, states["rule"]),
    ]
    given_ = _answers(
        world, looks, label_losses=losses, suspicion=facts["wrong"].astype(np.float16), kept=~facts["wrong"]
    )
    scores = scenario.score(world.truth, given_)
    final = scores.final
    expected = roc_auc_score(wrong, losses[train])
    for name in ("25", "100", "t95", "end", "before", "after"):
        assert final[f"loss_auroc_{name}"] == pytest.approx(expected)
        assert final[f"own_auroc_{name}"] == 1
    assert final["disagreement_auroc_25"] == 0.5
    assert final["disagreement_auroc_before"] == 0.5
    assert math.isnan(final["loss_auroc_fitting"]), "fitted at the first look"
    assert (
        final["disagreement_auroc_after"]
        == final["disagreement_precision_end"]
        == final["disagreement_recall_end"]
        == 1
    )
    kept = np.argsort(losses[train], kind="stable")[: 72 - 18]
    assert final["loss_precision_end"] == pytest.approx((~wrong[kept]).mean())
    assert final["loss_recall_end"] == pytest.approx((~wrong[kept]).sum() / 54)
    assert (final["kept_precision"], final["kept_recall"]) == (1, 1)
    assert scores.probes["loss_precision"][0] == (0, 25, pytest.approx(final["loss_precision_end"]))


def test_the_signal_while_rows_are_fitted_is_told_apart_from_that_before_the_test_is_known() -> None:
    """Losses are misleading at 10 and 20, say nothing at 30, and are right at 40 and later; rows are fitted
    at 30, the test known at 40.
    """
    scenario = _grokking(corruption=0.25, steps=60)
    world = build(scenario, 1)
    wrong, states = world.truth.facts["wrong"], _states(world)
    course = zip(
        (10, 20, 30, 40, 50, None),
        ["nothing", "nothing", "memory", "rule", "rule", "rule"],
        (-1, -1, 0, 1, 1, 1),
        strict=True,
    )
    looks = [
        answer
        for step, state, sign in course
        for answer in _answers(world, [(step, states[state])], label_losses=(sign * wrong).astype(np.float16))
    ]
    final = scenario.score(world.truth, looks).final
    assert (final["loss_auroc_fitting"], final["loss_auroc_before"], final["loss_auroc_after"]) == (
        0,
        pytest.approx(0.5 / 3),
        1,
    )


def test_as_many_labels_are_kept_as_were_not_chosen_even_where_a_chosen_one_is_right() -> None:
    scenario = _grokking(corruption=0.5, kind="any", steps=10)
    world = build(scenario, 2)
    wrong = world.truth.facts["wrong"]
    assert 30 < wrong.sum() < 36, "36 are chosen, some of which keep their label"
    fields = {"label_losses": wrong.astype(np.float16)}  # the wrong ones last
    final = scenario.score(world.truth, _answers(world, [(None, world.truth.labels)], **fields)).final
    assert (final["loss_precision_end"], final["loss_recall_end"]) == (
        1,
        pytest.approx(36 / (72 - wrong.sum())),
    )


def test_moments_that_nobody_looked_at_have_no_figure() -> None:
    scenario = _grokking(corruption=0.25, steps=40)
    world = build(scenario, 1)
    final = scenario.score(
        world.truth, _answers(world, [(10, _states(world)["memory"]), (None, _states(world)["memory"])])
    ).final
    assert all(math.isnan(final[f"disagreement_auroc_{name}"]) for name in ("25", "100", "t95", "after"))
    assert math.isnan(final["loss_auroc_end"]), "no losses were answered"
    assert final["disagreement_auroc_before"] == final["disagreement_auroc_end"] == 0.5


def test_health_is_reported_by_name_and_followed_over_the_steps() -> None:
    scenario = _grokking(steps=30)
    world = build(scenario, 0)
    health = np.array([0.25, 0.75, 30, 9.5, np.nan, 0.125], dtype=np.float32)
    scores = scenario.score(
        world.truth, _answers(world, [(10, world.truth.labels), (None, world.truth.labels)], health=health)
    )
    assert [
        scores.final[name]
        for name in ("zero_loss_fraction", "softmax_collapse", "largest_logit", "weight_norm")
    ] == [0.25, 0.75, 30, 9.5]
    assert math.isnan(scores.final["update_along_weights"])
    assert scores.final["time_to_collapse"] == 10
    assert scores.probes["weight_norm"] == [(0, 10, 9.5), (0, 30, 9.5)]
    assert scores.probes["update_along_weights"] == []


def test_residues_that_are_never_trained_on_are_counted() -> None:
    scenario = _grokking(train_fraction=0.1, steps=10)
    world = build(scenario, 0)
    final = scenario.score(world.truth, _answers(world, [(None, world.truth.labels)])).final
    trained = [divmod(pair, 11) for pair in _trained(scenario.deal(0))]
    assert final["unseen_operands"] == 22 - len({x for x, _ in trained}) - len({y for _, y in trained}) > 0


# --- spectra and pictures -----------------------------------------------------------------------------------


def _network(p: int, width: int) -> tuple[Any, Any]:
    """Return weights (3, width, p) of sums in closed form, and of noise that hardly matters, and the
    predictions on all pairs.
    """
    rng = np.random.default_rng(0)
    u, v = rng.uniform(-np.pi, np.pi, size=(2, width, 1))
    angles = 2 * np.pi * (1 + np.arange(width)[:, None] % (p - 1)) * np.arange(p) / p
    rule = np.stack([np.cos(angles + u), np.cos(angles + v), np.cos(angles + u + v)]) * (2 / width) ** (1 / 3)
    weights = np.concatenate([rule, 0.05 * rng.normal(size=(3, width, p))], axis=1).astype(np.float32)
    x, y = np.divmod(np.arange(p * p), p)
    return weights, (np.square(weights[0].T[x] + weights[1].T[y]) @ weights[2]).argmax(axis=1)


def _scored_network(**fields: Any) -> tuple[Scores, Any]:
    scenario = _grokking(corruption=0.2, steps=10)
    world = build(scenario, 0)
    weights, by_pair = _network(11, 200)
    classes = by_pair[world.truth.facts["pair"]]
    return scenario.score(
        world.truth, _answers(world, [(None, classes)], **{"weights": weights, **fields})
    ), weights


def test_half_the_neurons_are_periodic_and_pruning_the_others_first_costs_nothing() -> None:
    scores, _ = _scored_network()
    final = scores.final
    assert final["test_accuracy"] == 1
    assert final["high_ipr_share"] == 0.5
    assert final["dead_neurons"] == 0
    assert final["ipr_mean"] == pytest.approx(scores.histograms["ipr"]["neurons"].mean())
    low, high, shuffled = scores.matrices["pruning"]
    memorised, test, clean, train = low
    assert len(test) == 51
    assert (test[:26] == 1).all(), "the noisy half goes first"
    assert (clean[:26] == 1).all()
    assert (memorised[:26] == 0).all()
    np.testing.assert_allclose(train[:26], 58 / 72)
    assert high[1][25] < 0.5
    assert high[1][25] < shuffled[1][25] <= 1
    labels = build(_grokking(corruption=0.2, steps=10), 0).truth
    tested = labels.labels[labels.facts["role"] == TEST]
    assert test[-1] == high[1][-1] == shuffled[1][-1] == pytest.approx(np.mean(tested == 0)), (
        "a network without neurons answers 0"
    )
    assert final["prune_best_test"] == final["prune_best_test_high"] == 1
    assert final["prune_memorised_drop"] == 0


def test_weights_that_do_not_give_the_answers_are_not_pruned_and_others_say_nothing() -> None:
    spoilt, weights = _scored_network(weights=_network(11, 200)[0][:, :, ::-1].copy())
    assert spoilt.final["high_ipr_share"] == 0.5
    assert math.isnan(spoilt.final["prune_best_test"])
    assert "pruning" not in spoilt.matrices
    for other in (weights[:2], weights[:, :, :7], weights.reshape(-1)):
        scores, _ = _scored_network(weights=other)
        assert math.isnan(scores.final["ipr_mean"])
        assert not scores.histograms


def test_pictures_are_drawn_of_courses_detection_pruning_and_spectra(tmp_path: Path) -> None:
    scores, _ = _scored_network(
        label_losses=np.linspace(0, 1, 121).astype(np.float16), health=np.ones(6, dtype=np.float32)
    )
    made = {path.name for path in plots.draw(scores, tmp_path, title="a cell")}
    assert made >= {
        "fates_panel.png",
        "detection_panel.png",
        "collapse_panel.png",
        "pruning.png",
        "ipr_histogram.png",
        "weight_norm_curve.png",
    }


def test_courses_are_drawn_over_the_logarithm_of_steps() -> None:
    (axes,) = line_plots.panel(
        {"test": [(0, 10, 0.1), (0, 100, 0.9)], "recovered": []}, title="", by_step=True
    ).axes
    assert (axes.get_xscale(), axes.get_xlabel(), len(axes.lines)) == ("log", "gradient step", 1)


def test_a_phase_diagram_shows_the_commonest_phase_of_every_place_and_where_seeds_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "pictures")
    drawing = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "pictures" / "phase_diagram.py")))
    ends = {
        (0.0, 0.0): ["generalised"] * 3,
        (0.0, 5.0): ["generalised"] * 3,
        (0.2, 5.0): ["coexistence", "full_inversion", "full_inversion"],
    }
    entries = [
        _entry("grok-adamw", decay, {xi: phases for (xi, own), phases in ends.items() if own == decay})
        for decay in (0.0, 5.0)
    ]
    entries.append(_entry("muon", 1.0, {0.5: ["confusion"]}))
    (axes,) = drawing.diagram(drawing.endings(entries, "grok-adamw", "weight_decay"), "weight_decay").axes
    shown = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
    np.testing.assert_array_equal(shown, [[0, 0], [np.nan, 2]])
    assert [text.get_text() for text in axes.texts] == ["67"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "0.2"]
    with pytest.raises(UserError, match="no finished run of grok-adamw with a parameter dropout"):
        drawing.endings(entries, "grok-adamw", "dropout")


def _entry(strategy: str, decay: float, ends: Mapping[float, Sequence[str]]) -> Entry:
    cells = [
        BoardCell(
            scenario=f"grokking[preset=tiny,corruption={xi}]",
            seed=seed,
            status=Status.DONE,
            key="",
            environment=0,
            metrics={f"phase_{name}": float(name == end) for name in PHASES},
        )
        for xi, phases in ends.items()
        for seed, end in enumerate(phases)
    ]
    failed = BoardCell(scenario="grokking[preset=tiny]", seed=9, status=Status.FAILED, key="", environment=0)
    return Entry(
        label=strategy,
        strategy=strategy,
        params={"weight_decay": decay},
        code="",
        environments=({},),
        cells=(*cells, failed),
    )


def test_hidden_is_what_a_test_pair_has_for_a_label() -> None:
    deal = _grokking(corruption=0.4).deal(0)
    np.testing.assert_array_equal(deal.facts["given"] == HIDDEN, deal.facts["role"] == TEST)
    assert set(NAMES) == {*OPERATIONS, "random_table"}
