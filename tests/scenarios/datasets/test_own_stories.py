"""What a newcomer does with data of one's own, from the command line and from Python, with the same figures."""

from __future__ import annotations

import math
from pathlib import Path

import anomaly_formats
import numpy as np
import own_formats as own
import pytest
from runs import Owb

import openworld
from harness.selection import configured


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OWB_DATA", raising=False)
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))


def _both_ways(strategy: str, scenario: str, call_owb: Owb) -> float:
    """Return the leading figure of one cell, all of whose figures the command line prints and Python returns."""
    found = dict(openworld.debug(strategy, scenario, seed=1))
    printed = call_owb("run", strategy, "-s", scenario, "--debug", "--seed", "1", "--json").json
    assert printed == {name: value if math.isfinite(value) else None for name, value in found.items()}
    return found[configured("scenario", scenario).metrics[0].name]


@pytest.mark.parametrize(
    ("scenario", "strategy"),
    [
        ("class-incremental[dataset={},stages=2,epochs=1,test_fraction=0]", "fine-tune"),
        (
            "cgcd[dataset={},initial=2,new=2,n_init=4,n_new=3,n_seen=1,shortage=all,test_fraction=0]",
            "k-means",
        ),
        ("ncd[dataset={},novel=2,epochs=1,first_epochs=1,test_fraction=0]", "ncd-k-means"),
        (
            "noisy-labels[over=class-incremental[dataset={},stages=1,epochs=1,test_fraction=0],noise=pair[rate=0.2],"
            "probe_epochs=0]",
            "cross-entropy",
        ),
        ("held-out[of=class-incremental[dataset={},stages=2,epochs=1,test_fraction=0]]", "fine-tune"),
    ],
)
def test_a_folder_of_pictures_in_every_family(
    scenario: str, strategy: str, tmp_path: Path, call_owb: Owb
) -> None:
    own.pictures(tmp_path / "birds")
    assert _both_ways(strategy, scenario.format(f"folder[root={tmp_path / 'birds'}]"), call_owb) > 0


def test_a_table_whose_groups_stay_on_one_side(tmp_path: Path, call_owb: Owb) -> None:
    rows = [(row % 4 + 0.1 * (row % 5), row % 3, "abcd"[row % 4], f"site {row // 8}") for row in range(96)]
    path = own.table(tmp_path / "sites.csv", rows, ("f1", "f2", "species", "site"))
    dataset = f"table[path={path},features=f*,label=species,group=site]"
    assert (
        0 <= _both_ways("fine-tune", f"class-incremental[dataset={dataset},stages=1,epochs=1]", call_owb) <= 1
    )


def test_features_of_a_notebook_in_category_discovery(tmp_path: Path, call_owb: Owb) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 20)
    np.savez(
        tmp_path / "f.npz",
        inputs=(rng.normal(size=(80, 4)) / 9 + np.eye(4)[labels]).astype("f4"),
        labels=labels,
    )
    scenario = f"cgcd[dataset=arrays[path={tmp_path / 'f.npz'}],initial=2,new=2,n_init=8,n_new=8,n_seen=4,shortage=all]"
    assert _both_ways("k-means", scenario, call_owb) > 0.9  # four clusters a ninth as wide as they are apart


def test_categories_of_ones_own_as_in_mvtec(tmp_path: Path, call_owb: Owb) -> None:
    root = anomaly_formats.mvtec(tmp_path)
    scenario = f"anomaly[source=folder,root={root},categories=bottle+cable,resize=24,crop=24,backbone=gabor]"
    assert 0 <= _both_ways("patchcore", scenario, call_owb) <= 1
