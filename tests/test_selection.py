"""The selection syntax, and what it says about mistakes."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from harness.contracts import Prediction, Preset, Query, Stage, Strategy, param
from harness.errors import UserError
from harness.plugins import Plugin, find
from harness.selection import Selection, configured, expand, resolved, single


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("replay", ["replay"]),
        ("replay[memory=200]", ["replay[memory=200]"]),
        (" replay[ memory = 200 , lr=1e-3 ] ", ["replay[memory=200,lr=0.001]"]),
        ("replay[memory=[50,200]]", ["replay[memory=50]", "replay[memory=200]"]),
        ("a[x=[1,2],y=[true,null]]", ["a[x=1,y=true]", "a[x=1,y=null]", "a[x=2,y=true]", "a[x=2,y=null]"]),
        ("s[dataset=glyphs[size=20]]", ["s[dataset=glyphs[size=20]]"]),
        ("s[dataset=[digits,glyphs[size=20]]]", ["s[dataset=digits]", "s[dataset=glyphs[size=20]]"]),
        ("my.py:Mine[a=b]", ["my.py:Mine[a=b]"]),
        ("replay[]", ["replay"]),
    ],
)
def test_a_selection_stands_for_its_alternatives(text: str, expected: list[str]) -> None:
    assert [str(selection) for selection in expand(text)] == expected


@pytest.mark.parametrize("text", ["replay[memory=200", "replay[memory]", "[memory=2]", "replay[memory=[1,2]"])
def test_a_malformed_selection_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="cannot read"):
        expand(text)


def test_printing_and_reading_are_inverse() -> None:
    for text in ["replay[memory=200,lr=0.1]", "s[dataset=glyphs[size=20],stages=5]"]:
        assert str(single(text)) == text
        assert single(str(single(text))) == single(text)


def test_one_is_needed_where_one_is_needed() -> None:
    with pytest.raises(UserError, match="2 alternatives"):
        single("replay[memory=[1,2]]")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("replya", "unknown strategy 'replya'; did you mean 'replay'? (all: owb list strategies)"),
        ("replay[memry=3]", "unknown parameter of Replay 'memry'; did you mean 'memory'? (all: owb list Replay)"),
        ("replay[memory=0]", "memory should be greater than or equal to 1, got 0 (Replay)"),
        ("replay[memory=many]", "memory should be a valid integer, unable to parse string as an integer, got 'many' (Replay)"),
        ("ewc[fisher=both]", "fisher should be 'sample' or 'batch', got 'both' (EWC)"),
    ],
)
def test_a_wrong_strategy_gets_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        configured("strategy", text)
    assert str(caught.value) == sentence


class _WithPreset(Strategy):
    """For presets."""

    rate: float = param(0.1, gt=0)
    steps: int = param(10, ge=1)
    presets = MappingProxyType({"paper": Preset(values={"rate": 0.5, "steps": 100}, source="Table 1")})

    def learn(self, stage: Stage) -> None: ...

    def predict(self, query: Query) -> Prediction:
        return Prediction()


def test_what_is_said_beats_the_preset_and_the_preset_beats_the_default() -> None:
    plugin = Plugin(kind="strategy", name="x", cls=_WithPreset)
    assert resolved(plugin, Selection("x")) == {"rate": 0.1, "steps": 10}
    assert resolved(plugin, Selection("x", {"preset": "paper"})) == {"rate": 0.5, "steps": 100}
    assert resolved(plugin, Selection("x", {"preset": "paper", "steps": 3})) == {"rate": 0.5, "steps": 3}
    with pytest.raises(UserError, match="unknown preset of x 'papr'; did you mean 'paper'"):
        resolved(plugin, Selection("x", {"preset": "papr"}))


def test_a_strategy_by_path_is_found_and_its_mistakes_are_told(tmp_path) -> None:
    good = tmp_path / "good.py"
    good.write_text("from worlds import Means as Mine\nclass Own(Mine):\n    '''Own.'''\n")
    assert find("strategy", f"{good}:Own").cls.__name__ == "Own"
    with pytest.raises(UserError, match="unknown class 'Onw'; did you mean 'Own'"):
        find("strategy", f"{good}:Onw")
    with pytest.raises(UserError, match="No such file"):
        find("strategy", f"{tmp_path}/none.py:Own")
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    with pytest.raises(UserError, match="does not import: ModuleNotFoundError"):
        find("strategy", f"{broken}:Own")


@pytest.mark.parametrize(("text", "value"), [("off", "off"), ("No", "No"), ("true", True), ("False", False)])
def test_only_true_and_false_are_truth_values(text: str, value: object) -> None:
    assert single(f"happy[rehearsal={text}]").params == {"rehearsal": value}
