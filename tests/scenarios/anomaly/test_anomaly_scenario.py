"""The anomaly detection scenario: who is given which images under every setting, what is asked, and what
stays sealed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.cell.sealing import build, seal, with_permuted_truth
from harness.contracts import Deal, StoredPrediction
from harness.errors import UserError
from harness.parameters import validated
from scenarios.anomaly.names import PUBLISHED
from scenarios.anomaly.presets import PRESETS
from scenarios.anomaly.scenario import Anomaly
from scenarios.anomaly.staging import Step, steps_of, strays
from scenarios.anomaly.textures import CONTENTS

SMALL: dict[str, Any] = {"n_train": 6, "n_good": 3, "n_bad": 6}
EIGHT = list(CONTENTS["surfaces"])


def _scenario(**said: Any) -> Anomaly:
    return Anomaly(**validated(Anomaly, {**SMALL, **said}))


def _stages(deal: Deal) -> list[tuple[list[int], list[int]]]:
    """Return the labels that are learned and those that are asked in every stage."""
    return [
        (sorted({*deal.labels[stage.rows].tolist()}), sorted({*deal.labels[stage.query].tolist()}))
        for stage in deal.stages
    ]


def _refused(message: str, **said: Any) -> None:
    with pytest.raises(UserError, match=message):
        _scenario(**said).deal(0)


# --- settings -----------------------------------------------------------------------------------------------


def test_multi_learns_and_asks_all_at_once() -> None:
    deal = _scenario().deal(0)
    assert _stages(deal) == [([*range(8)], [*range(8)])]
    (stage,) = deal.stages
    assert len(stage.rows) == 8 * 6
    assert len(stage.query) == 8 * 9
    assert (stage.named_classes, stage.new_classes) == (8, 8)
    assert np.array_equal(stage.observed_labels, deal.labels[stage.rows])
    assert not deal.facts["anomalous"][stage.rows].any()
    assert deal.facts["anomalous"][stage.query].sum() == 8 * 6
    assert np.array_equal(deal.facts["category"], deal.labels)
    assert not deal.facts["stage"].any()


def test_single_asks_a_category_of_the_learner_it_has_of_its_own() -> None:
    scenario = _scenario(setting="single", categories="brick+rock+grass")
    deal = scenario.deal(0)
    assert _stages(deal) == [([0], [0]), ([1], [1]), ([2], [2])]
    assert [(stage.named_classes, stage.new_classes) for stage in deal.stages] == [(1, 1), (2, 1), (3, 1)]
    assert scenario.budget().apart is True
    assert _scenario().budget().apart is False


def test_continual_asks_every_category_so_far() -> None:
    deal = _scenario(setting="continual", base=4, increment=2).deal(0)
    assert _stages(deal) == [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([4, 5], [0, 1, 2, 3, 4, 5]),
        ([6, 7], [0, 1, 2, 3, 4, 5, 6, 7]),
    ]
    assert [(stage.named_classes, stage.new_classes) for stage in deal.stages] == [(4, 4), (6, 2), (8, 2)]
    assert np.array_equal(np.bincount(deal.facts["stage"]), np.array([4, 2, 2]) * 15)


@pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        ("mvtec-14-1", [14, 1]),
        ("mvtec-10-5", [10, 5]),
        ("mvtec-3-3", [3] * 5),
        ("mvtec-10-1", [10, 1, 1, 1, 1, 1]),
        ("visa-11-1", [11, 1]),
        ("visa-8-4", [8, 4]),
        ("visa-8-1", [8, 1, 1, 1, 1]),
        ("ucad-mvtec", [1] * 15),
        ("ucad-visa", [1] * 12),
    ],
)
def test_published_streams_have_their_stages(preset: str, sizes: list[int]) -> None:
    scenario = Anomaly(**PRESETS[preset].values)
    steps = scenario.steps(len(PUBLISHED[scenario.source]))
    assert [len(step.learned) for step in steps] == sizes
    assert [len(step.test_categories) for step in steps] == np.cumsum(sizes).tolist()
    if preset == "mvtec-10-1":
        assert scenario.arriving(0)[10:] == ("tile", "toothbrush", "transistor", "wood", "zipper")


def test_few_shot_keeps_some_normals_of_every_category() -> None:
    joint = _scenario(setting="few-shot", shots=2)
    assert joint.apart is False
    deal = joint.deal(0)
    assert _stages(deal) == [([*range(8)], [*range(8)])]
    assert np.bincount(deal.labels[deal.stages[0].rows]).tolist() == [2] * 8
    assert len(deal.stages[0].query) == 8 * 9
    own = _scenario(setting="few-shot", shots=2, shot_scope="per-category")
    assert own.apart is True
    assert _stages(own.deal(0)) == [([label], [label]) for label in range(8)]
    more, other = (_scenario(setting="few-shot", shots=shots).deal(seed) for shots, seed in ((4, 0), (2, 1)))
    assert {*deal.stages[0].rows.tolist()} < {*more.stages[0].rows.tolist()}
    assert {*deal.stages[0].rows.tolist()} != {*other.stages[0].rows.tolist()}


def test_zero_shot_asks_the_categories_that_were_never_seen() -> None:
    scenario = _scenario(setting="zero-shot", zero_shot_source="rock+brick")
    deal = scenario.deal(0)
    assert _stages(deal) == [([0, 1], [2, 3, 4, 5, 6, 7])]
    assert deal.class_numbers is not None
    assert [EIGHT[number] for number in deal.class_numbers[:2]] == ["brick", "rock"]
    assert not np.isin(
        deal.facts["category"][deal.stages[0].query], [EIGHT.index("brick"), EIGHT.index("rock")]
    ).any()
    names = [metric.name for metric in scenario.metrics]
    assert "image_auroc_of_grass" in names
    assert "image_auroc_of_brick" not in names
    _refused(
        "zero_shot_source=visa:candle is of a data set on disk",
        setting="zero-shot",
        zero_shot_source="visa:candle",
    )
    named = _scenario(setting="zero-shot", zero_shot_source="brick", categories="grass+rock").deal(0)
    assert _stages(named) == [([0], [1, 2])]


def test_orders_move_arrival_and_neither_images_nor_category_numbers() -> None:
    alphabetical, listed, drawn = (
        _scenario(setting="continual", categories="rock+brick+grass", order=order)
        for order in ("alphabetical", "as-listed", "seed")
    )
    assert alphabetical.arriving(0) == ("brick", "grass", "rock")
    assert listed.arriving(0) == ("rock", "brick", "grass")
    assert len({drawn.arriving(seed) for seed in range(20)}) == 6
    deals = [scenario.deal(3) for scenario in (alphabetical, listed, drawn)]
    for deal in deals[1:]:
        assert np.array_equal(deal.inputs[np.arange(45)], deals[0].inputs[np.arange(45)])
        assert np.array_equal(deal.facts["category"], deals[0].facts["category"])
    assert deals[1].labels[[0, 15, 30]].tolist() == [1, 2, 0]
    assert deals[1].facts["stage"][[0, 15, 30]].tolist() == [1, 2, 0]
    assert deals[1].class_numbers is not None
    assert deals[1].class_numbers.tolist() == [2, 0, 1]


@pytest.mark.parametrize("setting", ["multi", "single", "few-shot", "continual"])
def test_contamination_adds_defective_crops_of_the_training_part(setting: str) -> None:
    shots = {"shots": 6} if setting == "few-shot" else {}
    clean, dirty = (
        _scenario(setting=setting, contamination=share, categories="brick+grass", **shots).deal(0)
        for share in (0.0, 0.25)
    )
    for before, after in zip(clean.stages, dirty.stages, strict=True):
        stray = dirty.facts["anomalous"][after.rows]
        assert stray.mean() == 0.25
        assert dirty.facts["mask"][after.rows[stray]].any(axis=(1, 2)).all()
        assert np.array_equal(dirty.inputs[after.rows[~stray]], clean.inputs[before.rows])
        assert np.array_equal(dirty.inputs[after.query], clean.inputs[before.query])
        assert not np.intersect1d(after.rows, after.query).size


def test_a_share_of_strays_is_a_share_of_all() -> None:
    assert [strays(share, 60) for share in (0.0, 0.1, 0.25, 0.4, 0.5)] == [0, 7, 20, 40, 60]


def test_task_access_tells_the_stage_when_asked() -> None:
    said = {"setting": "continual", "base": 4, "increment": 4}
    told, hidden = (build(_scenario(task_access=access, **said), 0) for access in ("test", "train"))
    query = told.episodes[1].query
    assert query.tasks is not None
    assert np.array_equal(query.tasks, told.truth.facts["stage"][query.ids])
    assert np.bincount(query.tasks).tolist() == [36, 36]
    assert hidden.episodes[1].query.tasks is None


def test_steps_are_counted_by_hand() -> None:
    none = {"apart": False, "sources": 0, "base": 1, "increment": 1}
    assert steps_of("continual", 3, **none) == (  # type: ignore[arg-type]
        Step(range(0, 1), range(1)),
        Step(range(1, 2), range(2)),
        Step(range(2, 3), range(3)),
    )
    assert steps_of("zero-shot", 5, **{**none, "sources": 2}) == (Step(range(2), range(2, 5)),)  # type: ignore[arg-type]


# --- what is refused ----------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    _refused(r"unknown category 'bricks'; did you mean 'brick'\?", categories="bricks+rock")
    _refused(r"unknown kind of defect 'strain'; did you mean 'stain'\?", kinds="strain")
    _refused("category rock is listed twice", categories="rock+rock")
    _refused("base=3 and increment=2 do not fit 8 categories", setting="continual", base=3, increment=2)
    _refused("base=8 and increment=1 do not fit 8 categories", setting="continual", base=8)
    _refused("shots=7, but brick has 6 normal training images", setting="few-shot", shots=7)
    _refused("setting=zero-shot needs zero_shot_source", setting="zero-shot")
    _refused(
        "category rock is both in zero_shot_source and in categories",
        setting="zero-shot",
        zero_shot_source="rock",
        categories="rock",
    )
    _refused("zero_shot_source names every category", setting="zero-shot", zero_shot_source="+".join(EIGHT))
    _refused("order=as-listed needs categories", order="as-listed")
    _refused("blur_size must be odd", blur_size=4)
    _refused("size=97 is larger than the 98 px|size=99 is larger than the 98 px", size=99)
    for name, value in (("contamination", 0.6), ("contamination", -0.1), ("shots", 0), ("fpr_limit", 0.0)):
        with pytest.raises(UserError, match=f"{name} should be"):
            _scenario(**{name: value})
    with pytest.raises(UserError, match="unknown parameter of Anomaly 'severty'; did you mean 'severity'"):
        _scenario(severty="hard")


# --- sealing ------------------------------------------------------------------------------------------------


def test_sealing_hands_over_images_and_categories_and_nothing_else() -> None:
    scenario = _scenario(setting="continual", categories="brick+grass+rock", contamination=0.25)
    deal = scenario.deal(0)
    sealed = seal(deal, 0)
    for stage, query in sealed.episodes:
        for part in (stage, query):
            assert isinstance(part.inputs, np.ndarray)
            assert part.inputs.dtype == np.uint8
            assert part.inputs.base is None
            assert np.array_equal(part.inputs, sealed.truth.facts["picture"][part.ids])
        assert np.array_equal(stage.labels, sealed.truth.labels[stage.ids])
        assert query.tasks is None
    for (stage, query), (same, asked) in zip(
        sealed.episodes, seal(with_permuted_truth(deal, 0), 0).episodes, strict=True
    ):
        assert np.array_equal(stage.inputs, same.inputs)
        assert np.array_equal(stage.labels, same.labels)
        assert np.array_equal(query.inputs, asked.inputs)


def test_masks_are_brought_to_the_resolution_by_nearest_pixels() -> None:
    whole, half = _scenario(categories="brick").deal(0), _scenario(categories="brick", resolution=32).deal(0)
    assert np.array_equal(half.facts["mask"], whole.facts["mask"][:, ::2, ::2])


def test_one_seed_deals_the_same_and_another_one_otherwise() -> None:
    scenario = _scenario(categories="brick+rock", contamination=0.25)
    first, same, other = (build(scenario, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.episodes[0].query.inputs, same.episodes[0].query.inputs)
    assert np.array_equal(first.truth.facts["mask"], same.truth.facts["mask"])
    assert not np.array_equal(first.episodes[0].query.inputs, other.episodes[0].query.inputs)


# --- the presets, and scoring -------------------------------------------------------------------------------


def test_every_preset_is_a_configuration_with_its_metrics() -> None:
    for preset in PRESETS.values():
        scenario = Anomaly(**validated(Anomaly, preset.values))
        names = [metric.name for metric in scenario.metrics]
        assert names[0] == "image_auroc"
        assert ("forgetting" in names) == (scenario.setting == "continual")
        assert len([name for name in names if name.startswith("image_auroc_of_")]) == len(
            scenario.test_categories()
        )
        assert preset.source
    names = [metric.name for metric in Anomaly(source="folder", root="nowhere").metrics]
    assert not any(name.startswith("image_auroc_of_") for name in names)


@pytest.mark.parametrize("setting", ["multi", "single", "continual"])
def test_masks_answered_as_maps_are_found_without_error(setting: str) -> None:
    """Maps that are the masks, unblurred and with the largest value as score, are right in every figure."""
    scenario = _scenario(setting=setting, categories="brick+rock", order="seed", blur_size=0, top=0.0)
    sealed = build(scenario, 0)
    answers = []
    for index, (_, query) in enumerate(sealed.episodes):
        ids = np.sort(query.ids)
        maps = sealed.truth.facts["mask"][ids].astype(np.float16)
        answers.append(StoredPrediction(stage=index, step=None, ids=ids, arrays={"anomaly_maps": maps}))
    final = scenario.score(sealed.truth, answers).final
    for metric in scenario.metrics:
        expected = 0.0 if metric.name in ("forgetting", "pixel_ap_forgetting", "backward_transfer") else 1.0
        assert final[metric.name] == pytest.approx(expected, abs=1e-6), metric.name


def test_figures_of_a_category_are_its_own_under_every_order() -> None:
    """Only rock is told apart: its figure is 1 whether it arrives first or last."""
    for order in ("alphabetical", "as-listed"):
        scenario = _scenario(setting="continual", categories="rock+brick+grass", order=order)
        sealed = build(scenario, 0)
        facts, answers = sealed.truth.facts, []
        for index, (_, query) in enumerate(sealed.episodes):
            ids = np.sort(query.ids)
            right = (facts["category"][ids] == 2) & facts["anomalous"][ids]
            answers.append(
                StoredPrediction(
                    stage=index, step=None, ids=ids, arrays={"anomaly_scores": right.astype(np.float32)}
                )
            )
        final = scenario.score(sealed.truth, answers).final
        assert [final[f"image_auroc_of_{name}"] for name in ("brick", "grass", "rock")] == [0.5, 0.5, 1.0]
        assert np.isnan(final["pixel_auroc"])


def test_an_answer_with_neither_maps_nor_scores_is_refused() -> None:
    scenario = _scenario(categories="brick")
    sealed = build(scenario, 0)
    ids = np.sort(sealed.episodes[0].query.ids)
    with pytest.raises(UserError, match="anomaly_maps"):
        scenario.score(
            sealed.truth,
            [StoredPrediction(stage=0, step=None, ids=ids, arrays={"classes": np.zeros(len(ids))})],
        )


# --- on disk ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two categories of five training images, three good and four defective test images with masks."""
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OWB_DATA", raising=False)
    rng = np.random.default_rng(0)
    for category in ("nut", "cap"):
        for part, number in (("train/good", 5), ("test/good", 3), ("test/dent", 4)):
            for item in range(number):
                path = tmp_path / "own" / category / part / f"{item}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)
                if part == "test/dent":
                    mask = tmp_path / "own" / category / "ground_truth" / "dent" / f"{item}_mask.png"
                    mask.parent.mkdir(parents=True, exist_ok=True)
                    pixels = np.zeros((24, 24), dtype=np.uint8)
                    pixels[4 : 10 + item, 6:12] = 255
                    Image.fromarray(pixels).save(mask)
    return tmp_path / "own"


