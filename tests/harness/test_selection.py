"""The selection syntax, and what it says about mistakes."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pytest
from PIL import Image

from harness.contracts import Prediction, Preset, Query, Stage, Strategy, param
from harness.errors import UserError
from harness.plugins import Plugin, find
from harness.protocol.cells import protocols, read_suite
from harness.selection import Selection, as_declared, configured, expand, resolved, single
from harness.studies.space import read_space
from harness.weights import declared_weights


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
        (
            "replay[memry=3]",
            "unknown parameter of Replay 'memry'; did you mean 'memory'? (all: owb list Replay)",
        ),
        ("replay[memory=0]", "memory should be greater than or equal to 1, got 0 (Replay)"),
        (
            "replay[memory=many]",
            "memory should be a valid integer, unable to parse string as an integer, got 'many' (Replay)",
        ),
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


class _Texts(Strategy):
    """For parameters that are text, and some that are not."""

    text: str = param("")
    word: Literal["yes", "no", "1e3"] = param("no")
    maybe: str | None = param("x")
    whole: int = param(0)
    number: float = param(0.0)
    truth: bool = param(False)

    def learn(self, stage: Stage) -> None: ...

    def predict(self, query: Query) -> Prediction:
        return Prediction()


TEXTS = Plugin(kind="strategy", name="texts", cls=_Texts)

WORDS = [
    *("01", "1e3", "1.50", "+1", ".5", "5", "0.1", "-0", "0x10", "1_000", "inf", "2024-01-01", "1:30"),
    *("yes", "No", "True", "true", "null", "Null", "~"),
    *("lab #2", "#2", "a: b", "- a", "{a: 1}", "*a", "&a b", "!a", "@a", "%a", "a|b", ">0.5", "'", '"a', "ü"),
]


@pytest.mark.parametrize("words", WORDS)
def test_a_parameter_that_is_text_takes_it_as_said_and_its_label_says_it_so(words: str) -> None:
    said = single(f"texts[text={words},number=1e-3]")
    assert resolved(TEXTS, said)["text"] == words
    label = str(as_declared(TEXTS, said))
    assert label == f"texts[text={words},number=0.001]"
    assert resolved(TEXTS, single(label)) == resolved(TEXTS, said)
    assert single(said.as_written) == said
    assert single(said.as_written).text("text") == words


def test_words_are_no_truth_values_and_null_is_nothing_only_where_nothing_is_a_value() -> None:
    assert resolved(TEXTS, single("texts[word=yes,maybe=null]")) == {
        **resolved(TEXTS, single("texts")),
        "word": "yes",
        "maybe": None,
    }
    assert resolved(TEXTS, single("texts[word=1e3,text=]"))["word"] == "1e3"
    assert resolved(TEXTS, single("texts[text='01',maybe=\"\"]"))["text"] == "01"
    assert [resolved(TEXTS, one)["text"] for one in expand("texts[text=[01,1,1.0]]")] == ["01", "1", "1.0"]


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("whole=010", 10),
        ("whole=1e3", 1000),
        ("whole=+5", 5),
        ("number=01", 1.0),
        ("number=.5", 0.5),
        ("number=1.", 1.0),
        ("number=1E-3", 0.001),
        ("number=.inf", float("inf")),
        ("number=-Infinity", -float("inf")),
        ("truth=TRUE", True),
        ("truth=false", False),
    ],
)
def test_numbers_are_decimal(said: str, value: object) -> None:
    assert resolved(TEXTS, single(f"texts[{said}]"))[said.partition("=")[0]] == value


@pytest.mark.parametrize(
    "said",
    ["whole=5 # five", "number=0.1 #x", "truth=true #", "whole=0x10", "whole=1:30", "number=2024-01-01"],
)
def test_what_is_no_number_is_refused_whole(said: str) -> None:
    name, _, words = said.partition("=")
    with pytest.raises(UserError, match=f"{name} should be .*{words}"):
        resolved(TEXTS, single(f"texts[{said}]"))


def test_text_keeps_its_words_through_suites_nested_selections_and_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("lab #2/1e3", "01/01", "01/1"):
        (tmp_path / folder / "train" / "good").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "train" / "good" / "0.png")
    monkeypatch.setenv("OWB_DATA", str(tmp_path))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    texts = [
        "'anomaly[source=folder,root=lab #2,categories=1e3]'",
        "anomaly[source=folder,root=01,categories=[01,1]]",
    ]
    (tmp_path / "suite.yaml").write_text("\n- ".join(["scenarios:", *texts]) + "\nstrategies: [fine-tune]\n")
    found = protocols(read_suite(tmp_path / "suite.yaml").scenarios)
    said = [(one.scenario.root, one.scenario.categories) for one in found]
    assert said == [("lab #2", "1e3"), ("01", "01"), ("01", "1")]
    assert [one.label for one in found] == [
        f"anomaly[source=folder,root={root},categories={names}]" for root, names in said
    ]
    nested = configured(
        "scenario", "smoke[over=class-incremental[dataset=imagenet[root=1e3,subset=/lab #2/01]]]"
    )
    beneath = configured("dataset", configured("scenario", nested.over).dataset)
    assert (beneath.root, beneath.subset) == ("1e3", "/lab #2/01")
    space = read_space("scenario", "anomaly[source=folder,root=01,categories=[01,1]]")
    assert [str(one) for one in space.grid()] == [
        f"anomaly[source=folder,root=01,categories={name}]" for name in ("01", "1")
    ]


def test_a_weights_file_is_named_as_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1e3").write_bytes(b"weights")
    digest = "9cdc56a9"  # of b"weights", by sha256sum
    assert declared_weights("cnn[weights=1e3,pretrained_on=2024-01-01]")["pretrained_on"] == "2024-01-01"
    with pytest.raises(UserError, match="weights file 1e3: digest"):
        declared_weights(f"cnn[weights=1e3,sha256=0{digest}]")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("folder[root='/data/a, b',resize=8]", {"root": "/data/a, b", "resize": 8}),
        ('folder[root="it\'s [here"]', {"root": "it's [here"}),
        ("folder[root=/data/Tom's, resize=8]", {"root": "/data/Tom's", "resize": 8}),
        ("ci[dataset=folder[root='a,b]'],stages=2]", {"dataset": "folder[root='a,b]']", "stages": 2}),
    ],
)
def test_quotes_keep_commas_and_brackets_together_and_come_back(text: str, values: dict[str, object]) -> None:
    selection = single(text)
    assert selection.params == values
    assert single(str(selection)).params == values
    assert single(selection.as_written).params == values


def test_a_quoted_alternative_may_hold_a_comma() -> None:
    assert [each.params["x"] for each in expand("a[x=['p,q', r]]")] == ["p,q", "r"]
