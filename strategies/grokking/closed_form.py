"""A quadratic network in closed form for rules over the residues: the upper bound of grokking boards. It
alone is handed true labels.

Gromov 2023 (arXiv 2301.02679; Doshi et al. 2024, eq. 2): with frequencies s_k and random phases u_k, v_k,

    U[k, x] = A cos(2 pi s_k x / p + u_k),  V[k, y] = A cos(2 pi s_k y / p + v_k),  W[q, k] = A cos(2 pi s_k q
    / p + u_k + v_k),

all terms of W (U e_x + V e_y)^2 but cos(2 pi s (x + y - q) / p) have random phases and average out as 1 /
sqrt(N), and with A = (2 / N)^(1/3) the output goes to the one-hot code of x + y. (The paper prints the
exponent -1/3, which gives logits of some 60,000 and the same answers.)

The same holds for any sum g(x) + h(y) in a cyclic group: squares; products and quotients by their discrete
logarithms (arXiv 2406.03495). An operand without logarithm, or one at which another rule holds, has weights
of zero; a label 0 that logarithms cannot give comes from two neurons, as a(x) b(y) = ((a + b)^2 - (a - b)^2)
/ 4. Polynomials with mixed terms have no such form, nor has a random table.

Legend: p modulus, N width, m order of a cyclic group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from harness.contracts import (
    HIDDEN,
    AnyArray,
    FloatArray,
    Inputs,
    IntArray,
    Prediction,
    Query,
    Stage,
    Strategy,
)
from harness.errors import Unsuitable
from harness.metrics.grokking import HEALTH
from harness.syntax import single
from strategies.toolkit.label_memory import LabelMemory

WIDTH = 500
"""Neurons where the protocol's network is not the quadratic one."""

SMALLEST_LOSS = 1e-40
"""Losses below it are told as this."""


class Part(NamedTuple):
    """Labels `classes[(first[x] + second[y]) mod m]`: first, second int64 (p,), -1 where the part says
    nothing; classes int64 (m,).
    """

    first: IntArray
    second: IntArray
    classes: IntArray


class Rule(NamedTuple):
    """A table in parts, each pair in one at most. zeros: (a, b), bool (p,) each: the label of pairs with a(x)
    and b(y) is 0.
    """

    name: str
    parts: list[Part]
    zeros: list[tuple[AnyArray, AnyArray]]

    def table(self) -> IntArray:
        """Return the label of every pair, int64 (p, p); -1 where the rule says nothing."""
        modulus = len(self.parts[0].first)
        labels = np.full((modulus, modulus), -1, dtype=np.int64)
        for first, second, classes in self.parts:
            spoken = (first >= 0)[:, None] & (second >= 0)
            labels[spoken] = classes[(first[:, None] + second) % len(classes)][spoken]
        for a, b in self.zeros:
            labels[np.outer(a, b)] = 0
        return labels


class ClosedForm(Strategy):
    """Find the rule that all labels follow and write its network down, with no gradient step; the upper
    bound.

    Exact from a width of about 200 at p = 97 on for one rule, wider where two rules share the neurons.
    """

    def setup(self) -> None:
        """Know no rule yet."""
        self.handed = LabelMemory()
        self.weights: FloatArray = np.zeros((3, 0, 1), dtype=np.float32)

    def learn(self, stage: Stage) -> None:
        """Find the rule and build its network.

        Raises:
            Unsuitable: a hidden label, inputs without operands, or labels that follow no rule with a closed
            form.
        """
        if (stage.labels == HIDDEN).any():
            raise Unsuitable(
                "is an upper bound and needs every label; only a scenario that names it so hands them over"
            )
        self.handed.add(stage)
        backbone = single(self.context.backbone)
        modulus = int(backbone.params.get("modulus", stage.named_classes))
        width = int(backbone.params.get("width", WIDTH)) if backbone.name == "quadratic" else WIDTH
        rule = rule_of(operands(stage.inputs, modulus), stage.labels, modulus)
        self.weights = network_of(rule, width, self.context.stream("init"))

    def predict(self, query: Query) -> Prediction:
        """Return the classes, the squared errors of given labels, and the network."""
        pairs = operands(query.inputs, self.weights.shape[2])
        logits = outputs(self.weights, pairs)
        return prediction_of(self.handed, query.ids, logits, self.weights)


