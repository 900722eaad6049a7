"""What data sets on disk are for: the published presets deal from them, and `owb data` says what is there and
what is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import disk_formats as formats
import numpy as np
import pytest

from harness.cell.sealing import seal
from harness.cli import main
from harness.contracts import HIDDEN, Scenario
from harness.errors import UserError
from harness.plugins import registered
from harness.selection import configured
from scenarios.datasets.by_name import ANOMALY_SOURCES, HUMAN_SOURCES, ON_DISK, dataset_named
from scenarios.shared.human_labels import human_labels


class Said(NamedTuple):
    code: int
    out: str
    err: str


Owb = Callable[..., Said]


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def owb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Owb:
    """Return a function that calls the command line."""

    def call(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["owb", *words])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


def _scenario(text: str) -> Scenario:
    scenario: Scenario = configured("scenario", text)
    return scenario


def test_what_a_run_refuses_is_said_by_the_check_in_the_same_sentence(owb: Owb, tmp_path: Path) -> None:
    """A list of CUB that calls two classes alike; one of CIFAR, whose items lie in arrays."""
    names = formats.cub(tmp_path / "data") / "classes.txt"
    names.write_text(names.read_text().replace("004.Bird_3", "001.Bird_0"))
    formats.cifar10(tmp_path / "data")
    meta = {"label_names": [*"abcdefgha", "j"]}
    (tmp_path / "data" / "cifar-10-batches-py" / "batches.meta").write_bytes(formats.python2_pickle(meta))
    for text, name, again in (("cub[resize=8,crop=0]", "'Bird_0'", "3"), ("cifar10", "'a'", "8")):
        with pytest.raises(UserError) as refused:
            _scenario(f"class-incremental[dataset={text},stages=2,test_fraction=0]").deal(0)
        said = str(refused.value).removeprefix(f"{text}: ")
        assert said.startswith(f"classes 0 and {again} are both called {name} in class_names")
        assert f"{text.partition('[')[0]}: {said}" in configured("dataset", text).inspected()
    assert "error: cub: classes 0 and 3 are both called" in owb("data", "check", "cub").err


def test_the_names_of_published_presets_are_registered() -> None:
    assert {*ON_DISK} - {*registered("dataset")} <= {"herbarium"}
    with pytest.raises(
        UserError, match="'herbarium' has to be read from your disk, which no installed data set does"
    ):
        dataset_named("herbarium")


def test_happy_on_cifar_100_deals_its_published_stages_from_the_disk(tmp_path: Path) -> None:
    """A twenty-fifth of CIFAR-100 with a twenty-fifth of the amounts: the published sizes (20000, 5250, ...,
    6250) over 25.
    """
    formats.cifar100(tmp_path / "data", train=20, test=4)
    scenario = _scenario("cgcd[preset=happy-cifar100,n_new=16,n_init=1,n_seen=1]")
    deal = scenario.deal(0)
    assert [len(stage.rows) for stage in deal.stages] == [
        20_000 // 25,
        *(size // 25 for size in (5250, 5500, 5750, 6000, 6250)),
    ]
    assert [len(stage.query) for stage in deal.stages] == [200, 240, 280, 320, 360, 400]
    first, *later = deal.stages
    assert set(first.observed_labels) == set(range(50))
    assert all((stage.observed_labels == HIDDEN).all() for stage in later)
    assert deal.class_numbers is not None
    np.testing.assert_array_equal(deal.class_numbers[:50], np.arange(50))
    shown = formats.pixels(int(deal.class_numbers[deal.labels[first.rows[0]]]), int(first.rows[0]) // 100)
    np.testing.assert_array_equal(deal.inputs[first.rows[:1]][0], shown)
    assert len(scenario.data_digests()["cifar100"]) == 64


def test_the_amounts_as_published_are_too_many_for_a_tiny_set_and_it_says_so(tmp_path: Path) -> None:
    formats.cifar100(tmp_path / "data")
    with pytest.raises(UserError, match="stage 1 needs 25 items of class 0, which has 1 to draw from"):
        _scenario("cgcd[preset=happy-cifar100]").deal(0)


def test_novel_classes_of_cifar_100_are_the_last_twenty(tmp_path: Path) -> None:
    formats.cifar100(tmp_path / "data", train=3, test=1)
    deal = _scenario("ncd[preset=cifar100-20]").deal(0)
    assert [len(stage.rows) for stage in deal.stages] == [80 * 3, 100 * 3]
    assert deal.class_numbers is not None
    np.testing.assert_array_equal(deal.class_numbers, np.arange(100))


@pytest.mark.parametrize(
    ("preset", "writer", "known", "novel"),
    [
        ("cifar10-5", formats.cifar10, 5, 5),
        ("svhn-5", formats.svhn, 5, 5),
        (
            "imagenet-30-a",
            lambda above: formats.imagenet(above / "imagenet", labels=range(1000), train=1),
            882,
            30,
        ),
        ("cub", lambda above: formats.cub(above, classes=200, train=1), 100, 100),
        ("cars", lambda above: formats.cars(above, classes=196, each=1), 98, 98),
        (
            "aircraft",
            lambda above: formats.aircraft(above, variants=[f"variant {n}" for n in range(100)], each=1),
            50,
            50,
        ),
    ],
)
def test_presets_of_novel_classes_deal_from_every_layout(
    preset: str, writer: Callable[[Path], Any], known: int, novel: int, tmp_path: Path
) -> None:
    writer(tmp_path / "data")
    data = preset.partition("-")[0]
    small = data if data in ("cifar10", "svhn") else f"{data}[resize=4,crop=0]"
    deal = _scenario(f"ncd[preset={preset},dataset={small}]").deal(0)
    assert deal.stages[0].named_classes == known
    assert deal.class_numbers is not None
    assert len(deal.class_numbers) == known + novel


def test_a_stage_of_pictures_holds_nothing_of_the_others(tmp_path: Path) -> None:
    formats.tinyimagenet(tmp_path / "data", train=2, test=1)
    deal = _scenario("cgcd[preset=happy-tinyimagenet,n_new=1,n_init=1,n_seen=1]").deal(0)
    sealed = seal(deal, 0)
    stage = sealed.episodes[0].stage
    assert len(stage.inputs) == len(stage.ids) == 100
    assert len(stage.inputs.rows) == 100  # type: ignore[attr-defined]
    assert stage.inputs.shape == (100, 3, 64, 64)


def test_human_labels_of_cifar_n_are_in_the_order_of_the_training_items(tmp_path: Path) -> None:
    formats.cifar10(tmp_path / "data", each=2)
    data = configured("dataset", "cifar10").load()
    train = np.flatnonzero(~data.published_test)
    clean = np.tile(np.arange(10), 10)
    np.savez(tmp_path / "human.npz", clean_label=clean, worse_label=clean[::-1])
    np.testing.assert_array_equal(
        human_labels(str(tmp_path / "human.npz"), "worse_label", train, data.labels[train]), clean[::-1]
    )


# --- the command line ---------------------------------------------------------------------------------------


def test_the_list_says_what_is_there_where_and_how_to_get_the_rest(owb: Owb, tmp_path: Path) -> None:
    folder = formats.cifar100(tmp_path / "data")
    (tmp_path / "data" / "visa").mkdir()
    lines = {line.split()[0]: line for line in owb("data", "list").out.splitlines()}
    assert lines["cifar100"].split()[-2:] == ["yes", str(folder)]
    assert "no     get cifar-10-python.tar.gz from" in lines["cifar10"]
    assert "yes" in lines["digits"]
    assert lines["anomaly[source=visa]"].endswith(str(tmp_path / "data" / "visa"))
    content = json.loads(owb("data", "list", "--json").out)
    assert content["cifar100"]["found"] is True
    assert content["cifar100"]["where"] == str(folder)
    assert content["cub"]["found"] is False
    assert {*content} == {
        *registered("dataset"),
        *(f"anomaly[source={name}]" for name in ANOMALY_SOURCES),
        *(f"human[file={source.file}]" for source in HUMAN_SOURCES.values()),
    }


def test_a_card_is_shown_without_the_data(owb: Owb) -> None:
    said = owb("data", "show", "clothing1m")
    assert said.code == 0
    assert "digest    that of the files on disk" in said.out
    assert "found     no" in said.out
    assert json.loads(owb("data", "show", "cifar100", "--json").out)["classes"] == 100


def test_a_check_says_all_that_is_wrong_at_once(owb: Owb, tmp_path: Path) -> None:
    folder = formats.cifar100(tmp_path / "data")
    (folder / "meta").unlink()
    (folder / "train").write_bytes(formats.web_page())
    said = owb("data", "check", "cifar100")
    assert said.code == 1
    assert said.err.count("error: ") == 4
    assert f"{folder} lacks meta" in said.err
    assert f"{folder / 'train'} is a web page" in said.err
    assert f"{folder / 'train'} has MD5" in said.err
    assert f"{folder / 'test'} has MD5" in said.err
    assert "cifar100: 4 problems" in said.out


def test_a_check_decodes_every_picture_and_counts_them(owb: Owb, tmp_path: Path) -> None:
    folder = formats.cub(tmp_path / "data")
    images = sorted((folder / "images").rglob("*.jpg"))
    images[0].write_bytes(formats.jpeg()[:200])
    images[5].write_bytes(formats.web_page())
    said = owb("data", "check", "cub")
    assert said.code == 1
    assert f"cannot read the image {images[0]}" in said.err
    assert f"{images[5]} is a web page" in said.err
    assert "cub has 12 items of 4 classes, 11788 of 200 were published" in said.err
    assert not [*(tmp_path / "cache").glob("pack-*")]


def test_a_check_without_a_complaint_says_what_there_is(owb: Owb, tmp_path: Path) -> None:
    formats.imagenet(tmp_path / "data" / "imagenet")
    said = owb("data", "check", "imagenet[subset=present,resize=8,crop=0]")
    assert (said.code, said.err) == (0, "")
    assert "15 items of 5 classes, 3 to 3 per class, digest " in said.out
    assert not [*(tmp_path / "cache").glob("pack-*")]


def test_a_check_counts_the_classes_of_a_draw(owb: Owb, tmp_path: Path) -> None:
    formats.clothing1m(tmp_path / "data", more=[1] * 14)
    said = owb("data", "check", "clothing1m[per_class=smallest,validation=true,resize=8,crop=0]")
    assert (said.code, said.err) == (0, "")
    assert "56 items of 14 classes, 4 to 4 per class, digest " in said.out


def test_a_check_of_what_is_not_there_says_where_it_was_looked_for(owb: Owb, tmp_path: Path) -> None:
    said = owb("data", "check", "cifar10")
    assert said.code == 1
    assert f"looked for {tmp_path / 'data' / 'cifar-10-batches-py'}" in said.err
