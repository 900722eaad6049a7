"""The publisher's own test part: who is asked and who is learned from, under class-incremental learning and
under noisy labels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import disk_formats as formats
import numpy as np
import pytest
import yaml
from checkout import ROOT

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.contracts import Data, Deal, IntArray, Scenario
from harness.errors import UserError
from harness.plugins import find, registered
from harness.protocol.cells import protocols
from harness.selection import configured, resolved, single
from scenarios.datasets.by_name import ANOMALY_SOURCES, HUMAN_SOURCES
from scenarios.datasets.on_disk.place import OnDisk
from scenarios.noisy_labels.presets import PRESETS
from scenarios.noisy_labels.scoring import ACCURACIES, TEST, TRAIN, VALIDATION
from scenarios.shared.splits import WITH_PUBLISHED_TEST

BOARDS = ROOT / "leaderboards" / "boards"


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))


def _scenario(text: str) -> Scenario:
    scenario: Scenario = configured("scenario", text)
    return scenario


def _over(dataset: str, more: str = "") -> str:
    return f"class-incremental[dataset={dataset},test_fraction=0{more}]"


def _written(name: str, tmp_path: Path) -> tuple[str, Data]:
    """Write a tiny set in its true format; return its selection and what it holds."""
    writer, said = formats.WRITERS[name]
    writer(tmp_path / "data")
    text = f"{name}[{said}]" if said else name
    return text, configured("dataset", text).load()


def _parts(deal: Deal) -> tuple[IntArray, IntArray]:
    """Return the rows that are learned from, ascending, and those that are asked after every stage."""
    queries = [stage.query for stage in deal.stages]
    for query in queries[1:]:
        np.testing.assert_array_equal(query, queries[0])
    return np.sort(np.concatenate([stage.rows for stage in deal.stages])), queries[0]


def test_the_list_of_those_that_have_one_is_that_of_the_installed_data_sets() -> None:
    on_disk = {name for name in registered("dataset") if issubclass(find("dataset", name).cls, OnDisk)}
    embedded = {
        name
        for name in ("chars47", "clinc150", "digits", "glyphs", "mnist5k")
        if configured("dataset", name).load().published_test is not None
    }
    assert {*WITH_PUBLISHED_TEST} == (on_disk - {"cifar100-c"}) | embedded


def test_every_data_set_on_disk_is_written_in_its_format_and_has_a_card() -> None:
    on_disk = {name for name in registered("dataset") if issubclass(find("dataset", name).cls, OnDisk)}
    assert {*formats.WRITERS} == on_disk
    for name in on_disk:
        card = find("dataset", name).cls.card
        assert min(card.items, card.classes) > 0
        assert min(len(text) for text in (card.title, card.licence, card.source, card.notes)) > 0
    for source in (*ANOMALY_SOURCES.values(), *HUMAN_SOURCES.values()):
        assert min(len(text) for text in (source.title, source.licence, source.source, source.obtain)) > 0
    assert {source.dataset for source in HUMAN_SOURCES.values()} <= on_disk & {*WITH_PUBLISHED_TEST}


@pytest.mark.parametrize("name", [name for name in formats.WRITERS if name != "cifar100-c"])
def test_the_test_is_the_publishers_and_the_training_all_the_rest(name: str, tmp_path: Path) -> None:
    text, data = _written(name, tmp_path)
    assert data.published_test is not None
    for seed in (0, 5):
        deal = _scenario(_over(text, ",stages=2")).deal(seed)
        train, query = _parts(deal)
        np.testing.assert_array_equal(query, np.flatnonzero(data.published_test))
        np.testing.assert_array_equal(train, np.flatnonzero(~data.published_test))
        assert deal.class_numbers is not None
        np.testing.assert_array_equal(deal.class_numbers[deal.labels], data.labels)
        assert [stage.new_classes for stage in deal.stages] == [
            len(half) for half in np.array_split(np.arange(len(data.class_names)), 2)
        ]


def test_natural_order_keeps_the_numbers_of_the_data_set(tmp_path: Path) -> None:
    text, data = _written("cifar100", tmp_path)
    deal = _scenario(_over(text, ",stages=10,class_order=natural")).deal(3)
    np.testing.assert_array_equal(deal.labels, data.labels)
    assert [sorted(set(stage.observed_labels)) for stage in deal.stages] == [
        list(range(10 * n, 10 * n + 10)) for n in range(10)
    ]
    assert [(len(stage.rows), len(stage.query)) for stage in deal.stages] == [(20, 100)] * 10


def test_the_order_of_rows_in_a_file_decides_nothing(tmp_path: Path) -> None:
    """The same images with the same labels are learned and asked, in whatever order a batch lists them."""

    def seen(folder: str, order: list[int]) -> tuple[set[bytes], set[bytes]]:
        above = tmp_path / folder
        formats.cifar10(above)
        path = above / "cifar-10-batches-py" / "data_batch_2"
        rows = np.stack([formats.pixels(label, 1).ravel() for label in order])
        path.write_bytes(
            formats.python2_pickle(
                {"batch_label": "x", "labels": order, "data": rows, "filenames": [str(n) for n in order]}
            )
        )
        deal = _scenario(_over(f"cifar10[root={above}]", ",stages=5")).deal(1)
        both = [np.concatenate([stage.rows for stage in deal.stages]), deal.stages[0].query]
        train, test = (
            {
                bytes([label]) + image.tobytes()
                for label, image in zip(deal.labels[own], deal.inputs[own], strict=True)
            }
            for own in both
        )
        return train, test

    assert seen("one", list(range(10))) == seen("other", [3, 9, 0, 5, 2, 8, 1, 7, 4, 6])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "class-incremental[dataset=digits,test_fraction=0]",
            "digits has no published test split; set test_fraction above 0, or take a data set",
        ),
        (
            "cgcd[dataset=digits,test_fraction=0]",
            "that has one: aircraft, animal10n, cars, cifar10, cifar100, clinc150,",
        ),
        (
            _over("cifar100-c"),
            "cifar100-c: class 0 has no training item, as its publisher split it (100 of 100 classes have none)",
        ),
        ("class-incremental[test_fraction=-0.1]", "test_fraction should be"),
        ("class-incremental[test_fraction=1]", "test_fraction should be less than 1"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    formats.cifar100_c(tmp_path / "data", size=100)
    with pytest.raises(UserError) as problem:
        _scenario(text).deal(0)
    assert said in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("board", ["class-incremental", "cgcd", "noisy-labels", "noisy-stream"])
def test_protocols_of_boards_are_still_the_same(board: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OWB_CACHE")
    written = yaml.safe_load((BOARDS / board / "protocol.yaml").read_text())
    assert {entry["label"]: entry["hash"] for entry in written["protocols"]} == {
        protocol.label: protocol.hash for protocol in protocols(written["suite"]["scenarios"])
    }


# --- noisy labels: labels that people gave ------------------------------------------------------------------


def _people(tmp_path: Path, clean: IntArray, column: str, *, seed: int = 0) -> IntArray:
    """Write a file of CIFAR-N's form where its repository has it; return the labels: a third of them wrong."""
    rng = np.random.default_rng(seed)
    n_classes = int(clean.max()) + 1
    wrong = np.where(
        rng.random(len(clean)) < 1 / 3, (clean + rng.integers(1, n_classes, len(clean))) % n_classes, clean
    )
    folder = tmp_path / "data" / "cifar-10-100n" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    import torch

    torch.save({"clean_label": clean, column: wrong}, folder / f"CIFAR-{n_classes}_human.pt")
    return wrong