def rules(modulus: int) -> Iterator[Rule]:
    """Yield the known rules over the residues of `modulus`, those by logarithms only where it is prime.

    The names are those of the scenario's operations.
    """
    residues = np.arange(modulus, dtype=np.int64)
    even, zero, every = residues % 2 == 0, residues == 0, residues >= 0
    plus, minus = Part(residues, residues, residues), Part(residues, -residues % modulus, residues)
    yield Rule("add", [plus], [])
    yield Rule("sub", [minus], [])
    yield Rule("sq_sum", [Part(residues**2 % modulus, residues**2 % modulus, residues)], [])
    yield Rule("mix_sub", [_where_first(plus, even), _where_first(minus, ~even)], [])
    powers = _powers(modulus)
    if powers is None:
        return
    logs = np.full(modulus, -1, dtype=np.int64)
    logs[powers] = np.arange(modulus - 1)
    times, over = Part(logs, logs, powers), Part(logs, np.where(zero, -1, -logs % (modulus - 1)), powers)
    yield Rule("mul", [times], [(zero, every), (~zero, zero)])
    yield Rule("div", [over], [(zero, ~zero)])
    yield Rule("mix_mul", [_where_first(plus, even), _where_first(times, ~even)], [(~even, zero)])
    yield Rule("mix_div", [_where_second(minus, even), _where_second(over, ~even)], [(zero, ~even)])


def rule_of(pairs: IntArray, labels: IntArray, modulus: int) -> Rule:
    """Return the first rule that gives all pairs int64 (n, 2) their labels int64 (n,).

    Raises:
        Unsuitable: there is none.
    """
    for rule in rules(modulus):
        if (rule.table()[pairs[:, 0], pairs[:, 1]] == labels).all():
            return rule
    known = ", ".join(rule.name for rule in rules(modulus))
    raise Unsuitable(
        f"the labels follow none of the rules that have a closed form modulo {modulus} ({known})"
    )


