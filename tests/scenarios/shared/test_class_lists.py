"""Classes said by number or by the name of a published list: continual category discovery starts with these,
in their order.
"""

from __future__ import annotations

from pathlib import Path

import disk_formats as formats
import numpy as np
import pytest
import yaml
from checkout import ROOT

from harness.checks.scenarios import check_scenario
from harness.contracts import HIDDEN, Deal
from harness.errors import UserError
from harness.protocol.cells import protocols
from harness.selection import configured
from leaderboards.papers.preset import preset
from scenarios.cgcd.scenario import CGCD
from scenarios.datasets.digits import Digits
from scenarios.model_selection.scenario import HeldOut
from scenarios.ncd.scenario import NCD
from scenarios.shared.class_lists import all_exist, class_list
from scenarios.shared.smoke import Smoke

LISTED = "cgcd[initial_list=3+1+7,class_order=novel]"
SMALL = "n_new=1,n_init=1,n_seen=1"


def _scenario(text: str) -> CGCD:
    scenario: CGCD = configured("scenario", text)
    return scenario


def _arrival(deal: Deal) -> list[int]:
    """Return the data set's numbers of the classes of a deal, as they arrive."""
    assert deal.class_numbers is not None
    return [int(number) for number in deal.class_numbers]


# --- who arrives when ---------------------------------------------------------------------------------------


def test_listed_classes_come_first_in_their_order_and_the_others_ascending() -> None:
    scenario = _scenario("cgcd[initial_list=3+1+7,class_order=natural,new=3x2]")
    deal = scenario.deal(0)
    assert scenario.initial == 3
    assert _arrival(deal)[:9] == [3, 1, 7, 0, 2, 4, 5, 6, 8]
    assert [(stage.named_classes, stage.new_classes) for stage in deal.stages] == [
        (3, 3),
        (3, 2),
        (3, 2),
        (3, 2),
    ]
    written = Digits().load().labels
    for index, revealed in enumerate(
        ([3, 1, 7], [3, 1, 7, 0, 2], [3, 1, 7, 0, 2, 4, 5], [3, 1, 7, 0, 2, 4, 5, 6, 8])
    ):
        stage = deal.stages[index]
        assert {*written[stage.rows]} == {*written[stage.query]} == {*revealed}
    first = deal.stages[0]
    np.testing.assert_array_equal(np.array([3, 1, 7])[first.observed_labels], written[first.rows])
    assert all((stage.observed_labels == HIDDEN).all() for stage in deal.stages[1:])


def test_the_seed_draws_the_order_of_the_others_alone() -> None:
    deals = [_arrival(_scenario(LISTED).deal(seed)) for seed in range(4)]
    assert all(each[:3] == [3, 1, 7] for each in deals)
    assert all(sorted(each) == [*range(10)] for each in deals)
    assert len({tuple(each[3:]) for each in deals}) > 1


def test_a_list_of_the_first_classes_deals_what_their_number_does() -> None:
    for order in ("novel", "natural"):
        by_count, by_list = (
            _scenario(f"cgcd[preset=digits,class_order={order}{said}]").deal(3)
            for said in ("", ",initial_list=0-3")
        )
        assert _arrival(by_count) == _arrival(by_list)
        for one, two in zip(by_count.stages, by_list.stages, strict=True):
            np.testing.assert_array_equal(one.rows, two.rows)
            np.testing.assert_array_equal(one.query, two.query)


def test_the_number_of_initial_classes_follows_from_the_list_and_an_empty_list_says_none() -> None:
    assert _scenario(LISTED).initial == CGCD(initial_list="3+1+7", class_order="novel").initial == 3
    assert _scenario("cgcd[preset=happy-cub,initial_list=,initial=50]").initial_list == ""
    assert NCD(known_list=None).known_list == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "initial_list=3+1+7,initial=4,class_order=novel",
            "initial=4, but initial_list names 3 classes: set initial=3",
        ),
        ("preset=happy-cub,initial=50", "initial=50, but initial_list names 100 classes: set initial=100"),
        (
            "initial_list=3+1+7",
            "class_order=shuffled draws the initial classes too, which initial_list names: set class_order=novel",
        ),
        (
            "initial_list=3+1+7,class_order=novel,classes=8",
            "but initial_list names some of them: set classes=0",
        ),
        ("initial_list=3+1+12,class_order=novel", "class 12 does not exist, digits has classes 0 to 9"),
        ("initial_list=cars-known,class_order=novel", "does not exist, digits has classes 0 to 9"),
        ("initial_list=3+1+3,class_order=novel", "initial_list says a class twice: 3+1+3"),
        (
            "initial_list=birds,class_order=novel",
            "initial_list should be class numbers such as 0-4 or 0+3+7, or one of imagenet-882",
        ),
        ("initial_list=7,class_order=novel", "initial should be greater than or equal to 2, got 1"),
        (
            "initial_list=3+1+7,class_order=novel,new=4x2",
            "3 initial classes and new=4x2 need 11 classes, digits has 10",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UserError) as problem:
        _scenario(f"cgcd[{text}]").deal(0)
    assert said in str(problem.value)
    assert "\n" not in str(problem.value)


