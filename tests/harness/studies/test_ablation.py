"""Arms and contrasts of every design by hand, refusals before anything runs, and `owb ablate` from end to end
on a tiny world.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from runs import BLOBS, world

from harness.cli import ablate as verb
from harness.errors import UserError
from harness.protocol.cells import protocols
from harness.protocol.contrasts import Contrast
from harness.store.mlflow_store import Store
from harness.studies.ablation.design import DESIGNS, ablation, check_feasible, published
from strategies.cgcd.happy import Happy

TOY = '''
"""A learner of class means whose parts can be switched off."""

from types import MappingProxyType

import numpy as np

from harness.contracts import Prediction, Preset, Strategy, param
from harness.errors import UserError


class Toy(Strategy):
    """Nearest class mean, with parts that help, hurt, or do nothing."""

    memory: str = param("all", ablate=["half", "none"])
    shift: float = param(0.0, ge=0, ablate=[2.0])
    idle: bool = param(True, ablate=[False])
    plain: int = param(1)

    presets = MappingProxyType({
        "table2-a": Preset(values={"memory": "none", "idle": False}, source="Table 2, row a: nothing"),
        "table2-b": Preset(values={"memory": "half"}, source="Table 2, row b: half"),
        "table2-full": Preset(values={}, source="Table 2: all of it"),
        "table3-a": Preset(values={"shift": 2.0}, source="Table 3, row a"),
    })

    def setup(self):
        if self.memory == "none" and self.shift == 2.0:
            raise UserError("memory=none leaves nothing to shift")
        self.means = {}

    def learn(self, stage):
        if self.memory == "none":
            self.means = {}
        for label in np.unique(stage.labels):
            rows = np.flatnonzero(stage.labels == label)
            kept = rows[:3] if self.memory == "half" else rows
            self.means[int(label)] = stage.inputs[kept].mean(axis=0) + self.shift * label

    def predict(self, query):
        far = np.stack([np.square(query.inputs - mean).sum(axis=1) for mean in self.means.values()])
        return Prediction(classes=np.array(list(self.means))[far.argmin(axis=0)])
'''


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("toy") / "toy.py"
    path.write_text(TOY, encoding="utf-8")
    return f"{path}:Toy"


def simple(on: str, off: str, plus: str, minus: str) -> Contrast:
    return Contrast(kind="component", on=on, off=off, plus=(plus,), minus=(minus,))


# --- designs by hand ----------------------------------------------------------------------------------------


def test_leave_one_out_switches_one_component_at_a_time_to_each_of_its_alternatives(toy: str) -> None:
    found = ablation(toy)
    arms = [f"{toy}[memory=half]", f"{toy}[memory=none]", f"{toy}[shift=2.0]", f"{toy}[idle=false]"]
    said = [("memory=all", "half"), ("memory=all", "none"), ("shift=0.0", "2.0"), ("idle=true", "false")]
    assert found.reference == toy
    assert found.arms == (toy, *arms)
    assert found.contrasts == tuple(
        simple(*pair, plus=toy, minus=arm) for pair, arm in zip(said, arms, strict=True)
    )


def test_a_component_that_is_not_at_its_default_is_switched_to_that_too(toy: str) -> None:
    found = ablation(f"{toy}[memory=half,plain=3]", components="memory")
    assert found.arms == (
        f"{toy}[memory=half,plain=3]",
        f"{toy}[memory=none,plain=3]",
        f"{toy}[memory=all,plain=3]",
    )


def test_a_preset_stays_below_what_is_switched(toy: str) -> None:
    found = ablation(f"{toy}[preset=table2-b]", components="memory,idle")
    labels = [f"{toy}[preset=table2-b,{change}]" for change in ("memory=none", "memory=all", "idle=false")]
    assert found.arms == (f"{toy}[preset=table2-b]", *labels)


def test_add_one_in_switches_each_on_where_all_are_at_their_first_alternative(toy: str) -> None:
    found = ablation(toy, design="add-one-in")
    off = f"{toy}[memory=half,shift=2.0,idle=false]"
    arms = [f"{toy}[shift=2.0,idle=false]", f"{toy}[memory=half,idle=false]", f"{toy}[memory=half,shift=2.0]"]
    said = [("memory=all", "half"), ("shift=0.0", "2.0"), ("idle=true", "false")]
    assert found.reference == off
    assert found.arms == (off, *arms, toy)
    assert found.contrasts[:-1] == tuple(
        simple(*pair, plus=arm, minus=off) for pair, arm in zip(said, arms, strict=True)
    )
    assert found.contrasts[-1] == Contrast(
        kind="all", on="all together", off="none of them", plus=(toy,), minus=(off,)
    )


def test_a_factorial_takes_every_combination_and_all_interactions_of_two(toy: str) -> None:
    found = ablation(toy, design="factorial", components="memory=none,idle")
    both, no_idle, no_memory, neither = (
        toy,
        f"{toy}[idle=false]",
        f"{toy}[memory=none]",
        f"{toy}[memory=none,idle=false]",
    )
    assert found.arms == (both, no_idle, no_memory, neither)
    memory, idle, interaction = found.contrasts
    assert (memory.on, memory.off, memory.plus, memory.minus, memory.share) == (
        "memory=all",
        "none",
        (both, no_idle),
        (no_memory, neither),
        2,
    )
    assert (idle.on, idle.plus, idle.minus) == ("idle=true", (both, no_memory), (no_idle, neither))
    assert (interaction.kind, interaction.on, interaction.share) == ("interaction", "memory x idle", 1)
    assert (interaction.plus, interaction.minus) == ((both, neither), (no_idle, no_memory))


def test_a_published_table_has_its_rows_as_arms_and_the_full_method_as_reference(toy: str) -> None:
    found = published(toy, "2")
    assert found.arms == tuple(f"{toy}[preset=table2-{row}]" for row in ("a", "b", "full"))
    assert found.reference == f"{toy}[preset=table2-full]"
    assert [(one.on, one.off, one.minus) for one in found.contrasts] == [
        ("Table 2: all of it", "Table 2, row a: nothing", (f"{toy}[preset=table2-a]",)),
        ("Table 2: all of it", "Table 2, row b: half", (f"{toy}[preset=table2-b]",)),
    ]
    assert published(toy, "3").arms == (f"{toy}[preset=table3-a]", toy)  # the full method is no row of it


def test_table_5_of_happy_has_seven_rows_of_which_the_last_is_happy() -> None:
    found = published("happy", "happy-5")
    assert found.arms == tuple(f"happy[preset=table5-{row}]" for row in "abcdefg")
    assert found.reference == "happy[preset=table5-g]"
    assert Happy(**Happy.presets["table5-g"].values).entropy == "groups"


def test_arms_of_ones_own_are_compared_with_the_reference_and_not_twice(toy: str) -> None:
    found = ablation(toy, components="idle", extra=[f"{toy}[plain=[2,3]]", f"{toy}[idle=false]"])
    assert found.arms == (toy, f"{toy}[idle=false]", f"{toy}[plain=2]", f"{toy}[plain=3]")
    assert [(one.kind, one.on, one.off) for one in found.contrasts] == [
        ("component", "idle=true", "false"),
        ("arm", toy, f"{toy}[plain=2]"),
        ("arm", toy, f"{toy}[plain=3]"),
    ]
    upwards = ablation(toy, design="add-one-in", components="idle", extra=[f"{toy}[plain=2]"])
    assert (upwards.contrasts[-1].plus, upwards.contrasts[-1].minus) == (
        (f"{toy}[plain=2]",),
        (f"{toy}[idle=false]",),
    )


@pytest.mark.parametrize(
    "strategy",
    ["happy", "cr-kd", "elr", "elr-plus", "nested-co-teaching", "inp-former", "grok-adamw", "replay"],
)
def test_every_declared_alternative_is_a_value_that_the_strategy_takes(strategy: str) -> None:
    found = ablation(strategy)
    assert len(set(found.arms)) == len(found.arms) == len(found.contrasts) + 1
    assert ablation(strategy, design="add-one-in").contrasts


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"components": "memroy"},
            "unknown component 'memroy'; did you mean 'memory'? (all: memory, shift, idle)",
        ),
        ({"components": "plain"}, "declares no alternatives: say one, --components plain=VALUE"),
        ({"components": "idle,idle=false"}, "component 'idle' is said twice"),
        ({"components": "shift=0"}, "shift is 0 in"),
        ({"components": "shift=-1"}, "shift should be greater than or equal to 0, got -1"),
        (
            {"components": "memory=[half,none]", "design": "factorial"},
            "factorial switches memory to one alternative, got 2: name one, ",
        ),
        ({"design": "one-by-one"}, "unknown design 'one-by-one'"),
        (
            {"design": "factorial", "most_arms": 4, "cells_per_arm": 6},
            "a factorial of 3 components has 8 arms (48 cells), more than 4: choose at most 2 of them, "
            "such as --components memory,shift, or "
            "take --design leave-one-out (5 arms)",
        ),
        ({"extra": ["TOY[plain=1]"]}, "is the reference itself"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(toy: str, options: dict[str, Any], told: str) -> None:
    options = {**options, "extra": [text.replace("TOY", toy) for text in options.get("extra", [])]}
    with pytest.raises(UserError) as error:
        ablation(toy, **options)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_factorial_of_millions_is_counted_and_not_made() -> None:
    with pytest.raises(
        UserError, match=r"a factorial of \d\d components has \d,\d{3},\d{3} arms .*choose at most 6 of them"
    ):
        ablation("inp-former", design="factorial")


def test_a_strategy_that_declares_nothing_says_how_to_name_components() -> None:
    with pytest.raises(UserError, match="fine-tune declares nothing to switch"):
        ablation("fine-tune")
    assert ablation("fine-tune", components="lr=0.5").arms == ("fine-tune", "fine-tune[lr=0.5]")


def test_an_unknown_table_names_the_nearest_and_a_preset_is_in_the_way() -> None:
    with pytest.raises(UserError, match="unknown table 'happy-6'; did you mean 'happy-5'"):
        published("happy", "happy-6")
    with pytest.raises(UserError, match="elr declares none"):
        published("elr", "elr-1")
    with pytest.raises(UserError, match="names one already"):
        published("happy[preset=glyphs]", "happy-5")


def test_arms_that_a_strategy_refuses_are_all_named(toy: str) -> None:
    wanted = ablation(toy, design="factorial", components="memory=none,shift,idle")
    with pytest.raises(UserError) as error:
        check_feasible(wanted, protocols([BLOBS]))
    said = str(error.value)
    assert said.count("memory=none leaves nothing to shift") == 2
    assert f"{toy}[memory=none,shift=2.0]" in said
    assert f"{toy}[memory=none,shift=2.0,idle=false]" in said
    check_feasible(ablation(toy), protocols([BLOBS]))


def test_the_command_knows_the_designs_that_there_are() -> None:
    assert get_args(verb.Design) == DESIGNS


# --- the command --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What a call printed and how it ended."""

    code: int
    out: str
    err: str