def network_of(rule: Rule, width: int, rng: np.random.Generator) -> FloatArray:
    """Return rows of U, rows of V and columns of W of the rule's network, float32 (3, width, p).

    Raises:
        Unsuitable: there are too few neurons to write anything down.
    """
    modulus = len(rule.parts[0].first)
    free = width - 2 * len(rule.zeros)
    if free < len(rule.parts):
        raise Unsuitable(
            f"the rule {rule.name} needs {len(rule.parts) + 2 * len(rule.zeros)} neurons at least, the "
            f"network has {width}"
        )
    shares = [free // len(rule.parts) + (place < free % len(rule.parts)) for place in range(len(rule.parts))]
    blocks = [_periodic(part, modulus, share, rng) for part, share in zip(rule.parts, shares, strict=True)]
    blocks += [_zero(a, b) for a, b in rule.zeros]
    return np.concatenate(blocks, axis=1).astype(np.float32)


def outputs(rows: FloatArray, pairs: IntArray) -> FloatArray:
    """Return W (U e_x + V e_y)^2 for pairs int64 (n, 2), float32 (n, p)."""
    u, v, w = rows
    logits: FloatArray = np.square(u.T[pairs[:, 0]] + v.T[pairs[:, 1]]) @ w
    return logits


def operands(inputs: Inputs, modulus: int) -> IntArray:
    """Return x and y of every item, int64 (n, 2), from operand numbers, tokens, or one-hot codes.

    Raises:
        Unsuitable: the items are something else.
    """
    items = np.asarray(inputs[np.arange(len(inputs))])
    if items.ndim == 2 and items.dtype.kind in "iu" and items.shape[1] in (2, 3):
        return items[:, :2].astype(np.int64)
    if (
        items.ndim == 2
        and items.shape[1] == 2 * modulus
        and (items.reshape(-1, modulus).sum(axis=1) == 1).all()
    ):
        return np.asarray(items.reshape(-1, 2, modulus).argmax(axis=2), dtype=np.int64)
    raise Unsuitable(
        "needs operands as numbers (encoding pair-index, tokens-2 or tokens-3) or as one-hot codes"
    )


def prediction_of(
    handed: LabelMemory, ids: IntArray, logits: FloatArray, rows: FloatArray | None = None
) -> Prediction:
    """Return what a network of squared error answers that no gradient has trained.

    Args:
        handed: the labels that came with items.
        ids: int64 (N,).
        logits: (N, C).
        rows: (3, N, p) where there are weights.
    """
    places, numbers = handed.find(ids)
    labels = handed.labels[numbers].numpy()
    losses = squared_errors(logits[places], labels)
    health = dict.fromkeys(HEALTH, float("nan"))
    if rows is not None:
        health["weight_norm"] = float(np.linalg.norm(rows))
    if len(places):
        health |= {
            "zero_loss_fraction": float((losses == 0).mean()),
            "largest_logit": float(np.abs(logits[places]).max()),
        }
    label_losses, suspicion = np.zeros((2, len(ids)), dtype=np.float16)
    label_losses[places] = losses
    suspicion[places] = np.log10(np.maximum(losses, SMALLEST_LOSS))
    classes, kept = logits.argmax(axis=1), np.zeros(len(ids), dtype=np.bool_)
    kept[places] = classes[places] == labels
    return Prediction(
        classes=classes,
        label_losses=label_losses,
        suspicion=suspicion,
        kept=kept,
        weights=rows,
        health=np.array([health[name] for name in HEALTH], dtype=np.float32),
    )


def squared_errors(logits: FloatArray, labels: IntArray) -> AnyArray:
    """Return the mean over the classes of (z - onehot(y))^2, float64 (n,), for logits (n, C) and labels int64
    (n,).
    """
    errors = logits.astype(np.float64)
    errors[np.arange(len(labels)), labels] -= 1
    return np.asarray(np.square(errors).mean(axis=1))


def _periodic(part: Part, modulus: int, neurons: int, rng: np.random.Generator) -> AnyArray:
    """Return (3, neurons, p) of Gromov's network for one part."""
    order = len(part.classes)
    frequencies = rng.permutation(neurons) % order
    u, v = rng.uniform(-np.pi, np.pi, (2, neurons, 1))
    turns = 2 * np.pi / order * frequencies[:, None]
    rows = np.zeros((3, neurons, modulus))
    rows[0] = np.cos(turns * part.first + u) * (part.first >= 0)
    rows[1] = np.cos(turns * part.second + v) * (part.second >= 0)
    rows[2][:, part.classes] = np.cos(turns * np.arange(order) + u + v)
    rows *= (2 / neurons) ** (1 / 3)
    return rows


def _zero(a: AnyArray, b: AnyArray) -> AnyArray:
    """Return (3, 2, p) of two neurons that add a(x) b(y) to class 0."""
    rows = np.zeros((3, 2, len(a)))
    rows[0], rows[1] = a, np.outer([1, -1], b)
    rows[2, :, 0] = 0.25, -0.25
    return rows


def _where_first(part: Part, spoken: AnyArray) -> Part:
    return part._replace(first=np.where(spoken, part.first, -1))


def _where_second(part: Part, spoken: AnyArray) -> Part:
    return part._replace(second=np.where(spoken, part.second, -1))


def _powers(modulus: int) -> IntArray | None:
    """Return 1, g, g^2, ... of the smallest primitive root g, int64 (p - 1,); None where the modulus is not
    prime.
    """
    for root in range(1, modulus):
        powers = [pow(root, exponent, modulus) for exponent in range(modulus - 1)]
        if len({*powers} - {0}) == modulus - 1:
            return np.array(powers, dtype=np.int64)
    return None