def test_numbers_are_held_against_the_data_set() -> None:
    all_exist([0, 9], 10, "digits")
    with pytest.raises(UserError, match="class 10 does not exist, digits has classes 0 to 9"):
        all_exist([12, 10, 3], 10, "digits")


# --- beneath other scenarios, and the protocol --------------------------------------------------------------


def test_it_conforms_as_it_is_and_beneath_a_smoke_run() -> None:
    for scenario in (_scenario(LISTED), Smoke(over=LISTED)):
        assert [finding for finding in check_scenario(scenario) if not finding.holds] == []
    assert _arrival(Smoke(over=LISTED).deal(1)) == _arrival(_scenario(LISTED).deal(1))


def test_settings_are_chosen_among_the_listed_classes_alone() -> None:
    scenario = _scenario("cgcd[initial_list=3+1+7+8,class_order=novel]")
    held_out = configured("scenario", scenario.model_selection())
    assert isinstance(held_out, HeldOut)
    assert configured("scenario", held_out.of) == scenario
    written, deal = Digits().load().labels, held_out.deal(1000)
    dealt = np.unique(np.concatenate([rows for stage in deal.stages for rows in (stage.rows, stage.query)]))
    assert {*written[dealt]} == {3, 1, 7, 8}
    assert [stage.named_classes for stage in deal.stages] == [2, 2]


def test_a_protocol_without_a_list_is_the_one_it_was() -> None:
    """No word of lists in what the hash is taken over, so that committed boards keep theirs."""
    plain, said, listed = protocols(
        [
            "cgcd[preset=digits]",
            "cgcd[preset=digits,initial_list=]",
            "cgcd[preset=digits,class_order=novel,initial_list=0-3]",
        ]
    )
    assert "initial_list" not in plain.content["config"]
    assert plain.hash == said.hash != listed.hash
    assert listed.content["config"]["initial_list"] == "0-3"
    assert "open_set" not in listed.content["config"]
    board = yaml.safe_load(
        (ROOT / "leaderboards" / "boards" / "cgcd" / "protocol.yaml").read_text(encoding="utf-8")
    )
    committed = {entry["label"]: entry["hash"] for entry in board["protocols"]}
    assert {protocol.label: protocol.hash for protocol in protocols([*committed])} == committed


# --- Happy on CUB, Stanford Cars and FGVC-Aircraft ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "first", "stages"),
    [
        ("cub", 200, (150, 70, 34), [100, 20, 20, 20, 20, 20]),
        ("cars", 196, (1, 11, 25), [98, 19, 19, 19, 19, 22]),
        ("aircraft", 100, (0, 1, 2), [50, 10, 10, 10, 10, 10]),
    ],
)
def test_happy_starts_with_the_semantic_shift_benchmark(
    name: str,
    classes: int,
    first: tuple[int, ...],
    stages: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    if name == "cub":
        formats.cub(tmp_path / "data", classes=classes)
    elif name == "cars":
        formats.cars(tmp_path / "data", classes=classes)
    else:
        formats.aircraft(tmp_path / "data", variants=[f"variant {n}" for n in range(classes)])
    deal = _scenario(f"cgcd[preset=happy-{name},dataset={name}[resize=4,crop=0],{SMALL}]").deal(0)
    arrival = _arrival(deal)
    assert arrival[: stages[0]] == class_list(f"{name}-known", "initial_list")
    assert tuple(arrival[:3]) == first
    assert sorted(arrival[stages[0] :]) == sorted(class_list(f"{name}-novel", "novel"))
    assert [stage.new_classes for stage in deal.stages] == stages
    assert {int(label) for label in deal.stages[0].observed_labels} == {*range(stages[0])}
    paper = preset(f"paper/happy-{name}")
    assert not any("Semantic Shift" in line for line in paper.differs)
    assert any("Semantic Shift" in line for line in paper.followed)
