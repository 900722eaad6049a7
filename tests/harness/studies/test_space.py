"""Spaces: what they read, refuse, go through and draw. Draws are checked by their properties, bounds and
counts by hand.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from harness import seeds
from harness.errors import UserError
from harness.plugins import find
from harness.selection import resolved, single
from harness.studies.space import Choice, Kind, Range, read_space, sample_together

TOY = '''
"""A strategy with a rule over two parameters."""

from harness.contracts import Prediction, Strategy, param


class Toy(Strategy):
    """Nothing is learnt."""

    whole: int = param(2, ge=1, le=50)
    share: float = param(0.5, gt=0, lt=1)
    maybe: int | None = param(None)
    mode: str = param("a")
    switch: bool = param(False)

    def learn(self, stage): ...

    def predict(self, query):
        return Prediction()
'''


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("toy") / "toy.py"
    path.write_text(TOY, encoding="utf-8")
    return f"{path}:Toy"


# --- reading ------------------------------------------------------------------------------------------------


def test_values_lists_and_ranges_are_told_apart(toy: str) -> None:
    space = read_space("strategy", f"{toy}[mode=b, whole=log:1..50, share=[0.1, 0.9], maybe=0..3]")
    assert space.fixed == {"mode": "b"}
    assert space.dimensions == (
        Range(name="whole", low=1.0, high=50.0, log=True, whole=True),
        Choice(name="share", values=(0.1, 0.9)),
        Range(name="maybe", low=0.0, high=3.0, log=False, whole=True),
    )


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("strategy", "replay"),
        ("strategy", "replay[memory=[50,200],lr=log:0.001..1.0]"),
        ("strategy", "elr[regulariser=kl,weight=[0,1,3.5],update_first=[true,false]]"),
        ("scenario", "class-incremental[dataset=[digits,mnist5k],stages=2..5]"),
        ("scenario", "noisy-labels[preset=digits,noise=[symmetric[rate=0.2],symmetric[rate=0.4]]]"),
    ],
)
def test_a_space_is_said_as_it_is_read(kind: Kind, text: str) -> None:
    space = read_space(kind, text)
    assert str(space) == text
    assert read_space(kind, str(space)) == space


def test_what_a_list_says_twice_counts_once_and_one_value_is_fixed(toy: str) -> None:
    space = read_space("strategy", f"{toy}[share=[0.5],whole=[1,1.0,2],switch=[true,false]]")
    assert space.fixed == {"share": 0.5}
    assert space.dimensions == (
        Choice(name="whole", values=(1, 2)),
        Choice(name="switch", values=(True, False)),
    )


def test_a_choice_need_only_be_possible_with_some_values_of_the_others() -> None:
    """Pairs are consistent under operations that commute alone; that the other combination cannot be is told
    by the grid.
    """
    space = read_space("scenario", "grokking[operation=[sub,add],kind=[any,pair_consistent]]")
    assert space.size == 4
    with pytest.raises(
        UserError,
        match=r"grokking\[operation=sub,kind=pair_consistent\] cannot be: .* needs an operation that commutes",
    ):
        space.grid()
    with pytest.raises(UserError, match="needs an operation that commutes"):
        read_space("scenario", "grokking[operation=sub,kind=[any,pair_consistent]]")


@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        ("whole=0..5", "whole=0..5: whole should be greater than or equal to 1, got 0"),
        ("whole=1..51", "whole should be less than or equal to 50, got 51"),
        ("share=0..0.5", "share should be greater than 0, got 0.0"),
        ("share=[0.1,2]", "share should be less than 1, got 2"),
        ("whole=1.5..3", "takes whole numbers, and 1.5..3 has bounds that are none"),
        ("whole=5..5", "a range goes from low to high, and whole=5..5 does not"),
        ("maybe=log:0..5", "begins above 0, and maybe=log:0..5 does not"),
        ("mode=1..2", "mode of .* is not a number: list its values"),
        ("switch=0..1", "switch of .* is not a number"),
        (
            "whole=[1..3,7]",
            r"cannot read whole=\[1..3,7\]: expected low..high or log:low..high with two numbers, not in a list",
        ),
        ("whole=1..many", "cannot read whole=1..many: expected low..high"),
        ("share=log:0.1", "cannot read share=log:0.1"),
        ("shaer=0.1..0.2", "unknown parameter of .*'shaer'; did you mean 'share'"),
        ("whole=1,whole=[2,3]", "'whole' is said twice"),
        ("whole=[]", "is given no value"),
        ("whole", "expected param=value"),
    ],
)
def test_what_is_no_space_is_refused_in_one_sentence(toy: str, parameter: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        read_space("strategy", f"{toy}[{parameter}]")
    assert "\n" not in str(error.value)


def test_an_unknown_name_and_open_brackets_are_refused() -> None:
    with pytest.raises(UserError, match="unknown strategy 'repaly'; did you mean 'replay'"):
        read_space("strategy", "repaly[lr=[0.1,1]]")
    with pytest.raises(UserError, match="brackets do not match"):
        read_space("strategy", "replay[lr=[0.1,1]")


# --- going through ------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_in_the_order_said(toy: str) -> None:
    space = read_space("strategy", f"{toy}[mode=b,whole=[3,1],switch=[false,true]]")
    said = [
        f"{toy}[mode=b,whole={whole},switch={switch}]" for whole in (3, 1) for switch in ("false", "true")
    ]
    assert [str(setting) for setting in space.grid()] == said
    assert space.size == 4
    assert str(space.default) == f"{toy}[mode=b]"


def test_a_grid_through_a_range_says_what_to_do(toy: str) -> None:
    with pytest.raises(
        UserError,
        match=r"whole=1..50 is a range.*list values, whole=\[1,50\], or draw settings by --random N",
    ):
        read_space("strategy", f"{toy}[whole=1..50]").grid()


def test_millions_of_settings_are_counted_and_not_made() -> None:
    values = ",".join(map(str, range(1, 1001)))
    space = read_space("strategy", f"replay[memory=[{values}],lr=[{values}],momentum=[0,0.5]]")
    assert space.size == 2_000_000


def test_a_setting_is_rounded_to_what_a_selection_can_say_and_kept_within_bounds(toy: str) -> None:
    space = read_space("strategy", f"{toy}[whole=1..50,share=0.12345..0.9,mode=[a,b]]")
    assert (
        str(space.selection({"whole": 7.4, "share": 0.333333, "mode": "b"}))
        == f"{toy}[whole=7,share=0.3333,mode=b]"
    )
    assert space.selection({"whole": 99, "share": 0.12341}).params == {"whole": 50, "share": 0.12345}
    with pytest.raises(UserError, match="unknown choice of mode 'c'"):
        space.selection({"mode": "c"})
    with pytest.raises(UserError, match=r"unknown dimension of .* 'shaer'; did you mean 'share'"):
        space.selection({"shaer": 0.5})


# --- drawing ------------------------------------------------------------------------------------------------


def test_draws_stay_in_bounds_and_read_back_as_themselves(toy: str) -> None:
    space = read_space("strategy", f"{toy}[whole=log:1..50,share=log:1e-7..0.5]")
    plugin = find("strategy", toy)
    drawn = space.sample(200, np.random.default_rng(3))
    for setting in drawn:
        assert 1 <= setting.params["whole"] <= 50
        assert 1e-7 <= setting.params["share"] <= 0.5
        assert resolved(plugin, single(str(setting))) == resolved(plugin, setting)
    assert len(set(map(str, drawn))) == 200


def test_a_larger_sample_begins_with_the_smaller_one(toy: str) -> None:
    space = read_space("strategy", f"{toy}[whole=1..50,share=0.1..0.9,mode=[a,b]]")
    few, many = (space.sample(n, seeds.stream("sweep", seed=1)) for n in (5, 30))
    assert many[:5] == few
    assert space.sample(5, seeds.stream("sweep", seed=2)) != few


def test_whole_numbers_are_equally_likely_also_at_the_ends(toy: str) -> None:
    space = read_space("strategy", f"{toy}[whole=1..4]")
    rng = np.random.default_rng(0)
    drawn = [space.draw(rng).params["whole"] for _ in range(4000)]
    counts = [drawn.count(value) for value in (1, 2, 3, 4)]
    assert sum(counts) == 4000
    assert max(abs(count - 1000) for count in counts) < 4 * math.sqrt(4000 * 0.25 * 0.75)


def test_a_range_in_the_logarithm_spends_the_same_on_every_decade(toy: str) -> None:
    space = read_space("strategy", f"{toy}[share=log:1e-4..0.1]")
    rng = np.random.default_rng(0)
    decades = np.floor(np.log10([space.draw(rng).params["share"] for _ in range(3000)]))
    for decade in (-4, -3, -2):
        assert abs(np.count_nonzero(decades == decade) - 1000) < 4 * math.sqrt(3000 * (1 / 3) * (2 / 3))


def test_all_settings_of_a_small_space_can_be_drawn_and_no_more(toy: str) -> None:
    space = read_space("strategy", f"{toy}[whole=1..3,switch=[true,false]]")
    assert {str(setting) for setting in space.sample(6, np.random.default_rng(0))} == {
        f"{toy}[whole={whole},switch={switch}]" for whole in (1, 2, 3) for switch in ("true", "false")
    }
    with pytest.raises(
        UserError, match=r"7 settings that differ were asked for, and .* has 6: ask for at most 6"
    ):
        space.sample(7, np.random.default_rng(0))
    narrow = read_space("strategy", f"{toy}[share=0.1..0.1002]")
    with pytest.raises(UserError, match="has 3: ask for at most 3"):
        narrow.sample(5, np.random.default_rng(0))


def test_spaces_drawn_together_take_from_a_stream_each(toy: str) -> None:
    first, second = (
        read_space("strategy", f"{toy}[share=0.1..0.9]"),
        read_space("scenario", "class-incremental[stages=[2,3,5]]"),
    )
    rngs = [np.random.default_rng(seed) for seed in (1, 2)]
    rows = sample_together([first, second], 6, rngs)
    assert [row[0] for row in rows] == first.sample(6, np.random.default_rng(1))
    assert len({str(row[1]) for row in rows}) <= 3


def test_a_file_may_be_anywhere(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two dots in a path are no range."""
    folder = Path(toy.rpartition(":")[0]).parent
    (folder / "inside").mkdir(exist_ok=True)
    monkeypatch.chdir(folder / "inside")
    assert read_space("strategy", "../toy.py:Toy[whole=1..5]").size == 5
