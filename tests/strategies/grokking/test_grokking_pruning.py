"""Pruning by periodicity: the order on neurons whose ratio is known, and what zeroing does to a network that
knows and remembers.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.errors import UserError
from harness.metrics.grokking import neuron_ipr, pruned_predictions
from strategies.grokking.closed_form import network_of, outputs, rules
from strategies.grokking.pruning import neuron_rows, prune, removal_order, zero_neurons

P = 31


def _neurons() -> np.ndarray:
    """Six neurons: two frequencies, one frequency, nothing, a single residue, three frequencies, four."""
    turns = 2 * np.pi * np.arange(P) / P
    one, two, three = (
        np.cos(turns),
        np.cos(turns) + np.cos(3 * turns),
        np.cos(turns) + np.cos(3 * turns) + np.sin(7 * turns),
    )
    rows = np.stack([two, one, 0 * one, np.eye(P)[4], three, 5 * (three - np.cos(5 * turns))])
    return np.stack([rows, rows, 3 * rows]).astype(np.float32)


def test_the_ratios_are_those_of_equal_frequencies() -> None:
    np.testing.assert_allclose(
        neuron_ipr(_neurons()), [1 / 2, 1, 0, 1 / (P // 2 + 1), 1 / 3, 1 / 4], atol=1e-6
    )


def test_low_first_begins_with_the_dead_and_high_first_with_the_purest() -> None:
    rng = np.random.default_rng(0)
    assert removal_order(_neurons(), "low", rng).tolist() == [2, 3, 5, 4, 0, 1]
    assert removal_order(_neurons(), "high", rng).tolist() == [1, 0, 4, 5, 3, 2]
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_equal_ratios_go_in_order_of_their_numbers() -> None:
    rows = np.repeat(_neurons()[:, 1:2], 4, axis=1)
    for first in ("low", "high"):
        assert removal_order(rows, first, np.random.default_rng(0)).tolist() == [0, 1, 2, 3]


def test_a_random_order_is_the_streams_and_looks_at_no_weight() -> None:
    order = removal_order(_neurons(), "random", np.random.default_rng(3))
    assert order.tolist() == np.random.default_rng(3).permutation(6).tolist()
    assert order.tolist() == removal_order(0 * _neurons(), "random", np.random.default_rng(3)).tolist()


def test_an_unknown_order_is_told() -> None:
    with pytest.raises(UserError, match="order of pruning should be one of low, high, random, got 'middle'"):
        removal_order(_neurons(), "middle", np.random.default_rng(0))  # type: ignore[arg-type]


def _stack(*networks: np.ndarray) -> dict[str, torch.Tensor]:
    """Weights of stacked networks, (K, p, N)."""
    rows = torch.from_numpy(np.stack(networks))
    return {name: rows[:, place].mT.contiguous() for place, name in enumerate(("U", "V", "W"))}


def test_only_the_neurons_of_one_network_are_zeroed() -> None:
    weights = _stack(_neurons(), _neurons())
    zero_neurons(weights, 1, np.array([0, 5]))
    np.testing.assert_array_equal(neuron_rows(weights, 0), _neurons())
    expected = _neurons()
    expected[:, [0, 5]] = 0
    np.testing.assert_array_equal(neuron_rows(weights, 1), expected)


@pytest.mark.parametrize(("share", "gone"), [(0.0, 0), (0.3, 2), (0.5, 3), (1.0, 6)])
def test_a_share_is_rounded_to_whole_neurons(share: float, gone: int) -> None:
    weights = _stack(_neurons())
    order = removal_order(_neurons(), "low", np.random.default_rng(0))
    assert prune(weights, 0, share, "low", np.random.default_rng(0)).tolist() == order[:gone].tolist()
    assert not neuron_rows(weights, 0)[:, order[:gone]].any()
    np.testing.assert_array_equal(neuron_rows(weights, 0)[:, order[gone:]], _neurons()[:, order[gone:]])


def test_lowest_first_takes_the_memory_out_and_leaves_the_rule() -> None:
    """A closed-form network for addition beside neurons that shout wrong labels: the second half goes, the
    rule is whole again.
    """
    (rule, *_) = rules(P)
    knowing, rng = network_of(rule, 120, np.random.default_rng(0)), np.random.default_rng(1)
    remembering = np.zeros((3, 120, P), dtype=np.float32)
    remembering[0, np.arange(120), rng.integers(P, size=120)] = 1
    remembering[1, np.arange(120), rng.integers(P, size=120)] = 1
    remembering[2, np.arange(120), rng.integers(P, size=120)] = 2
    both = np.concatenate([remembering, knowing], axis=1)
    pairs = np.stack(np.divmod(np.arange(P * P), P), axis=1)
    labels = pairs.sum(axis=1) % P

    def right(first: str) -> float:
        weights = _stack(both)
        prune(weights, 0, 0.5, first, np.random.default_rng(2))
        return float((outputs(neuron_rows(weights, 0), pairs).argmax(axis=1) == labels).mean())

    assert (outputs(both, pairs).argmax(axis=1) == labels).mean() < 0.3
    assert right("low") == 1
    assert right("high") < 0.1
    assert right("high") <= right("random") < 0.5


@pytest.mark.parametrize("first", ["low", "high", "random"])
def test_a_pruned_network_answers_as_the_prune_curve_says(first: str) -> None:
    (rule, *_) = rules(P)
    rows = network_of(rule, 60, np.random.default_rng(0)) + np.random.default_rng(1).normal(
        0, 0.1, (3, 60, P)
    ).astype(np.float32)
    pairs = np.stack(np.divmod(np.arange(P * P), P), axis=1)
    order = removal_order(rows, first, np.random.default_rng(2))
    curve = pruned_predictions(rows, pairs, order, np.array([0.2, 0.55]))
    for level, share in enumerate((0.2, 0.55)):
        weights = _stack(rows)
        prune(weights, 0, share, first, np.random.default_rng(2))
        assert (outputs(neuron_rows(weights, 0), pairs).argmax(axis=1) == curve[level]).mean() > 0.999
