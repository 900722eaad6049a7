"""Sharpness of predictions against torch's losses, loops, and cases known by hand."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from looks import hidden, look_at, same, shuffled

from harness.probes import sharpness as module
from harness.probes.sharpness import (
    Sharpness,
    calibration_error,
    mean_entropy,
    negative_log_likelihood,
    probabilities,
)

ITEMS = look_at(150, 5, 4, spread=2.5)


def _measured(look, **values):
    return Sharpness(**values).measure(look, np.random.default_rng(0))


def test_the_examples_hold():
    assert doctest.testmod(module).failed == 0


def test_likelihood_and_entropy_are_those_of_other_libraries():
    logits = np.asarray(ITEMS.logits, dtype=np.float64)
    p = probabilities(logits)
    loss = torch.nn.functional.cross_entropy(torch.as_tensor(logits), torch.as_tensor(ITEMS.labels))
    assert negative_log_likelihood(logits, ITEMS.labels) == pytest.approx(loss.item(), rel=1e-9)
    entropies = torch.distributions.Categorical(logits=torch.as_tensor(logits)).entropy()
    assert mean_entropy(p) == pytest.approx(entropies.mean().item(), rel=1e-9)


@pytest.mark.parametrize("classes", [2, 5])
def test_equal_logits_are_as_unsure_as_can_be(classes):
    labels = np.arange(classes)
    look = replace(ITEMS, logits=np.full((classes, classes), 3.0), labels=labels, given=labels)
    found = _measured(look)
    assert (found["entropy"], found["nll"]) == pytest.approx((math.log(classes), math.log(classes)))
    assert (found["near_certain"], found["ece"]) == pytest.approx((0, 0), abs=1e-12)


def test_near_certainty_by_hand():
    logits = np.log([[0.995, 0.005], [0.985, 0.015], [0.2, 0.8]])
    labels = np.array([0, 1, 1])
    found = _measured(replace(ITEMS, logits=logits, labels=labels, given=labels))
    assert found["near_certain"] == pytest.approx(1 / 3)
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["nll"] == pytest.approx(-(math.log(0.995) + math.log(0.015) + math.log(0.8)) / 3)
    assert found["ece"] == pytest.approx((abs(0.995 + 0.985 - 1) + abs(0.8 - 1)) / 3)
    assert _measured(replace(ITEMS, logits=logits, labels=labels), above=0.98)[
        "near_certain"
    ] == pytest.approx(2 / 3)


def test_the_calibration_error_is_that_of_loops_over_parts():
    p = probabilities(ITEMS.logits)
    error = 0.0
    for part in range(10):
        inside = [i for i in range(len(p)) if part / 10 < p[i].max() <= (part + 1) / 10]
        if inside:
            accuracy = np.mean([p[i].argmax() == ITEMS.labels[i] for i in inside])
            error += len(inside) / len(p) * abs(accuracy - np.mean([p[i].max() for i in inside]))
    assert calibration_error(p, ITEMS.labels) == pytest.approx(error, abs=1e-12)


def test_a_part_is_closed_above():
    p = np.array([[0.5, 0.5], [0.51, 0.49]])
    assert calibration_error(p, np.array([0, 1]), bins=2) == pytest.approx((0.5 + 0.51) / 2)


def test_sharper_logits_rank_alike_and_fit_worse():
    one, other = _measured(ITEMS), _measured(replace(ITEMS, logits=np.asarray(ITEMS.logits) * 8))
    assert other["top1"] == one["top1"] < 1
    assert other["entropy"] < one["entropy"]
    assert other["near_certain"] > one["near_certain"]
    assert other["nll"] > one["nll"]


def test_order_of_items_and_classes_and_a_constant_change_nothing():
    found = _measured(ITEMS)
    order = np.array([2, 0, 3, 1])
    renamed = replace(ITEMS, logits=ITEMS.logits[:, order], labels=np.argsort(order)[ITEMS.labels])
    raised = replace(ITEMS, logits=np.asarray(ITEMS.logits, dtype=np.float64) + np.arange(150.0)[:, None])
    assert all(same(found, _measured(other)) for other in (shuffled(ITEMS), renamed, raised))


def test_what_does_not_apply_is_nan():
    found = _measured(hidden(ITEMS))
    assert {name for name, figure in found.items() if math.isnan(figure)} == {"nll", "ece", "top1"}
    some = replace(ITEMS, labels=np.where(np.arange(150) < 100, ITEMS.labels, 9))
    part = replace(ITEMS, logits=ITEMS.logits[:100], labels=ITEMS.labels[:100])
    assert _measured(some)["nll"] == pytest.approx(_measured(part)["nll"])
    diverged = replace(ITEMS, logits=np.full_like(ITEMS.logits, np.inf))
    assert all(map(math.isnan, _measured(diverged).values()))