Ablate = Callable[..., Said]


@pytest.fixture
def ablate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ablate:
    """Return a function that calls the verb in an empty folder."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(verb.ablate)

    def call(*args: str) -> Said:
        code = app(list(args), standalone_mode=False)
        captured = capsys.readouterr()
        return Said(int(code or 0), captured.out, captured.err)

    return call


def test_an_ablation_from_end_to_end(ablate: Ablate, toy: str, warm_ray: None, tmp_path: Path) -> None:
    args = (toy, "-s", BLOBS, "--components", "memory=none,idle", "--workers", "1")
    first = ablate(*args, "--seeds", "3", "--out", "told")
    assert first.code == 0
    assert "leave-one-out of" in first.out
    assert "3 pairs cannot reach two-sided 5 % by sign flips" in first.out
    lines = {
        line.split()[0]: line for line in first.out.splitlines() if line.startswith(("memory=", "idle="))
    }
    assert "changes nothing: equal under all 3 seeds" in first.out
    assert lines.keys() == {"memory=all", "idle=true"}
    assert "place" not in first.out  # the ranking of a run is not asked for
    assert {path.name for path in (tmp_path / "told").iterdir()} == {
        "effects.md",
        "effects.csv",
        "effects.tex",
        "effects.html",
        "forest.png",
    }

    assert "9 cached; recorded in" in ablate(*args, "--seeds", "3").err
    found = json.loads(ablate(*args, "--seeds", "3", "--json").out)
    (part,) = found["parts"]
    memory, idle = part["effects"]["average_accuracy"]
    accuracies = _accuracies(tmp_path)
    means = {name: sum(series) / 3 for name, series in accuracies.items()}
    assert memory["difference"] == pytest.approx(means[toy] - means[f"{toy}[memory=none]"])
    assert memory["pairs"] == 3
    assert memory["difference"] > 0.5  # without memory only the classes of the last stage are known
    assert (idle["difference"], idle["verdict"]) == (0.0, "changes nothing")

    besides = ablate(*args, "--seeds", "3", "--arm", f"{toy}[shift=3.0]").out.partition("in other metrics")[0]
    costs = {
        line.split()[0]: line.count("not comparable")
        for line in besides.splitlines()
        if line.startswith(("memory=", "idle=", toy))
    }
    assert sorted(costs.values()) == [0, 0, 2], "the new arm stands beside a reference of the first run"

    enlarged = ablate(*args, "--seeds", "4", "--arm", f"{toy}[shift=2.0]")
    assert (
        "9 cached, 7 done; recorded in" in enlarged.err
    )  # one more seed for three arms, four for the new one
    assert enlarged.out.count("4/4") == 3

    renamed = (
        f"{toy}[memory=none]",
        "-s",
        BLOBS,
        "--components",
        "memory=all",
        "--seeds",
        "4",
        "--name",
        "other",
    )
    assert "8 cached; recorded in" in ablate(*renamed).err  # the same cells, recorded under other names
    (effect,) = json.loads(ablate(*renamed, "--json").out)["parts"][0]["effects"]["average_accuracy"]
    assert effect["pairs"] == 4
    assert effect["difference"] < -0.5


def _accuracies(folder: Path) -> dict[str, list[float]]:
    records = Store(str(folder / "owb-store")).records("ablate-toy")
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(record.strategy, []).append(record.metrics["average_accuracy"])
    return found


def test_several_scenarios_are_told_apart_and_averaged_and_failures_are_listed(
    ablate: Ablate, toy: str, warm_ray: None
) -> None:
    larger = f"{BLOBS}[items=30]"
    raises = world("Raises")
    found = ablate(
        toy,
        "-s",
        BLOBS,
        "-s",
        larger,
        "-s",
        f"{BLOBS}[items=20]",
        "--components",
        "memory=none",
        "--arm",
        raises,
        "-n",
        "2",
        "--workers",
        "1",
    )
    assert found.code == 1
    assert "mean over 2 scenarios" in found.out  # the third is the first under another name
    assert "cannot decide: no seed with every figure" in found.out
    failures = found.out.partition("cells without a figure")[2]
    assert failures.count(raises) == 4


def test_a_plan_runs_nothing_and_says_what_is_learned_once(ablate: Ablate, toy: str, tmp_path: Path) -> None:
    found = ablate("happy", "-s", world("HiddenBlobs"), "--table", "happy-5", "--seeds", "2", "--plan")
    assert "14 of 14 cells would run" in found.out
    assert (
        "42 stages, of which 12 are learned once for several cells: 30 to learn" in found.out
    )  # 14 cells x 3; 2 of 14 learn stage 0
    alone = ablate(toy, "-s", BLOBS, "--seeds", "1", "--plan", "--json")
    assert [line["strategy"] for line in json.loads(alone.out)] == list(ablation(toy).arms)
    assert "learned once" not in alone.out + alone.err
    assert not (tmp_path / "owb-store").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--metric", "accurracy"), "unknown metric 'accurracy'; did you mean 'average_accuracy'"),
        (("--table", "2", "--design", "factorial"), "--table names its own arms"),
        (("--design", "factorial"), "memory=none leaves nothing to shift|a factorial"),
    ],
)
def test_nothing_runs_after_a_mistake(
    ablate: Ablate, toy: str, tmp_path: Path, args: tuple[str, ...], told: str
) -> None:
    components = (
        ("--components", "memory=none,shift") if "factorial" in args and "--table" not in args else ()
    )
    with pytest.raises(UserError, match=told):
        ablate(toy, "-s", BLOBS, *components, *args)
    assert not (tmp_path / "owb-store").exists()
