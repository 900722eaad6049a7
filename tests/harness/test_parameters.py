"""Parameters and fields that were called otherwise are read under both names, and protocols keep their hashes."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from runs import Owb

from harness import contracts
from harness.contracts import DealtStage
from harness.errors import UserError
from harness.parameters import former_names, param, renamed, validated
from harness.plugins import find
from harness.protocol.cells import contenders, protocols
from harness.selection import former_parameters, resolved, single
from harness.studies.space import read_space
from scenarios.ncd.scenario import NCD

OLD, NEW = "views=affine[rotate=10],epochs=1", "augmentations=affine[rotate=10],epochs=1"


class Learner:
    memory: int = param(200, "stored examples", ge=1, formerly="stored")


@renamed(wide="width")
@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    width: int
    height: int = 1


@pytest.mark.parametrize("name", ["class-incremental", "noisy-labels"])
def test_a_protocol_has_the_same_hash_under_both_names_and_its_label_says_what_was_said(name: str) -> None:
    old, new = protocols([f"{name}[{OLD}]", f"{name}[{NEW}]"])
    assert old.scenario == new.scenario
    assert (old.hash, old.content["config"]["views"]) == (new.hash, "affine[rotate=10]")
    assert (old.label, new.label) == (f"{name}[{OLD}]", f"{name}[{NEW}]")


def test_what_is_written_is_read_again() -> None:
    scenario = NCD(augmentations="noise")
    written = scenario.model_dump(mode="json")
    assert written["views"] == "noise" and "augmentations" not in written
    assert NCD(**written) == scenario


def test_resolved_parameters_have_the_new_name_also_over_a_preset() -> None:
    plugin = find("scenario", "ncd")
    for said in ("views", "augmentations"):
        found = resolved(plugin, single(f"ncd[preset=digits,{said}=noise]"))
        assert found["augmentations"] == "noise" and "views" not in found


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(UserError, match="stored is the former name of memory: set one of them"):
        validated(Learner, {"memory": 3, "stored": 4})


def test_a_former_name_has_the_bounds_of_the_parameter() -> None:
    assert former_names(Learner) == {"stored": "memory"}
    assert validated(Learner, {"stored": 3}) == {"memory": 3}
    with pytest.raises(UserError, match="memory should be greater than or equal to 1"):
        validated(Learner, {"stored": 0})


def test_former_names_are_found_at_any_depth_and_nothing_in_what_cannot_be_read() -> None:
    assert former_parameters("scenario", "smoke[over=noisy-labels[over=ncd[views=same]]]") == {
        "views": "augmentations"
    }
    assert former_parameters("scenario", "ncd[augmentations=same]") == {}
    assert former_parameters("scenario", "ncdd[views=same") == {}
    assert former_parameters("strategy", "uno[view_bank=2,bank_mib=[1,2]]") == {
        "view_bank": "cached_views",
        "bank_mib": "cache_mib",
    }


def test_strategies_that_were_said_under_a_former_name_are_the_same_contender() -> None:
    old, new = contenders(["replay[novelty=knn[k=3]]", "replay[ood_score=knn[k=3]]"])
    assert old.params == new.params and new.params["ood_score"] == "knn[k=3]"
    assert read_space("strategy", "uno[view_bank=[2,3]]").dimensions[0].name == "cached_views"


def test_the_command_line_names_the_new_one_once(call_owb: Owb) -> None:
    said = call_owb("run", "replay", "-s", "class-incremental[views=noise]", "--plan")
    assert said.code == 0
    assert said.err.count("views is now called augmentations") == 1
    assert (
        "now called"
        not in call_owb("run", "replay", "-s", "class-incremental[augmentations=noise]", "--plan").err
    )


def test_a_renamed_field_is_made_and_read_under_its_former_name_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="wide of Box is now called width") as caught:
        box = Box(wide=3)  # type: ignore[call-arg]
        assert box.wide == 3  # type: ignore[attr-defined]
        assert replace(box, wide=4) == Box(width=4)  # type: ignore[call-arg]
    assert len(caught) == 3
    assert {Path(one.filename).name for one in caught} <= {Path(__file__).name, "dataclasses.py"}


def test_nothing_warns_where_the_names_are_the_new_ones() -> None:
    with warnings.catch_warnings(action="error"):
        box = Box(width=3)
        assert replace(box, height=2) == Box(width=3, height=2)
        assert pickle.loads(pickle.dumps(box)) == box


def test_fields_and_classes_of_the_plugin_surface_are_read_under_their_former_names() -> None:
    rows, labels = np.arange(2), np.array([0, 1])
    with pytest.warns(FutureWarning, match="is now called"):
        stage = DealtStage(  # type: ignore[call-arg]
            rows=rows, given=labels, query=rows, named_classes=2, new_classes=2, held=rows, held_given=labels
        )
        assert contracts.Answer is contracts.StoredPrediction  # type: ignore[attr-defined]
        assert stage.held is stage.validation is rows  # type: ignore[attr-defined]
    assert stage.observed_labels is stage.validation_labels is labels
    with pytest.raises(AttributeError, match="no attribute 'Anser'"):
        contracts.Anser  # type: ignore[attr-defined]  # noqa: B018


def test_a_scenario_that_overrides_a_method_under_its_former_name_is_asked_by_the_new_one() -> None:
    with pytest.warns(FutureWarning, match="inadmissible of Barred is now called board_exclusion_reason"):

        class Barred(NCD):
            def inadmissible(self) -> str:
                return "never"

    assert Barred().board_exclusion_reason() == "never"
    assert NCD().board_exclusion_reason() == ""