@pytest.mark.parametrize(
    ("preset", "writer", "column"),
    [
        ("cifar10n-worst", lambda above: formats.cifar10(above, each=20), "worse_label"),
        ("cifar10n-aggregate", lambda above: formats.cifar10(above, each=20), "aggre_label"),
        ("cifar100n", lambda above: formats.cifar100(above, train=20), "noisy_label"),
    ],
)
def test_human_labels_reach_the_training_items_and_test_labels_stay_true(
    preset: str, writer: Callable[[Path], Any], column: str, tmp_path: Path
) -> None:
    writer(tmp_path / "data")
    data = configured("dataset", "cifar100" if preset == "cifar100n" else "cifar10").load()
    train = np.flatnonzero(~data.published_test)
    observed = _people(tmp_path, data.labels[train], column)
    for order in ("natural", "shuffled"):
        values = PRESETS[preset].values
        over = str(values["over"]).replace("natural", order)
        deal = _scenario(f"noisy-labels[preset={preset},over={over}]").deal(4)
        (stage,) = deal.stages
        np.testing.assert_array_equal(np.sort(stage.rows), train)
        numbers = np.arange(len(data.class_names)) if deal.class_numbers is None else deal.class_numbers
        np.testing.assert_array_equal(numbers[stage.observed_labels[np.argsort(stage.rows)]], observed)
        np.testing.assert_array_equal(stage.query, np.flatnonzero(data.published_test))
        np.testing.assert_array_equal(numbers[deal.labels], data.labels)