def _on_disk(folder: Path, **said: Any) -> Anomaly:
    return Anomaly(
        **validated(Anomaly, {"source": "folder", "root": str(folder), "resize": 24, "crop": 16, **said})
    )


def test_a_folder_is_dealt_as_loaders_that_name_no_file(folder: Path) -> None:
    scenario = _on_disk(folder, setting="continual")
    sealed = build(scenario, 0)
    assert [(len(stage.ids), len(query.ids)) for stage, query in sealed.episodes] == [(5, 7), (5, 14)]
    for stage, query in sealed.episodes:
        for part in (stage, query):
            assert part.inputs.shape == (len(part.ids), 3, 16, 16)
            assert not any(
                name in repr(part.inputs) for name in ("own", "nut", "cap", "dent", "good", "train")
            )
            every = np.arange(len(part.ids))
            assert np.array_equal(part.inputs[every], np.asarray(sealed.truth.facts["picture"][part.ids]))
    ids = sealed.episodes[1].query.ids
    masks = np.asarray(sealed.truth.facts["mask"][ids])
    assert masks.shape == (14, 16, 16)
    areas = sorted(masks.sum(axis=(1, 2)).tolist())
    assert areas == sorted([0] * 6 + [6 * (6 + item) for item in range(4)] * 2)


