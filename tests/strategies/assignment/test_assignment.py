"""Soft labels by optimal transport: against closed forms, scaling and linear and quadratic programmes of scipy, in
float64, and by what must not matter.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, linear_sum_assignment, linprog, minimize
from torch import Tensor
from torch.nn.functional import normalize

from harness.errors import UserError
from harness.plugins import find
from harness.selection import recorded, single
from strategies.assignment.rules import RULES, assignment_of, entropic, relaxed, row_softmax, sinkhorn, sparse
from strategies.ncd.depict import targets

Array = NDArray[np.float64]

EXACT = ["entropic", "entropic[keep=0.5]", "sparse[k=9]"]
"""Those that give every class its part."""
ALL = [
    *RULES,
    "sinkhorn[rounds=1]",
    "entropic[keep=0.5]",
    "sparse[k=9,gamma=1]",
    "frequency[target=sqrt_freq]",
]


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    """Scores in [-1, 1], as cosines are."""
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 1


def _cosines(items: int, classes: int, seed: int = 0) -> Tensor:
    """Cosines of items with directions, float64."""
    draws = torch.Generator().manual_seed(seed)
    points, directions = (
        normalize(torch.randn(number, 8, generator=draws, dtype=torch.float64), dim=1)
        for number in (items, classes)
    )
    return points @ directions.T


# --- closed forms -------------------------------------------------------------------------------------------


def test_two_items_and_two_classes_by_hand() -> None:
    """P = [[p, 1-p], [1-p, p]]; with D = a + d - b - c of the scores [[a, b], [c, d]], stationarity in p gives
    2 epsilon log(p / (1-p)) = D, and of squares 2 gamma (2p - 1) = D.
    """
    scores = torch.tensor([[0.4, 0.1], [0.3, 0.25]], dtype=torch.float64)
    d = 0.4 + 0.25 - 0.1 - 0.3
    for text, p in (
        ("entropic", 1 / (1 + math.exp(-d / 0.1))),
        ("sparse[gamma=0.2]", 0.5 + d / 0.8),
        ("sparse[gamma=0.01]", 1.0),
        ("sparse[gamma=2]", 0.5 + d / 8),
    ):
        expected = torch.tensor([[p, 1 - p], [1 - p, p]], dtype=torch.float64)
        torch.testing.assert_close(
            assignment_of(text)(scores, epsilon=0.05), expected, atol=1e-10, rtol=0, msg=text
        )


def test_the_pull_on_a_single_item_is_a_higher_temperature() -> None:
    """c is P itself, so that entropy and pull add up: P = softmax(S / (epsilon + rho))."""
    scores = _drawn(1, 4).double()
    found = relaxed(scores, epsilon=0.05, rho=0.1)
    torch.testing.assert_close(found, (scores / 0.15).softmax(dim=1), atol=1e-10, rtol=0)


def test_equal_scores_give_every_class_its_part() -> None:
    for text in set(ALL) - {"sparse"}:
        found = assignment_of(text)(torch.full((6, 4), 0.3), epsilon=0.05)
        torch.testing.assert_close(found, torch.full((6, 4), 0.25), msg=text)


# --- second implementations ---------------------------------------------------------------------------------


def _scaled(scores: Array, epsilon: float, rho: float, rounds: int) -> Array:
    """Scaling in logarithms, the columns' step times rho / (rho + epsilon), rows last (Chizat et al. 2018)."""
    logs, part = scores / epsilon, len(scores) / scores.shape[1]
    u, power = np.zeros(scores.shape[1]), 1.0 if math.isinf(rho) else rho / (rho + epsilon)
    for _ in range(rounds):
        rows = np.log(np.exp(logs + u).sum(axis=1, keepdims=True))
        u = power * (math.log(part) - np.log(np.exp(logs - rows).sum(axis=0)))
    plan: Array = np.exp(logs + u)
    return plan / plan.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(40, 5), (9, 9), (3, 7), (128, 20)])
@pytest.mark.parametrize(("text", "rho"), [("entropic", math.inf), ("relaxed", 0.1), ("relaxed[rho=2]", 2.0)])
def test_newton_reaches_what_scaling_tends_to(shape: tuple[int, int], text: str, rho: float) -> None:
    scores = _cosines(*shape)
    expected = _scaled(scores.numpy(), 0.1, rho, 5000)
    np.testing.assert_allclose(assignment_of(text)(scores, epsilon=0.1), expected, atol=1e-9)


def test_a_sparse_matrix_takes_other_steps_to_the_same_plan() -> None:
    scores = _cosines(60, 8)
    for keep in (0.5, 0.2):
        torch.testing.assert_close(
            entropic(scores, keep=keep), entropic(scores), atol=1e-9, rtol=0, msg=str(keep)
        )


