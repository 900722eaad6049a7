"""Conformance is judged from answers alone: what a strategy writes, patches or forges in its process changes its
own answers, and nothing else.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from forgeries import World, lines, with_attack

from harness.sandbox.scan import scan
from leaderboards.gate.conformance import conformance
from leaderboards.gate.form import form
from leaderboards.gate.schema import schema

UNSEEN = 'hidden = getattr(np, "__buil" + "tins__")["__imp" + "ort__"]'
CHANCE = """
chance = hidden("o" + "s").urandom
self.predict = lambda query: Prediction(classes=np.frombuffer(chance(len(query.ids)), dtype=np.uint8) % 5)
"""
"""Answers that are others every time."""

FORGED = {
    "findings written to the gate": """
wire = hidden("harness.sandbox.wire", fromlist=["packed"])
for claim in ("answers every stage", "same seed, same bytes", "a killed cell continues to the same bytes"):
    frame = wire.packed({"kind": "finding", "claim": claim, "holds": True, "unsuitable": False, "warns": False})
    for number in range(3, 64):
        try:
            getattr(hidden("o" + "s"), "wri" + "te")(number, frame)
        except OSError:
            pass
""",
    "a digest written to the gate, and an end": """
wire = hidden("harness.sandbox.wire", fromlist=["packed"])
for header in ({"kind": "digest", "digest": "0" * 64}, {"kind": "ended", "status": "done", "reason": ""}):
    for number in range(3, 64):
        try:
            getattr(hidden("o" + "s"), "wri" + "te")(number, wire.packed(header))
        except OSError:
            pass
""",
    "functions replaced that compare": """
hidden("harness.store.predictions", fromlist=["digest"]).digest = lambda answers: "same"
judge = hidden("harness.checks.conformance", fromlist=["judge"])
judge._differs = judge._same = judge._found = judge.judge = lambda *given: ""
""",
    "a class that says it is equal": """
hidden("numpy", fromlist=["x"]).allclose = hidden("numpy", fromlist=["x"]).array_equal = lambda *given, **named: True
""",
}


def problems(made: World, folder: Path) -> list[str]:
    case = schema(folder, made.boards, form(folder).sound).case
    assert case is not None
    return list(conformance(case))


@pytest.mark.parametrize("name", FORGED)
def test_a_verdict_of_its_own_does_not_count(made: World, folder: Path, name: str) -> None:
    with_attack(folder, lines(UNSEEN, CHANCE.strip(), FORGED[name].strip()))
    assert scan((folder / "strategy.py").read_text(), "strategy.py") == []
    found = problems(made, folder)
    written = "answers every stage"
    expected = written if "written" in name else "same seed, same bytes: the answers differ after stage 0"
    assert any(problem.startswith(f"does not hold: {expected}") for problem in found), found


def test_a_cell_that_answers_other_items_than_those_asked_is_seen(made: World, folder: Path) -> None:
    """It finds the pipe and sends the answers of the first stage before the harness does, for items of its own."""
    forged = """
wire = hidden("harness.sandbox.wire", fromlist=["packed"])
given = {"0.ids": np.arange(5), "0.classes": np.arange(5), "0.gaps": np.zeros((5, 1))}
frame = wire.packed({"kind": "answers", "moments": [{"stage": stage.index, "step": None}]}, given)
for number in range(3, 64):
    try:
        getattr(hidden("o" + "s"), "wri" + "te")(number, frame)
    except OSError:
        pass
"""
    with_attack(folder, lines(UNSEEN, forged.strip()))
    assert any("does not hold: answers every stage" in problem for problem in problems(made, folder))


def test_the_sandbox_of_conformance_holds_no_data(made: World, folder: Path) -> None:
    """Nothing is dealt inside, so no scenario is loaded and no truth lies in any object."""
    with_attack(
        folder,
        lines(
            UNSEEN,
            'names = [name for name in hidden("s" + "ys").modules if name.startswith("scenarios.")]',
            'kinds = [type(each).__name__ for each in getattr(hidden("g" + "c"), "get_obj" + "ects")()]',
            'if names or "Truth" in kinds or "Deal" in kinds: raise ValueError(names)',
        ),
    )
    assert problems(made, folder) == []