def test_the_protocol_holds_the_digest_of_the_file_not_its_place(tmp_path: Path) -> None:
    formats.cifar10(tmp_path / "data", each=20)
    data = configured("dataset", "cifar10").load()
    clean = data.labels[~data.published_test]

    def digests(seed: int) -> dict[str, str]:
        _people(tmp_path, clean, "worse_label", seed=seed)
        return dict(_scenario("noisy-labels[preset=cifar10n-worst]").data_digests())

    one, other = digests(0), digests(1)
    assert {*one} == {"cifar10", "CIFAR-10_human.pt"}
    assert one["cifar10"] == other["cifar10"]
    assert one["CIFAR-10_human.pt"] != other["CIFAR-10_human.pt"]


def test_a_missing_file_of_human_labels_says_where_it_was_looked_for(tmp_path: Path) -> None:
    formats.cifar10(tmp_path / "data", each=20)
    with pytest.raises(
        UserError, match=r"no file 'CIFAR-10_human\.pt' with human labels, looked for in"
    ) as problem:
        _scenario("noisy-labels[preset=cifar10n-worst]").deal(0)
    assert str(tmp_path / "data" / "cifar-10-100n" / "data") in str(problem.value)


# --- noisy labels: labels that are wrong as they come -------------------------------------------------------


def test_animal_10n_is_learned_from_the_labels_that_came_with_it(tmp_path: Path) -> None:
    formats.animal10n(tmp_path / "data", train=3, test=2)
    deal = _scenario("noisy-labels[preset=animal10n]").deal(0)
    (stage,) = deal.stages
    assert (len(stage.rows), len(stage.query), len(stage.validation)) == (30, 20, 0)
    colour = np.asarray(deal.inputs[stage.rows])[:, 0].mean(axis=(1, 2))
    np.testing.assert_allclose(colour, (37 * stage.observed_labels) % 256, atol=4)
    asked = np.asarray(deal.inputs[stage.query])
    np.testing.assert_allclose(asked[:, 2].mean(axis=(1, 2)), 200, atol=4)
    np.testing.assert_allclose(asked[:, 0].mean(axis=(1, 2)), (37 * deal.labels[stage.query]) % 256, atol=4)


def test_clothing_1m_is_learned_from_noisy_labels_and_chosen_on_clean_ones(tmp_path: Path) -> None:
    """The tiny set's noisy labels name the class after the one that the colour shows, its clean ones that
    class.
    """
    formats.clothing1m(tmp_path / "data", more=[1] * 13)
    with pytest.raises(UserError, match=r"per_class=13714 cannot be had: .* 'Clothes 0', numbers 1"):
        _scenario("noisy-labels[preset=clothing1m]").deal(0)
    deal = _scenario("noisy-labels[preset=nested-clothing1m]").deal(0)
    (stage,) = deal.stages
    for rows, true in (
        (stage.rows, (stage.observed_labels - 1) % 14),
        (stage.validation, stage.validation_labels),
        (stage.query, deal.labels[stage.query]),
    ):
        assert len(rows) == 14
        np.testing.assert_allclose(
            np.asarray(deal.inputs[rows])[:, 0].mean(axis=(1, 2)), (37 * true) % 256, atol=4
        )
    assert not {*stage.rows} & {*stage.validation}
    np.testing.assert_array_equal(deal.facts["part"][stage.validation], VALIDATION)
    np.testing.assert_array_equal(deal.facts["part"][stage.rows], TRAIN)
    np.testing.assert_array_equal(deal.facts["part"][stage.query], TEST)


def test_class_incremental_hands_over_the_published_validation_and_reads_it_only_where_asked(
    tmp_path: Path,
) -> None:
    formats.clothing1m(tmp_path / "data")
    small = "resize=4,crop=0"
    with_it = _scenario(_over(f"clothing1m[validation=true,{small}]", ",stages=2")).deal(1)
    assert [len(stage.validation) for stage in with_it.stages] == [7, 7]
    for stage in with_it.stages:
        np.testing.assert_array_equal(stage.validation_labels, with_it.labels[stage.validation])
        assert {*stage.validation_labels} == {*stage.observed_labels}
    without = _scenario(_over(f"clothing1m[{small}]", ",stages=2")).deal(1)
    assert [len(stage.validation) for stage in without.stages] == [0, 0]
    assert len(without.labels) == 28
    digests = [
        configured("dataset", f"clothing1m[{said}{small}]").card.digest for said in ("validation=true,", "")
    ]
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"over={_over('animal10n[resize=4]', ',stages=1')},noise=none",
            "comes with labels of which an unknown share is wrong: say noise=published",
        ),
        (
            f"over={_over('animal10n[resize=4]', ',stages=1')},noise=published,told=matrix",
            "told=matrix cannot be had with noise=published",
        ),
        (
            f"over={_over('animal10n[resize=4]', ',stages=1')},noise=published,validation=published",
            "validation=published needs data whose",
        ),
    ],
)
def test_nothing_is_claimed_of_labels_that_nobody_knows(text: str, said: str, tmp_path: Path) -> None:
    formats.animal10n(tmp_path / "data")
    with pytest.raises(UserError, match=said):
        _scenario(f"noisy-labels[{text}]").deal(0)


