"""Published splits at their true size are dealt from labels alone, and a hundred classes of ImageNet need no
picture of the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import disk_formats as formats
import numpy as np
import pytest

from harness.contracts import Deal
from harness.errors import UserError
from harness.places import cache_folder
from harness.selection import configured
from scenarios.cgcd.scenario import CGCD
from scenarios.shared.class_lists import class_list

SMALL = "resize=4,crop=0"
AMOUNTS = "n_new=1,n_init=1,n_seen=1"


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Write ImageNet in its thousand folders, two pictures to train on and one to test in each."""
    return formats.imagenet(tmp_path / "data" / "imagenet", labels=range(1000), train=2)


def _drawn() -> list[int]:
    """Return the classes that the released code of Happy prints under seed 0."""
    return class_list("imagenet-100-known", "known") + class_list("imagenet-100-novel", "novel")


def _loaded(text: str) -> Any:
    return configured("dataset", text).load()


# --- a hundred classes of ImageNet --------------------------------------------------------------------------


def test_the_hundred_classes_of_seed_0_are_those_of_the_released_code(imagenet: Path) -> None:
    data = _loaded(f"imagenet[subset=drawn100-0,{SMALL}]")
    assert list(data.class_names) == [formats.WNIDS[number] for number in _drawn()]
    np.testing.assert_array_equal(np.bincount(data.labels), 3)
    colours = data.inputs[np.arange(300)].astype(float).mean(axis=(2, 3))
    np.testing.assert_allclose(colours[:, 0], (37 * np.array(_drawn())[data.labels]) % 256, atol=4)
    other = _loaded(f"imagenet[subset=drawn100-1,{SMALL}]")
    assert list(other.class_names) == sorted(other.class_names)
    assert {*other.class_names} != {*data.class_names}


def test_only_its_own_pictures_are_decoded_packed_and_digested(imagenet: Path) -> None:
    stranger = next(number for number in range(1000) if number not in _drawn())
    for path in sorted((imagenet / "train" / formats.WNIDS[stranger]).iterdir()):
        path.write_bytes(b"not a picture")
    dataset = configured("dataset", f"imagenet[subset=drawn100-0,{SMALL}]")
    before = dataset.card.digest
    dataset.load()
    (pack,) = cache_folder().glob("pack-*.npy")
    assert np.load(pack, mmap_mode="r").shape == (300, 3, 4, 4)
    with pytest.raises(UserError, match="cannot read the image"):
        _loaded(f"imagenet[{SMALL}]")
    next((imagenet / "train" / formats.WNIDS[stranger]).iterdir()).write_bytes(formats.jpeg())
    assert dataset.card.digest == before
    next((imagenet / "train" / formats.WNIDS[_drawn()[0]]).iterdir()).write_bytes(formats.jpeg())
    assert dataset.card.digest != before


def test_the_published_preset_deals_these_classes_known_ones_first(imagenet: Path) -> None:
    scenario: Any = configured("scenario", "cgcd[preset=happy-imagenet100]")
    assert (scenario.dataset, scenario.classes) == ("imagenet[subset=drawn100-0,crop=256]", 100)
    deal = configured(
        "scenario", f"cgcd[preset=happy-imagenet100,dataset=imagenet[subset=drawn100-0,{SMALL}],{AMOUNTS}]"
    ).deal(3)
    assert deal.class_numbers is not None
    np.testing.assert_array_equal(deal.class_numbers[:50], np.arange(50))
    np.testing.assert_array_equal(np.sort(deal.class_numbers), np.arange(100))
    assert [len(stage.query) for stage in deal.stages] == [50, 60, 70, 80, 90, 100]


def _shown(deal: Deal) -> list[tuple[bytes, ...]]:
    """Return what every stage shows and asks: pictures with the labels handed over, and the labels of its
    test.
    """
    return [
        (
            np.asarray(deal.inputs[stage.rows]).tobytes(),
            stage.observed_labels.tobytes(),
            deal.labels[stage.rows].tobytes(),
            np.asarray(deal.inputs[stage.query]).tobytes(),
            deal.labels[stage.query].tobytes(),
        )
        for stage in deal.stages
    ]