def test_a_folder_gives_some_of_its_anomalies_to_the_training(folder: Path) -> None:
    clean, dirty = _on_disk(folder).deal(0), _on_disk(folder, contamination=0.3).deal(0)
    (before,), (after,) = clean.stages, dirty.stages
    moved = np.setdiff1d(after.rows, before.rows)
    assert np.bincount(dirty.labels[moved]).tolist() == [2, 2]
    assert dirty.facts["anomalous"][moved].all()
    assert np.array_equal(np.setdiff1d(before.query, after.query), moved)
    assert not np.array_equal(
        moved, np.setdiff1d(_on_disk(folder, contamination=0.3).deal(1).stages[0].rows, before.rows)
    )
    with pytest.raises(
        UserError, match=r"contamination=0\.45 takes 4 defective images of cap, which has 4 in its test"
    ):
        _on_disk(folder, contamination=0.45).deal(0)


def test_a_folder_knows_its_categories_and_its_contents(folder: Path) -> None:
    with pytest.raises(UserError, match=r"unknown category 'nutt'; did you mean 'nut'\?"):
        _on_disk(folder, categories="nutt").deal(0)
    with pytest.raises(UserError, match="shots=6, but cap has 5 normal training images"):
        _on_disk(folder, setting="few-shot", shots=6).deal(0)
    with pytest.raises(UserError, match="crop=32 is larger than resize=24"):
        _on_disk(folder, crop=32).deal(0)
    digest = _on_disk(folder).data_digests()["folder"]
    assert _on_disk(folder, categories="nut").data_digests()["folder"] != digest
    mask = folder / "nut" / "ground_truth" / "dent" / "0_mask.png"
    Image.fromarray(np.full((24, 24), 255, dtype=np.uint8)).save(mask)
    assert _on_disk(folder).data_digests()["folder"] != digest


