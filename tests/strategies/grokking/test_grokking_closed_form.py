"""The closed-form network against the rules in plain arithmetic on all pairs, and the two bounds as
strategies.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import FakeContext

from harness.contracts import HIDDEN, AnyArray, IntArray, Prediction, Query, Stage
from harness.errors import Unsuitable
from harness.metrics.grokking import HEALTH, neuron_ipr
from strategies.grokking.closed_form import ClosedForm, network_of, operands, outputs, rule_of, rules
from strategies.grokking.constant import Constant


def _label(operation: str, x: int, y: int, p: int) -> int:
    """The operations, one pair at a time."""

    def quotient() -> int:
        return next(q for q in range(p) if q * y % p == x)

    if operation == "add" or (operation in ("mix_mul", "mix_sub") and x % 2 == 0):
        return (x + y) % p
    if operation in ("sub", "mix_sub") or (operation == "mix_div" and y % 2 == 0):
        return (x - y) % p
    if operation in ("mul", "mix_mul"):
        return x * y % p
    if operation in ("div", "mix_div"):
        return quotient()
    return {"sq_sum": x * x + y * y, "quad": x * x + x * y + y * y, "cube": x**3 + x * y}[operation] % p


def _table(operation: str, p: int) -> tuple[IntArray, IntArray]:
    """All pairs (n, 2) and their labels (n,)."""
    pairs = [(x, y) for x in range(p) for y in range(p) if y or operation != "div"]
    return np.array(pairs), np.array([_label(operation, x, y, p) for x, y in pairs])


def _stage(items: AnyArray, labels: IntArray, p: int) -> Stage:
    return Stage(
        index=0, ids=np.arange(len(labels)) * 3, inputs=items, labels=labels, named_classes=p, new_classes=p
    )


def _learned(strategy: ClosedForm | Constant, backbone: str, stage: Stage) -> ClosedForm | Constant:
    strategy.start(FakeContext(backbone=backbone))
    strategy.learn(stage)
    return strategy


def _accuracy(rows: AnyArray, pairs: IntArray, labels: IntArray) -> float:
    return float((outputs(rows, pairs).argmax(axis=1) == labels).mean())


NAMES = ("add", "sub", "sq_sum", "mix_sub", "mul", "div", "mix_mul", "mix_div")


@pytest.mark.parametrize("operation", NAMES)
@pytest.mark.parametrize("p", [5, 13])
def test_every_rule_is_found_and_its_table_is_right(operation: str, p: int) -> None:
    pairs, labels = _table(operation, p)
    rule = rule_of(pairs, labels, p)
    assert rule.name == operation
    assert (rule.table()[pairs[:, 0], pairs[:, 1]] == labels).all()


@pytest.mark.parametrize("operation", ["add", "sub", "sq_sum", "mul", "div"])
def test_rules_are_answered_without_a_fault_at_width_200_and_nearly_so_at_100(operation: str) -> None:
    """The figures of Gromov's network, card A8: 98.2-99.9 % at width 100, all pairs from 200 on, 68-92 % at
    50.
    """
    pairs, labels = _table(operation, 97)
    rule = rule_of(pairs, labels, 97)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        assert _accuracy(network_of(rule, 200, rng), pairs, labels) == 1
        assert _accuracy(network_of(rule, 500, rng), pairs, labels) == 1
        assert _accuracy(network_of(rule, 100, rng), pairs, labels) > 0.98
        assert 0.68 < _accuracy(network_of(rule, 50, rng), pairs, labels) < 0.92


@pytest.mark.parametrize("operation", ["mix_sub", "mix_mul", "mix_div"])
def test_two_rules_share_the_neurons(operation: str) -> None:
    pairs, labels = _table(operation, 97)
    rule = rule_of(pairs, labels, 97)
    for seed in range(3):
        assert _accuracy(network_of(rule, 500, np.random.default_rng(seed)), pairs, labels) == 1
        assert 0.95 < _accuracy(network_of(rule, 200, np.random.default_rng(seed)), pairs, labels) < 1


def test_the_amplitude_makes_outputs_one_hot() -> None:
    pairs, labels = _table("add", 97)
    logits = outputs(network_of(rule_of(pairs, labels, 97), 500, np.random.default_rng(0)), pairs)
    right = np.eye(97, dtype=bool)[labels]
    assert logits[right].mean() == pytest.approx(1, abs=0.02)
    assert logits[~right].mean() == pytest.approx(0, abs=0.01)


def test_the_network_is_that_of_the_formula() -> None:
    """A single neuron, summed by hand over the four phases drawn: A^3 cos(..q..) (cos(..x..) + cos(..y..))^2."""
    p = 7
    (rule, *_) = rules(p)
    rows = network_of(rule, 3, np.random.default_rng(2))
    rng = np.random.default_rng(2)
    s = rng.permutation(3) % p
    u, v = rng.uniform(-np.pi, np.pi, (2, 3))
    a = (2 / 3) ** (1 / 3)
    x, y = 4, 6
    for q in range(p):
        terms = [
            a
            * np.cos(2 * np.pi * s[k] * q / p + u[k] + v[k])
            * (a * np.cos(2 * np.pi * s[k] * x / p + u[k]) + a * np.cos(2 * np.pi * s[k] * y / p + v[k])) ** 2
            for k in range(3)
        ]
        assert outputs(rows, np.array([[x, y]]))[0, q] == pytest.approx(sum(terms), abs=1e-6)


def test_neurons_of_the_closed_form_are_single_frequencies() -> None:
    (rule, *_) = rules(97)
    np.testing.assert_allclose(neuron_ipr(network_of(rule, 200, np.random.default_rng(0))), 1, atol=1e-6)


def test_logarithms_need_a_prime() -> None:
    for p in (4, 9, 10):
        assert [rule.name for rule in rules(p)] == ["add", "sub", "sq_sum", "mix_sub"]
    for p in (2, 3, 113):
        assert [rule.name for rule in rules(p)] == [*NAMES]


@pytest.mark.parametrize("operation", ["quad", "cube"])
def test_polynomials_with_mixed_terms_have_no_closed_form(operation: str) -> None:
    with pytest.raises(Unsuitable, match=r"follow none of the rules .* modulo 11 \(add, sub"):
        rule_of(*_table(operation, 11), 11)


def test_a_random_table_and_wrong_labels_have_none_either() -> None:
    pairs, labels = _table("add", 11)
    with pytest.raises(Unsuitable, match="follow none of the rules"):
        rule_of(pairs, np.random.default_rng(0).integers(11, size=len(pairs)), 11)
    with pytest.raises(Unsuitable, match="follow none of the rules"):
        rule_of(pairs, np.where(np.arange(len(labels)) == 60, (labels + 1) % 11, labels), 11)


def test_a_network_too_narrow_for_the_rule_is_refused() -> None:
    rule = rule_of(*_table("mul", 5), 5)
    assert network_of(rule, 5, np.random.default_rng(0)).shape == (3, 5, 5)
    with pytest.raises(Unsuitable, match="the rule mul needs 5 neurons at least, the network has 4"):
        network_of(rule, 4, np.random.default_rng(0))


def test_operands_are_read_from_all_encodings_that_show_them() -> None:
    pairs = np.array([[3, 1], [0, 4], [2, 2]])
    one_hot = np.concatenate(
        [np.eye(5, dtype=np.float32)[pairs[:, 0]], np.eye(5, dtype=np.float32)[pairs[:, 1]]], axis=1
    )
    for items in (pairs, np.column_stack([pairs, np.full(3, 5)]), one_hot):
        assert operands(items, 5).tolist() == pairs.tolist()
    with pytest.raises(Unsuitable, match="needs operands"):
        operands(np.random.default_rng(0).integers(2, size=(3, 28)).astype(np.float32), 5)


# --- the strategies -----------------------------------------------------------------------------------------


def _answered(strategy: ClosedForm | Constant, ids: list[int], pairs: IntArray) -> Prediction:
    return strategy.predict(Query(ids=np.array(ids), inputs=pairs))


def test_the_upper_bound_learns_from_a_part_and_answers_all() -> None:
    pairs, labels = _table("mul", 13)
    order = np.random.default_rng(0).permutation(len(pairs))
    train, test = order[:60], order[60:]
    strategy = _learned(
        ClosedForm(), "quadratic[width=300,modulus=13]", _stage(pairs[train], labels[train], 13)
    )
    found = _answered(strategy, [1 + 3 * i for i in range(len(test))], pairs[test])
    assert (found.classes == labels[test]).all()
    assert found.weights is not None
    assert found.weights.shape == (3, 300, 13)
    assert found.weights.dtype == np.float32
    assert not found.suspicion.any()  # none of these came with a label
    assert not found.kept.any()


def test_what_the_upper_bound_says_of_labels_is_their_squared_error() -> None:
    pairs, labels = _table("add", 11)
    strategy = _learned(ClosedForm(), "quadratic[width=200,modulus=11]", _stage(pairs, labels, 11))
    found = _answered(strategy, [0, 1, 30], pairs[[0, 5, 10]])
    logits = outputs(strategy.weights, pairs[[0, 5, 10]]).astype(np.float64)
    expected = [((logits[row] - np.eye(11)[labels[at]]) ** 2).mean() for row, at in ((0, 0), (2, 10))]
    np.testing.assert_allclose(found.label_losses, [expected[0], 0, expected[1]], rtol=2e-3)
    np.testing.assert_allclose(found.suspicion, [np.log10(expected[0]), 0, np.log10(expected[1])], rtol=2e-3)
    assert found.label_losses.dtype == found.suspicion.dtype == np.float16
    assert found.kept.tolist() == [True, False, True]
    health = dict(zip(HEALTH, found.health, strict=True))
    assert health["zero_loss_fraction"] == 0
    assert health["weight_norm"] == pytest.approx(
        np.sqrt((strategy.weights.astype(float) ** 2).sum()), rel=1e-5
    )
    assert health["largest_logit"] == pytest.approx(np.abs(logits[[0, 2]]).max(), rel=1e-5)
    assert np.isnan(
        [health["softmax_collapse"], health["update_along_weights"], health["zero_gradient_share"]]
    ).all()


def test_on_another_network_the_upper_bound_is_a_quadratic_one_of_500() -> None:
    pairs, labels = _table("sub", 7)
    strategy = _learned(ClosedForm(), "relu[hidden=20+20,modulus=7]", _stage(pairs, labels, 7))
    assert _answered(strategy, [1], pairs[:1]).weights.shape == (3, 500, 7)


def test_hidden_labels_are_refused() -> None:
    pairs, labels = _table("add", 5)
    with pytest.raises(Unsuitable, match="is an upper bound and needs every label"):
        _learned(
            ClosedForm(), "quadratic[width=50,modulus=5]", _stage(pairs, np.full_like(labels, HIDDEN), 5)
        )


@pytest.mark.parametrize("strategy", [ClosedForm, Constant])
def test_a_bound_goes_on_from_its_state(strategy: type[ClosedForm | Constant]) -> None:
    pairs, labels = _table("add", 7)
    first = _learned(strategy(), "quadratic[width=60,modulus=7]", _stage(pairs, labels, 7))
    second = strategy()
    second.start(FakeContext(backbone="quadratic[width=60,modulus=7]"))
    second.load_state(first.state())
    ids = [0, 3, 4]
    for name, array in _answered(first, ids, pairs[:3]).arrays().items():
        np.testing.assert_array_equal(_answered(second, ids, pairs[:3]).arrays()[name], array)


def test_the_lower_bound_answers_the_commonest_label_and_the_smallest_of_several() -> None:
    pairs = np.zeros((6, 2), dtype=np.int64)
    strategy = _learned(
        Constant(), "quadratic[width=20,modulus=5]", _stage(pairs, np.array([4, 3, 1, 3, 1, 0]), 5)
    )
    found = _answered(strategy, [0, 3, 100], pairs[:3])
    assert found.classes.tolist() == [1, 1, 1]
    np.testing.assert_allclose(found.label_losses, [0.4, 0.4, 0], rtol=1e-3)  # 4 and 3 were given, 2 / p each
    assert found.weights is None
    hit = _answered(strategy, [6], pairs[:1])
    assert (float(hit.label_losses[0]), float(hit.suspicion[0]), bool(hit.kept[0])) == (0.0, -40.0, True)


@pytest.mark.parametrize(("operation", "expected"), [("add", 1 / 13), ("sub", 1 / 13), ("mul", 25 / 169)])
def test_the_lower_bound_scores_as_often_as_its_label_occurs(operation: str, expected: float) -> None:
    """One pair in p; a product is 0 for 2p - 1 of p^2 pairs."""
    pairs, labels = _table(operation, 13)
    strategy = _learned(Constant(), "quadratic[width=20,modulus=13]", _stage(pairs, labels, 13))
    assert (_answered(strategy, [*range(len(pairs))], pairs).classes == labels).mean() == pytest.approx(
        expected
    )


def test_rows_of_a_network_of_torch_answer_alike() -> None:
    """The same weights in a network written with torch's linear layers and one-hot inputs."""
    pairs, labels = _table("add", 7)
    rows = network_of(rule_of(pairs, labels, 7), 40, np.random.default_rng(1))
    u, v, w = (torch.from_numpy(part) for part in rows)
    inputs = torch.cat([torch.eye(7)[pairs[:, 0]], torch.eye(7)[pairs[:, 1]]], dim=1)
    logits = torch.nn.functional.linear(
        torch.nn.functional.linear(inputs, torch.cat([u, v], dim=1)).square(), w.T
    )
    np.testing.assert_allclose(outputs(rows, pairs), logits.numpy(), atol=1e-5)