def test_a_hundred_drawn_among_all_and_the_same_hundred_from_a_file_are_dealt_alike(
    imagenet: Path, tmp_path: Path
) -> None:
    among_all = configured(
        "scenario", f"cgcd[preset=happy-imagenet100,dataset=imagenet[{SMALL}],{AMOUNTS}]"
    ).deal(2)
    taking_part = np.unique(among_all.class_numbers[np.arange(100)])
    (tmp_path / "ids.txt").write_text("".join(f"{formats.WNIDS[number]}\n" for number in taking_part))
    listed = configured(
        "scenario",
        f"cgcd[preset=happy-imagenet100,dataset=imagenet[subset={tmp_path / 'ids.txt'},{SMALL}],{AMOUNTS}]",
    )
    assert _shown(listed.deal(2)) == _shown(among_all)


@pytest.mark.parametrize(
    ("subset", "said"),
    [
        ("drawn100-0", "train has 5 class folders, 1000 were expected; say subset=present"),
        ("drawn100", "lacks drawn100, which belongs to imagenet"),
    ],
)
def test_a_draw_needs_all_classes_and_a_seed(subset: str, said: str, tmp_path: Path) -> None:
    formats.imagenet(tmp_path / "data" / "imagenet")
    with pytest.raises(UserError, match=said):
        _loaded(f"imagenet[subset={subset},{SMALL}]")


@pytest.mark.parametrize("subset", ["drawn0-0", "drawn1001-0"])
def test_a_draw_of_none_or_of_too_many_is_refused(subset: str, imagenet: Path) -> None:
    with pytest.raises(UserError, match=f"subset={subset} cannot draw"):
        _loaded(f"imagenet[subset={subset},{SMALL}]")


# --- from labels alone --------------------------------------------------------------------------------------


def _labels(sizes: Any, test: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    every = np.arange(len(sizes))
    labels = np.concatenate([np.repeat(every, sizes), np.repeat(every, test)])
    return labels, np.arange(len(labels)) >= np.sum(sizes)


def test_imagenet_100_at_its_true_size_takes_what_a_short_class_has() -> None:
    """The published amounts: four fifths of the known classes, 1,000 or all of a new class, 60 of any other."""
    sizes = np.full(100, 1300)
    sizes[[3, 60]] = 732, 800
    scenario: Any = configured("scenario", "cgcd[preset=happy-imagenet100,class_order=natural]")
    dealt = scenario.allocate(*_labels(sizes, 50), 100, 0)
    counts = np.array([np.bincount(dealt.labels[stage.rows], minlength=100) for stage in dealt.stages])
    np.testing.assert_array_equal(counts[0], np.where(np.arange(100) < 50, (0.8 * sizes).astype(int), 0))
    for stage in range(1, 6):
        new = 50 + 10 * (stage - 1) + np.arange(10)
        np.testing.assert_array_equal(counts[stage][new], np.minimum(sizes[new], 1000))
        np.testing.assert_array_equal(counts[stage][: new[0]], 60)
        np.testing.assert_array_equal(counts[stage][new[-1] + 1 :], 0)
    assert [len(stage.query) for stage in dealt.stages] == [2500, 3000, 3500, 4000, 4500, 5000]


@pytest.mark.parametrize("resample", ["independent", "disjoint"])
def test_the_order_of_items_decides_which_are_dealt_but_not_how_many(resample: str) -> None:
    """Classes that are mixed are parted as those that lie together: the n-th item of a class stands for the
    n-th.
    """
    scenario = CGCD(
        initial=3,
        new="2x2",
        n_new="9",
        n_init="2",
        n_seen="3",
        resample=resample,
        labelled=0.5,
        class_order="natural",
    )  # type: ignore[arg-type]
    labels, is_test = _labels(np.full(8, 20), 4)
    mixed = np.random.default_rng(5).permutation(len(labels))
    mixed = mixed[np.lexsort((np.where(is_test[mixed], 1, 0),))]
    place = np.empty_like(mixed)
    for label in range(8):
        own = labels[mixed] == label
        place[own] = np.flatnonzero(labels == label)
    plain = scenario.allocate(labels, is_test, 8, 1)
    other = scenario.allocate(labels[mixed], is_test[mixed], 8, 1)
    for one, two in zip(plain.stages, other.stages, strict=True):
        np.testing.assert_array_equal(np.sort(place[two.rows]), one.rows)
        np.testing.assert_array_equal(np.sort(place[two.query]), one.query)