@pytest.mark.parametrize(("kind", "lacking", "images"), [("good", "normal", 4), ("dent", "defective", 3)])
def test_a_category_that_no_figure_can_speak_of_is_named(
    folder: Path, kind: str, lacking: str, images: int
) -> None:
    for path in (folder / "cap" / "test" / kind).iterdir():
        path.unlink()
        (folder / "cap" / "ground_truth" / kind / f"{path.stem}_mask.png").unlink(missing_ok=True)
    with pytest.raises(
        UserError,
        match=f"category cap has {images} test images, none of them {lacking}, and needs one at least",
    ):
        _on_disk(folder).deal(0)
    assert len(_on_disk(folder, categories="nut").deal(0).stages[0].query) == 7


def test_zero_shot_learns_from_another_data_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cap").rename(folder / "capsule")
    (folder.parent / "data" / "mvtec").mkdir(parents=True)
    (folder / "nut").rename(folder.parent / "data" / "mvtec" / "tile")
    monkeypatch.setenv("OWB_DATA", str(folder.parent / "data"))
    scenario = _on_disk(folder, setting="zero-shot", zero_shot_source="mvtec:tile")
    deal = scenario.deal(0)
    assert _stages(deal) == [([0], [1])]
    assert (len(deal.stages[0].rows), len(deal.stages[0].query)) == (5, 7)
    assert [
        metric.name
        for metric in _on_disk(
            folder, setting="zero-shot", zero_shot_source="mvtec:tile", categories="capsule"
        ).metrics
        if "_of_" in metric.name
    ] == ["image_auroc_of_capsule"]
    for wrong, message in (
        ("mvtc:tile", r"unknown data set 'mvtc'; did you mean 'mvtec'"),
        ("mvtec:tyle", r"did you mean 'tile'"),
    ):
        with pytest.raises(UserError, match=message):
            _on_disk(folder, setting="zero-shot", zero_shot_source=wrong).deal(0)


def test_a_folder_is_scored(folder: Path) -> None:
    scenario = _on_disk(folder, categories="cap+nut", blur_size=0, top=0.0, resolution=8)
    sealed = build(scenario, 0)
    ids = np.sort(sealed.episodes[0].query.ids)
    scores = sealed.truth.facts["anomalous"][ids].astype(np.float32)
    final = scenario.score(
        sealed.truth, [StoredPrediction(stage=0, step=None, ids=ids, arrays={"anomaly_scores": scores})]
    ).final
    assert final["image_auroc_of_nut"] == final["worst_image_auroc"] == 1.0