def test_a_thousand_rounds_of_sinkhorn_are_entropic() -> None:
    scores = _cosines(30, 4)
    torch.testing.assert_close(sinkhorn(scores, rounds=1000), entropic(scores), atol=1e-9, rtol=0)


def test_squares_by_a_quadratic_programme() -> None:
    scores, gamma = _cosines(5, 3, seed=3).numpy(), 0.3
    items, classes = scores.shape
    sums = np.concatenate(
        [np.kron(np.eye(items), np.ones(classes)), np.kron(np.ones(items), np.eye(classes))]
    )
    wanted = np.array([1.0] * items + [items / classes] * classes)
    best = minimize(
        lambda p: gamma / 2 * p @ p - p @ scores.ravel(),
        np.full(scores.size, 1 / classes),
        jac=lambda p: gamma * p - scores.ravel(),
        bounds=[(0, None)] * scores.size,
        constraints=LinearConstraint(sums[:-1], wanted[:-1], wanted[:-1]),
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    found = sparse(torch.from_numpy(scores), k=3, gamma=gamma)
    np.testing.assert_allclose(found.numpy().ravel(), best.x, atol=1e-6)


def test_the_limit_of_no_smoothing_is_the_linear_programme() -> None:
    """Squares cost at most gamma / 2 an item, entropy gains at most epsilon log K."""
    scores = _cosines(12, 4, seed=1)
    sums = np.concatenate([np.kron(np.eye(12), np.ones(4)), np.kron(np.ones(12), np.eye(4))])
    wanted = [1.0] * 12 + [3.0] * 4
    best = -float(linprog(-scores.numpy().ravel(), A_eq=sums, b_eq=wanted).fun)
    for plan, slack in (
        (sparse(scores, k=4, gamma=0.02), 12 * 0.01),
        (entropic(scores, epsilon=0.02), 12 * 0.02 * math.log(4)),
    ):
        assert best - slack <= float((plan * scores).sum()) <= best + 1e-9
        assert slack < 0.5


def test_as_many_items_as_classes_are_matched_one_to_one() -> None:
    scores = _cosines(6, 6, seed=2)
    rows, columns = linear_sum_assignment(scores.numpy(), maximize=True)
    for plan in (entropic(scores, epsilon=0.002), sparse(scores, k=2, gamma=0.001)):
        assert (plan.argmax(dim=1).numpy()[rows] == columns).all()
        assert float(plan[rows, columns].min()) > 0.98


def test_frequency_by_loops_and_as_depict_has_it() -> None:
    scores = _drawn(7, 3)
    p = (scores.double() / 0.05).softmax(dim=1).numpy()
    for kind, a, b in (("squared_freq", 2.0, 1.0), ("sqrt_freq", 1.0, 0.5)):
        expected = np.array([[p[i, k] ** a / p[:, k].sum() ** b for k in range(3)] for i in range(7)])
        expected /= expected.sum(axis=1, keepdims=True)
        found = assignment_of(f"frequency[target={kind}]")(scores, epsilon=0.05)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        torch.testing.assert_close(targets(row_softmax(scores, epsilon=0.05), kind), found)  # type: ignore[arg-type]


# --- conditions of optimality -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", EXACT)
@pytest.mark.parametrize("shape", [(64, 5), (256, 20), (10, 30)])
def test_rows_and_parts_are_met(text: str, shape: tuple[int, int]) -> None:
    items, classes = shape
    text = text.replace("9", str(classes))
    plan = assignment_of(text)(_cosines(*shape), epsilon=0.05)
    assert float(plan.min()) >= 0
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(items).double(), atol=1e-9, rtol=0)
    part = torch.full((classes,), items / classes, dtype=torch.float64)
    torch.testing.assert_close(plan.sum(dim=0), part, atol=1e-9, rtol=0)


def test_entropic_closes_the_gap_to_its_dual() -> None:
    scores, epsilon = _cosines(40, 6), 0.05
    plan = entropic(scores, epsilon=epsilon)
    potentials = epsilon * plan[0].log() - scores[0]  # up to a constant
    primal = (plan * scores).sum() - epsilon * torch.xlogy(plan, plan).sum()
    dual = epsilon * ((scores + potentials) / epsilon).logsumexp(dim=1).sum() - 40 / 6 * potentials.sum()
    assert float(dual - primal) == pytest.approx(0, abs=1e-9)


def test_relaxed_parts_are_what_their_potentials_say() -> None:
    """c = r exp(-v / rho) with P_ik ~ exp((S_ik + v_k) / epsilon), so that log c is linear in v with slope -1 / rho."""
    scores, epsilon, rho = _cosines(40, 6), 0.05, 0.2
    plan = relaxed(scores, epsilon=epsilon, rho=rho)
    potentials = epsilon * plan[0].log() - scores[0]
    shifted = plan.sum(dim=0).log() + potentials / rho
    torch.testing.assert_close(shifted, shifted.mean().expand(6), atol=1e-9, rtol=0)