def test_clean_training_labels_of_clothing_1m_may_be_corrupted(tmp_path: Path) -> None:
    formats.clothing1m(tmp_path / "data")
    over = _over("clothing1m[training=clean,resize=4,crop=0]", ",stages=1")
    assert _scenario(f"noisy-labels[over={over},noise=none]").deal(0).stages[0].named_classes == 14


@pytest.mark.parametrize("preset", ["animal10n", "clothing1m"])
def test_a_learner_is_scored_on_the_true_test_labels_alone(preset: str, tmp_path: Path) -> None:
    formats.animal10n(tmp_path / "data", train=4)
    formats.clothing1m(tmp_path / "data")
    over = str(PRESETS[preset].values["over"])
    over = over.replace("per_class=13714,crop=256", "per_class=1,resize=8,crop=0")
    scenario = _scenario(
        f"noisy-labels[preset={preset},over={over},backbone=linear,augmentations=same,epochs=2]"
    )
    sealed = build(scenario, 0)
    settings = CellSettings(
        root_seed=learner_seed(0), budget=scenario.budget(), needed=scenario.answers, probed=scenario.probed
    )
    results = run_cell(configured("strategy", "cross-entropy"), sealed.episodes, settings, scratch=tmp_path)
    scores = scenario.score(sealed.truth, [answer for result in results for answer in result.answers])
    assert (
        {*scores.final}
        == {metric.name for metric in scenario.metrics}
        == {metric.name for metric in ACCURACIES}
    )
    assert np.isfinite(scores.final["chosen_accuracy"]) == (preset == "clothing1m")
    assert not scores.matrices
    assert not scores.histograms
    assert {*scores.probes} == {"accuracy", "validation", "fitted"}
    assert {*scores.per_stage} >= {"accuracy", "fitted"}
    assert not {"memorised", "corrected"} & {*scores.per_stage}


# --- presets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dataset", "rate", "classes"), [("cifar10", 40, 10), ("cifar100", 20, 100)])
def test_published_symmetric_noise_hits_as_many_rows_as_said_with_any_class(
    dataset: str, rate: int, classes: int, tmp_path: Path
) -> None:
    (formats.cifar10 if classes == 10 else formats.cifar100)(
        tmp_path / "data", **({"each": 20} if classes == 10 else {"train": 20})
    )
    deal = _scenario(f"noisy-labels[preset={dataset}-symmetric-{rate}]").deal(0)
    (stage,) = deal.stages
    train = 900 if classes == 10 else 1800
    held = 100 if classes == 10 else 200
    assert (len(stage.rows), len(stage.validation)) == (train, held)
    wrong, expected = (
        (stage.observed_labels != deal.labels[stage.rows]).sum(),
        rate / 100 * train * (classes - 1) / classes,
    )
    assert abs(wrong - expected) < 5 * np.sqrt(rate / 100 * train * (classes - 1) / classes**2) + 1
    assert (stage.validation_labels != deal.labels[stage.validation]).any(), (
        "the held-out labels are as noisy as the rest"
    )
    assert set(np.bincount(deal.labels[stage.validation])) == {held // classes}


def test_published_asymmetric_noise_turns_two_fifths_of_its_sources(tmp_path: Path) -> None:
    formats.cifar10(tmp_path / "data", each=20)
    deal = _scenario("noisy-labels[preset=cifar10-asymmetric-40]").deal(0)
    (stage,) = deal.stages
    for source, target in {9: 1, 2: 0, 3: 5, 5: 3, 4: 7}.items():
        own = stage.observed_labels[deal.labels[stage.rows] == source]
        assert (np.sum(own == target), np.sum(own == source)) == (36, 54)


def test_nested_co_teaching_holds_out_clean_labels(tmp_path: Path) -> None:
    formats.cifar10(tmp_path / "data", each=20)
    deal = _scenario("noisy-labels[preset=nested-cifar10]").deal(0)
    (stage,) = deal.stages
    np.testing.assert_array_equal(stage.validation_labels, deal.labels[stage.validation])
    assert set(np.bincount(deal.labels[stage.rows][stage.observed_labels != deal.labels[stage.rows]])) == {45}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_read_and_names_its_source(name: str) -> None:
    plugin = find("scenario", "noisy-labels")
    plugin.cls(**resolved(plugin, single(f"noisy-labels[preset={name}]")))
    assert len(PRESETS[name].source) > 20
    values = PRESETS[name].values
    for noise in HUMAN_SOURCES.values():
        if noise.file in str(values.get("noise", "")):
            assert any(f"column={column}]" in str(values["noise"]) for column in noise.columns)
