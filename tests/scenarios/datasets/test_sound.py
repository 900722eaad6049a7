"""What a data set loads is held against the contract before anything is dealt: one sentence with the value,
its row, and what to do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wrong_data
from hypothesis import given
from hypothesis import strategies as st
from runs import Owb
from wrong_data import CHANGES, Loader, right

from harness.contracts import Deal
from harness.errors import UserError
from harness.plugins import registered
from harness.selection import configured
from scenarios.datasets.by_name import data_of
from scenarios.datasets.sound import SAMPLED, flaw

HERE = Path(wrong_data.__file__)
FAMILIES = {
    "class-incremental": "class-incremental[dataset={},stages=2]",
    "cgcd": "cgcd[dataset={},initial=2,new=2x2,n_new=1,n_init=1,n_seen=1,labelled=0.5]",
    "ncd": "ncd[dataset={}]",
    "noisy-labels": "noisy-labels[over=class-incremental[dataset={},stages=1]]",
    "held-out": "held-out[of=class-incremental[dataset={},stages=2]]",
    "smoke": "smoke[over=class-incremental[dataset={},stages=2]]",
}
WIDTHS = st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])


def _mine(how: str, name: str = "Mine") -> str:
    return f"{HERE}:{name}[how={how}]" if how else f"{HERE}:{name}"


def _deal(text: str) -> Deal:
    deal: Deal = configured("scenario", text).deal(0)
    return deal


def _refusal(text: str) -> str:
    with pytest.raises(UserError) as refused:
        _deal(text)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("how", CHANGES)
def test_what_is_wrong_is_said_with_value_row_and_advice(how: str) -> None:
    with pytest.raises(UserError) as refused:
        data_of(_mine(how))
    said = str(refused.value)
    assert said.startswith(f"{_mine(how)}: ")
    assert "\n" not in said
    assert [word for word in CHANGES[how][1] if word not in said] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_refuses_before_it_deals(family: str) -> None:
    for how in ("minus-one", "no-number", "gap", "pair"):
        with pytest.raises(UserError) as refused:
            data_of(_mine(how))
        assert _refusal(FAMILIES[family].format(_mine(how))) == str(refused.value)
    assert _deal(FAMILIES[family].format(_mine(""))).stages


@pytest.mark.parametrize("command", [["data", "check"], ["run", "fine-tune", "--seeds", "1", "-s"]])
@pytest.mark.parametrize("how", ["text", "bytes-as-floats", "raises"])
def test_the_command_ends_with_the_sentence_and_code_2(
    command: list[str], how: str, call_owb: Owb, tmp_path: Path
) -> None:
    store = [] if command[0] == "data" else ["--store", str(tmp_path / "store")]
    text = _mine(how) if command[0] == "data" else FAMILIES["class-incremental"].format(_mine(how))
    said = call_owb(*command, text, *store)
    with pytest.raises(UserError) as refused:
        data_of(_mine(how))
    assert said.code == 2
    assert str(refused.value) in " ".join(said.err.split())
    assert "Traceback" not in said.out + said.err


def test_what_its_code_raises_is_told_with_its_place() -> None:
    line = next(
        number
        for number, text in enumerate(HERE.read_text().splitlines(), start=1)
        if "raise KeyError" in text
    )
    assert _refusal(FAMILIES["ncd"].format(_mine("raises"))).endswith(
        f"does not load: KeyError: 'no such column' (wrong_data.py, line {line})"
    )


@pytest.mark.parametrize(
    ("name", "said"), [("Cardless", "has no card"), ("Stranger", "is no data set: derive it from")]
)
def test_a_class_that_is_no_data_set_is_named(name: str, said: str) -> None:
    assert said in _refusal(FAMILIES["class-incremental"].format(_mine("", name)))


# --- properties ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-3, 9), min_size=1, max_size=40), st.integers(1, 8))
def test_labels_outside_the_names_are_refused_and_the_first_is_named(labels: list[int], classes: int) -> None:
    data = replace(
        right(),
        inputs=np.zeros((len(labels), 3), dtype=np.float32),
        labels=np.array(labels),
        class_names=tuple(f"n{i}" for i in range(classes)),
    )
    outside = [row for row, label in enumerate(labels) if not 0 <= label < classes]
    if outside:
        assert flaw(data).startswith(f"label {labels[outside[0]]} in row {outside[0]} is no class")
    elif missing := [label for label in range(classes) if label not in labels]:
        assert flaw(data).startswith(
            f"class {missing[0]} ('n{missing[0]}') has no item ({len(missing)} of {classes} "
        )
    else:
        assert flaw(data) == ""


@given(st.permutations([*range(6)] * 3), WIDTHS)
def test_integers_of_any_width_are_accepted_as_they_are(labels: list[int], width: type) -> None:
    data = replace(right(), inputs=np.zeros((18, 3), dtype=np.float32), labels=np.array(labels, dtype=width))
    assert flaw(data) == ""


@given(st.integers(0, 119), st.sampled_from([np.nan, np.inf, -np.inf, 1.01, -1e-3, 255.0]), st.booleans())
def test_a_single_value_out_of_range_is_found_wherever_it_is(
    row: int, value: float, as_features: bool
) -> None:
    images = np.array(right().inputs)
    images[row, 0, 2, 5] = value
    said = flaw(replace(right(), inputs=images.reshape(120, -1) if as_features else images))
    assert (said == "") == (as_features and np.isfinite(value)), "features may have any size"
    assert not said or f"in row {row}" in said


def test_labels_come_as_int64_and_as_they_were() -> None:
    data = data_of(_mine(""))
    assert data.labels.dtype == np.int64
    np.testing.assert_array_equal(data.labels, right().labels)
    assert data.class_names == tuple("abcdef")


def test_of_a_loader_a_few_items_are_fetched_the_first_and_the_last_among_them() -> None:
    images = np.zeros((10_000, 1, 4, 4), dtype=np.float32)
    loader = Loader(images)
    data = replace(right(), inputs=loader, labels=np.arange(10_000) % 6)
    assert flaw(data) == ""
    assert (len(loader.fetched), loader.fetched[0], loader.fetched[-1]) == (SAMPLED, 0, 9999)
    assert np.ptp(np.diff(loader.fetched)) <= 1, "evenly spread"


@pytest.mark.parametrize("name", ["digits", "mnist5k", "chars62", "chars47", "glyphs", "clinc150"])
def test_what_is_shipped_is_sound(name: str) -> None:
    assert name in registered("dataset")
    assert flaw(data_of(name)) == ""


# --- too few items for a split ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_class_of_one_item_is_named_and_not_sent_to_the_test(family: str) -> None:
    said = _refusal(FAMILIES[family].format(_mine("single")).replace("ncd[", "ncd[class_order=natural,"))
    assert said.startswith(f"{_mine('single')}: class 0 has no training item (1 of ")
    assert "'a' has 1 item in all, and each class needs one at least for each of training and test" in said


@pytest.mark.parametrize("family", ["class-incremental", "cgcd", "ncd"])
def test_a_single_group_leaves_nothing_to_learn_from(family: str) -> None:
    said = _refusal(FAMILIES[family].format(_mine("one-group")))
    assert "has no training item" in said
    assert "of different groups" in said


def test_a_class_of_two_items_has_none_to_hold_out() -> None:
    """Of the two one is in the test, so one is learned from; the other five classes have sixteen."""
    two = FAMILIES["class-incremental"].format(_mine("two"))
    assert _deal(two).stages
    assert _refusal(f"held-out[of={two}]").startswith(
        "class 0 comes with 1 labelled training item, no two of them in one stage, and needs two"
    )
    noisy = f"noisy-labels[over={two.replace('stages=2', 'stages=1')},noise=none,validation="
    assert _deal(f"{noisy}none]").stages
    assert _refusal(f"{noisy}clean]").startswith(
        "class 0 has 1 labelled training item, and needs two where one is held out for validation"
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "n_new=1%,class_order=natural",
            "stage 1, in which class 2 arrives, takes none of its 16 training items; raise n_new",
        ),
        (
            "n_new=0,class_order=natural",
            "stage 1, in which class 2 arrives, takes none of its 16 training items; raise n_new",
        ),
        (
            "shares=80/10/10;1/50;50,class_order=natural",
            "stage 1, in which class 2 arrives, takes none of its 16 training items; raise shares",
        ),
        ("n_new=40,class_order=natural", "stage 1 needs 40 items of class 2, which has 16 to draw from"),
    ],
)
def test_a_class_that_its_own_stage_would_not_show_is_named(said: str, message: str) -> None:
    text = f"cgcd[dataset={_mine('')},initial=2,new=2x2,n_init=1,n_seen=1,{said}]"
    assert _refusal(text).startswith(f"{_mine('')}: {message}")


def test_numbers_in_messages_are_those_of_the_data_set() -> None:
    """Classes arrive in another order, 5 first: it is called 5 all the same."""
    said = _refusal(f"cgcd[dataset={_mine('')},initial_list=5+4,class_order=natural,new=2x2,n_init=9]")
    assert "needs 9 items of class 5, which has 4 to draw from" in said
    said = _refusal(
        f"ncd[dataset={_mine('')},known_list=5+4,novel_list=0-1,class_order=natural,cap=1,validation_fraction=0.5]"
    )
    assert "the known class 5 has 1 labelled items, 1 of them held out" in said