def test_squares_are_projections_of_shifted_scores() -> None:
    """Where P_ik > 0, gamma P_ik = S_ik + v_k - t_i; elsewhere S_ik + v_k <= t_i. v is fitted to the former."""
    scores, gamma = _cosines(40, 6), 0.3
    plan = sparse(scores, k=6, gamma=gamma)
    there = (plan > 0).nonzero().tolist()
    equations = np.zeros((len(there), 46))
    for row, (item, label) in enumerate(there):
        equations[row, item], equations[row, 40 + label] = -1, 1
    rest = np.array([float(gamma * plan[i, k] - scores[i, k]) for i, k in there])
    found, *_ = np.linalg.lstsq(equations, rest, rcond=None)
    np.testing.assert_allclose(equations @ found, rest, atol=1e-9)
    assert ((scores.numpy() + found[40:] - found[:40, None])[plan.numpy() == 0] <= 1e-9).all()


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_no_item_has_more_classes_than_it_may(k: int, gamma: float) -> None:
    plan = sparse(_cosines(64, 8), k=k, gamma=gamma)
    assert int((plan > 0).sum(dim=1).max()) <= k
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(64).double())
    left = float((plan.sum(dim=0) - 8).abs().sum()) / 64
    assert left < (0.1 if k == 1 else 0.05), "parts are met as nearly as such rows allow"


# --- what must not matter -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ALL)
def test_order_and_what_is_added_to_an_item_do_not_matter(text: str) -> None:
    assign, scores = assignment_of(text), _cosines(20, 5)
    plan = assign(scores, epsilon=0.05)
    draws = torch.Generator().manual_seed(1)
    items, classes = torch.randperm(20, generator=draws), torch.randperm(5, generator=draws)
    close: dict[str, Any] = {
        "atol": 2e-3 if text == "sparse" else 1e-9,
        "rtol": 0,
    }  # corners: the path decides
    torch.testing.assert_close(assign(scores[items], epsilon=0.05), plan[items], **close)
    torch.testing.assert_close(assign(scores[:, classes], epsilon=0.05), plan[:, classes], **close)
    shift = torch.randn(20, 1, dtype=torch.float64, generator=draws)
    if not text.startswith("sinkhorn"):  # whose first step is the classes'
        torch.testing.assert_close(assign(scores + shift, epsilon=0.05), plan, **close)


@pytest.mark.parametrize("text", EXACT)
def test_what_is_added_to_a_class_does_not_matter_where_parts_are_met(text: str) -> None:
    assign, scores = assignment_of(text), _cosines(20, 5)
    shift = 3 * torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shifted = assign(scores + shift, epsilon=0.05)
    torch.testing.assert_close(shifted, assign(scores, epsilon=0.05), atol=1e-9, rtol=0)


def test_the_pull_goes_from_softmax_to_even_parts() -> None:
    scores = _cosines(50, 5)
    torch.testing.assert_close(
        relaxed(scores, rho=1e-6), row_softmax(scores, epsilon=0.05), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(relaxed(scores, rho=math.inf), entropic(scores), atol=1e-12, rtol=0)
    left = [
        float((relaxed(scores, rho=rho).sum(dim=0) - 10).abs().sum()) for rho in (0.01, 0.1, 1.0, math.inf)
    ]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 1e-8


@pytest.mark.parametrize("text", ALL)
def test_problems_stand_beside_each_other_and_no_item_gives_no_label(text: str) -> None:
    assign, scores = assignment_of(text), _drawn(2, 3, 8, 4)
    found = assign(scores, epsilon=0.05)
    assert found.dtype == torch.float32
    assert found.shape == scores.shape
    for view, head in itertools.product(range(2), range(3)):
        alone = assign(scores[view, head], epsilon=0.05)
        torch.testing.assert_close(
            found[view, head], alone, atol=2e-3 if text == "sparse" else 1e-6, rtol=1e-5
        )
    assert assign(torch.zeros(2, 0, 5), epsilon=0.05).shape == (2, 0, 5)
    torch.testing.assert_close(assign(_drawn(5, 1), epsilon=0.05), torch.ones(5, 1))


@pytest.mark.parametrize("text", sorted(set(ALL) - {"softmax"}))
def test_labels_are_constants_of_whole_numbers_of_bits(text: str) -> None:
    assign = assignment_of(text)
    assert not assign(_drawn(3, 2).requires_grad_(), epsilon=0.05).requires_grad
    assert assign(_drawn(3, 2).bfloat16(), epsilon=0.05).dtype == torch.float32


@pytest.mark.parametrize("text", ALL)
def test_large_scores_stay_finite(text: str) -> None:
    found = assignment_of(text)(1e4 * _drawn(20, 4), epsilon=0.05)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(20))


# --- Sinkhorn -----------------------------------------------------------------------------------------------


def _plain_sinkhorn(scores: Array, epsilon: float, rounds: int) -> Array:
    """UNO's own steps, on numbers and not on logarithms, cell by cell."""
    items, clusters = scores.shape
    cells = {(i, c): math.exp(scores[i, c] / epsilon) for i in range(items) for c in range(clusters)}
    total = sum(cells.values())
    cells = {place: value / total for place, value in cells.items()}
    for _ in range(rounds):
        columns = [sum(cells[i, c] for i in range(items)) for c in range(clusters)]
        cells = {(i, c): value / columns[c] / clusters for (i, c), value in cells.items()}
        rows = [sum(cells[i, c] for c in range(clusters)) for i in range(items)]
        cells = {(i, c): value / rows[i] / items for (i, c), value in cells.items()}
    return np.array([[items * cells[i, c] for c in range(clusters)] for i in range(items)])


@pytest.mark.parametrize(("epsilon", "rounds"), [(0.05, 3), (0.05, 1), (0.3, 10)])
@pytest.mark.parametrize("items", [1, 2, 9])
def test_sinkhorn_by_a_plain_loop(items: int, epsilon: float, rounds: int) -> None:
    scores = _drawn(items, 4)
    found = sinkhorn(scores, epsilon=epsilon, rounds=rounds)
    np.testing.assert_allclose(
        found, _plain_sinkhorn(scores.double().numpy(), epsilon, rounds), rtol=2e-4, atol=1e-7
    )


def test_a_score_of_sixty_does_not_overflow() -> None:
    """exp(60 / 0.05) is infinite in any float; adding a constant to all scores changes nothing."""
    scores = (
        60 * _drawn(10, 4).sign() * torch.rand(10, 4, generator=torch.Generator().manual_seed(1)).add(0.5)
    )
    found = sinkhorn(scores)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(10))
    small = _drawn(10, 4)
    torch.testing.assert_close(sinkhorn(small + 60), sinkhorn(small), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("rounds", [1, 3, 300])
def test_rows_of_assignments_sum_to_one_and_columns_become_even(rounds: int) -> None:
    found = sinkhorn(_drawn(12, 3), epsilon=0.2, rounds=rounds)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(12))
    uneven = float((found.sum(dim=0) - 4).abs().max())
    assert uneven < (1e-4 if rounds == 300 else 2)
    assert rounds > 1 or uneven > 1e-3, "a single pass leaves the columns uneven"


def test_fewer_items_than_clusters_are_shared_out() -> None:
    found = sinkhorn(_drawn(2, 6), rounds=500, epsilon=0.5)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(found.sum(dim=0), torch.full((6,), 2 / 6), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("text", ALL)
def test_scores_that_are_no_numbers_give_labels_that_are_none(text: str) -> None:
    """So that training ends as diverged, and not with an error from within a solver."""
    assert assignment_of(text)(torch.full((6, 3), math.nan), epsilon=0.05).isnan().any()


# --- by name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sinkhorm", "did you mean 'sinkhorn'"),
        ("entropic[kep=0.3]", "did you mean 'keep'"),
        ("relaxed[rho=0]", "rho between 1e-06 and inf, got 0"),
        ("entropic[keep=2]", "keep between 0 and 1, got 2"),
        ("sparse[k=0]", "at least 1 for k, got 0"),
        ("sinkhorn[rounds=2.5]", "at least 1 for rounds, got 2.5"),
        ("frequency[target=sqrt_frek]", "did you mean 'sqrt_freq'"),
    ],
)
@pytest.mark.parametrize("strategy", ["uno", "cr-kd", "ncd-simgcd", "happy"])
def test_a_wrong_name_is_refused_before_anything_runs(strategy: str, text: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        recorded(find("strategy", strategy), single(f"{strategy}[assignment='{text}']"))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("strategy", ["uno", "cr-kd", "ncd-simgcd", "simgcd", "simgcd-lwf", "happy"])
def test_keys_and_records_are_those_of_before_where_nothing_is_said(strategy: str) -> None:
    plugin = find("strategy", strategy)
    assert "assignment" not in recorded(plugin, single(strategy))
    said = recorded(plugin, single(f"{strategy}[assignment=relaxed[rho=0.05]]"))
    assert said["assignment"] == "relaxed[rho=0.05]"


def test_rounds_are_the_strategys_where_they_are_not_said() -> None:
    scores = _drawn(9, 4)
    for text, rounds in (("sinkhorn", 7), ("sinkhorn[rounds=2]", 2)):
        found = assignment_of(text, rounds=7)(scores, epsilon=0.1)
        assert torch.equal(found, sinkhorn(scores, epsilon=0.1, rounds=rounds))
