"""Images for anomaly detection: crops and drawn defects of embedded photographs, and the four layouts of data
sets on disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anomaly_formats as formats
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation

from harness.contracts import Divisible
from harness.errors import UserError
from harness.selection import configured
from scenarios.anomaly import textures
from scenarios.anomaly.defects import (
    KINDS,
    LEAST_CHANGE,
    LEAST_PIXELS,
    SEVERITIES,
    Material,
    drawn,
    gradient_noise,
)
from scenarios.anomaly.disk import disk_pool, hashed, kinds_of
from scenarios.anomaly.folders import ImageFile, categories_of, folder_at, realiad, trees, visa
from scenarios.anomaly.names import PUBLISHED, chosen, listed
from scenarios.anomaly.pool import Pool
from scenarios.anomaly.textures import CONTENTS, GAP, Amounts, photographs, texture_pool
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.packed import Packed, Sizes, packed_images, packed_masks

SMALL = Amounts(train=6, good=4, bad=6)
TWO = ("brick", "rock")
WHOLE = Sizes(resize=8, crop=0)


def _pool(
    amounts: Amounts = SMALL, *, seed: int = 0, categories: tuple[str, ...] = TWO, severity: str = "easy"
) -> Pool:
    return texture_pool(
        "surfaces", categories, amounts, size=64, severity=severity, kinds=tuple(KINDS), seed=seed
    )


def _all(pool: Pool) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    every = np.arange(len(pool.inputs))
    return pool.inputs[every], pool.masks[every]


# --- crops --------------------------------------------------------------------------------------------------


def test_training_and_test_crops_share_no_column() -> None:
    """Every pixel of this photograph says which column it is in."""
    columns = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (90, 200, 3)).copy()
    surface = textures.Surface("columns", columns, [columns], 40, 0)
    seen = {train: np.unique(surface.crops("some", 300, train=train)) for train in (True, False)}
    assert seen[True].max() < 120
    assert seen[False].min() >= 120 + GAP
    for part, train in (("stray", True), ("bad", False)):
        image, mask = surface.defective(part, 0, "stain", "easy", train=train)
        untouched = image[~binary_dilation(mask, np.ones((5, 5)))]
        assert untouched.max() < 120 if train else untouched.min() >= 120 + GAP


def test_no_two_crops_of_a_part_are_of_one_place() -> None:
    photo = np.arange(60 * 100 * 3, dtype=np.uint16).view(np.uint8)[: 60 * 100 * 3].reshape(60, 100, 3)
    surface = textures.Surface("all", photo, [photo], 30, 0)
    places = 31 * 31
    crops = {crop.tobytes() for crop in surface.crops("train", places, train=True)}
    assert len(crops) == places
    with pytest.raises(
        UserError,
        match=f"{places + 1} crops of 30 px do not fit the train part of all, which has {places} places",
    ):
        surface.crops("train", places + 1, train=True)
    with pytest.raises(UserError, match="size=41 is larger than the 36 px"):
        textures.Surface("all", photo, [photo], 41, 0)


def test_one_seed_gives_the_same_bytes_and_another_one_others() -> None:
    first, second, other = _all(_pool()), _all(_pool()), _all(_pool(seed=1))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    rows = np.arange(len(first[0]))
    assert not any(np.array_equal(first[0][row], other[0][row]) for row in rows)


@pytest.mark.parametrize("part", ["train", "good", "bad", "stray"])
def test_more_crops_of_one_part_move_no_other_crop(part: str) -> None:
    few, many = SMALL._replace(stray=2), SMALL._replace(stray=2)._replace(**{part: 9})
    kept = np.concatenate(
        [np.arange(sum(many[:index]), sum(many[:index]) + number) for index, number in enumerate(few)]
    )
    for category in range(2):
        before = _all(_pool(few))[0][category * sum(few) :][: sum(few)]
        after = _all(_pool(many))[0][category * sum(many) :][: sum(many)]
        assert np.array_equal(before, after[kept])


def test_a_category_is_the_same_whichever_others_there_are() -> None:
    assert np.array_equal(_all(_pool(categories=("rock",)))[0], _all(_pool())[0][sum(SMALL) :])


def test_the_pool_says_what_every_image_is() -> None:
    pool = _pool(SMALL._replace(stray=3))
    assert pool.inputs.shape == (2 * 19, 3, 64, 64)
    assert pool.masks.shape == (2 * 19, 64, 64)
    assert pool.kinds == ("good", *KINDS)
    own = slice(19)
    assert pool.category.tolist() == [0] * 19 + [1] * 19
    assert pool.defect[own].tolist() == [0] * 10 + [1, 2, 3, 4, 5, 6] + [1, 2, 3]
    assert np.flatnonzero(pool.train[own]).tolist() == [*range(6), 16, 17, 18]
    masks = _all(pool)[1]
    assert np.array_equal(masks.any(axis=(1, 2)), pool.anomalous)
    assert np.array_equal(pool.has_mask, pool.anomalous)


def test_grey_photographs_stay_grey_under_foreign_content() -> None:
    images, pool = _all(_pool())[0], _pool()
    grey = (images == images[:, :1]).all(axis=(1, 2, 3))
    assert grey[pool.category == 0].all()
    assert not grey[pool.category == 1].any()


@pytest.mark.parametrize("content", CONTENTS)
def test_every_photograph_is_there_and_leaves_room(content: str) -> None:
    photos = photographs(content)
    assert len(photos) == len(CONTENTS[content]) + 6
    assert list(CONTENTS[content]) == sorted(CONTENTS[content])
    for photo in photos.values():
        assert photo.dtype == np.uint8
        assert photo.shape[2] == 3
    assert min(photos[name].shape[1] * 0.4 - GAP for name in CONTENTS[content]) >= 96


def test_photographs_are_reduced_by_area() -> None:
    path = CONTENTS["surfaces"]["gravel"].path()
    with Image.open(path) as opened:
        full = np.asarray(opened, dtype=np.float64)
    means = full.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    difference = photographs("surfaces")["gravel"][..., 0] - means
    assert np.abs(difference).max() <= 1  # Pillow rounds twice, along and across


def test_other_files_than_those_of_the_card_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OWB_CACHE", str(tmp_path))
    monkeypatch.setattr(textures, "DIGESTS", {"surfaces": "0" * 64})
    with pytest.raises(UserError, match="digest 4e347720ce75c85f where 0000000000000000 is expected"):
        photographs("surfaces")


# --- defects ------------------------------------------------------------------------------------------------


def _material(seed: int = 0) -> Material:
    """A noisy grey crop and a foreign photograph of stripes."""
    rng = np.random.default_rng(seed)
    own = np.clip(0.5 + 0.15 * rng.standard_normal((128, 128, 3)), 0, 1).astype(np.float32)
    stripes = np.broadcast_to((np.arange(100) % 4 < 2).astype(np.float32)[None, :, None], (100, 100, 3))
    return Material(own[:64, :64], own, [stripes])


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_changes_its_mask_and_nothing_far_from_it(kind: str, severity: str) -> None:
    """A Gaussian of 0.6 px is cut at 4 standard deviations, so at 2 px to each side."""
    rng, seen = np.random.default_rng(3), 0
    material = _material()
    before = np.rint(255 * material.crop)
    for _ in range(20):
        if (found := drawn(kind, material, SEVERITIES[severity], rng)) is None:
            continue
        seen += 1
        change = np.abs(found.image - before)
        assert change[found.mask].mean() >= 255 * LEAST_CHANGE
        assert found.mask.sum() >= LEAST_PIXELS
        near = binary_dilation(found.mask, np.ones((5, 5)))
        assert change[~near].max() == 0
    assert seen >= 10


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("kind", ["foreign-patch", "stain", "cut-paste", "perlin", "blur"])
def test_a_region_has_the_share_that_its_severity_says(kind: str, severity: str) -> None:
    rng, (least, most) = np.random.default_rng(0), SEVERITIES[severity].area
    shares = [KINDS[kind](_material(), SEVERITIES[severity], rng).mask.mean() for _ in range(200)]
    assert min(shares) > 0.8 * least
    assert max(shares) < 1.1 * most
    assert max(shares) > 0.85 * most


def test_a_full_stain_is_the_crop_plus_or_minus_its_change() -> None:
    material = _material()._replace(crop=np.full((64, 64, 3), 0.5, dtype=np.float32))
    rng, steps = np.random.default_rng(0), set()
    for _ in range(20):
        found = drawn("stain", material, SEVERITIES["easy"], rng)
        assert found is not None
        steps.add(
            int(found.image[found.mask].max())
            if found.image[found.mask].mean() > 127
            else int(found.image[found.mask].min())
        )
    assert steps == {round(255 * (0.5 - 0.7 * 0.45)), round(255 * (0.5 + 0.7 * 0.45))}


def test_matched_content_takes_mean_and_spread_of_what_it_covers() -> None:
    material = _material()
    for seed in range(10):
        overlay = KINDS["foreign-patch"](material, SEVERITIES["hard"], np.random.default_rng(seed))
        covered, covering = material.crop[overlay.mask], overlay.content[overlay.mask]
        assert np.abs(covered.mean(axis=0) - covering.mean(axis=0)).max() < 0.01
        assert np.abs(covered.std(axis=0) - covering.std(axis=0)).max() < 0.02


def test_what_hardly_shows_is_refused() -> None:
    flat = np.full((64, 64, 3), 0.4, dtype=np.float32)
    rng = np.random.default_rng(0)
    for kind in ("blur", "cut-paste"):
        assert all(
            drawn(kind, Material(flat, flat, [flat]), SEVERITIES["easy"], rng) is None for _ in range(5)
        )
    photo = np.full((64, 200, 3), 100, dtype=np.uint8)
    with pytest.raises(UserError, match="blur does not show on sky at severity hard"):
        textures.Surface("sky", photo, [photo], 40, 0).defective("bad", 0, "blur", "hard", train=False)


def test_gradient_noise_is_zero_at_the_corners_of_its_cells_and_smooth_between() -> None:
    noise = gradient_noise(64, 4, np.random.default_rng(0))
    assert np.abs(noise[::16, ::16]).max() < 1e-12
    assert 0.3 < np.abs(noise).max() <= np.sqrt(0.5)
    assert np.abs(np.diff(noise, axis=0)).max() < 0.25


# --- names --------------------------------------------------------------------------------------------------


def test_names_are_read_checked_and_brought_near() -> None:
    assert [len(PUBLISHED[source]) for source in ("mvtec", "visa", "realiad")] == [15, 12, 30]
    assert all(list(names) == sorted(names) for names in PUBLISHED.values())
    assert listed(" tile +wood+") == ("tile", "wood")
    assert chosen("", ("a", "b"), what="category", where="x") == ("a", "b")
    with pytest.raises(UserError, match=r"unknown category 'carpt'; did you mean 'carpet'\?"):
        chosen("carpt", PUBLISHED["mvtec"], what="category", where="mvtec")
    with pytest.raises(UserError, match="category tile is listed twice"):
        chosen("tile+wood+tile", PUBLISHED["mvtec"], what="category", where="mvtec")


# --- layouts on disk ----------------------------------------------------------------------------------------


def _picture(path: Path, value: int, *, size: tuple[int, int] = (8, 8)) -> None:
    """Write a picture whose pixels are all different from those of any other value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (np.arange(size[0] * size[1] * 3) % 7 + value).astype(np.uint8).reshape(size[1], size[0], 3)
    Image.fromarray(pixels).save(
        path, format={".jpg": "JPEG", ".bmp": "BMP", ".tif": "TIFF"}.get(path.suffix.lower(), "PNG")
    )


def _mask(path: Path, box: tuple[slice, slice], *, value: int = 255, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[box] = value
    Image.fromarray(pixels).save(path, format="PNG")


CORNER, MIDDLE = (slice(0, 2), slice(0, 3)), (slice(3, 6), slice(4, 5))


def _mvtec(
    root: Path, *, categories: tuple[str, ...] = ("carpet", "tile"), masks: str = "ground_truth"
) -> Path:
    """Two categories of three training and four test images; masks sort the other way round than their
    images.
    """
    for index, name in enumerate(categories):
        start = 100 * index
        for number in range(3):
            _picture(root / name / "train" / "good" / f"{number:03d}.png", start + 8 * number)
        _picture(root / name / "test" / "good" / "000.png", start + 24)
        _picture(root / name / "test" / "cut" / "000.JPEG", start + 32)
        _picture(root / name / "test" / "cut" / "001.png", start + 40)
        _picture(root / name / "test" / "hole" / "000.bmp", start + 48)
        _mask(root / name / masks / "cut" / "001.PNG", CORNER)
        _mask(root / name / masks / "cut" / "000_mask.png", MIDDLE)
        _mask(root / name / masks / "hole" / "000_mask.png", MIDDLE)
    return root


def _read(files: list[ImageFile], *, sizes: Sizes = WHOLE, resolution: int = 8, rule: str = ">0.5") -> Pool:
    categories = tuple(sorted({file.category for file in files}))
    return disk_pool(hashed(files), categories, sizes, resolution=resolution, rule=rule)


@pytest.fixture(autouse=True)
def own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "tmp_path" in request.fixturenames:
        monkeypatch.setenv("OWB_CACHE", str(request.getfixturevalue("tmp_path") / "cache"))
        monkeypatch.delenv("OWB_DATA", raising=False)


def _box(box: tuple[slice, slice]) -> NDArray[np.bool_]:
    mask = np.zeros((8, 8), dtype=bool)
    mask[box] = True
    return mask


def test_mvtec_is_read_with_the_mask_of_every_stem(tmp_path: Path) -> None:
    files = trees(_mvtec(tmp_path / "mvtec"), ("carpet", "tile"), masks_expected=True)
    pool = _read(files)
    assert pool.kinds == ("good", "cut", "hole")
    assert [(file.path.name, file.defect) for file in files[:7]] == [
        ("000.png", "good"),
        ("001.png", "good"),
        ("002.png", "good"),
        ("000.JPEG", "cut"),
        ("001.png", "cut"),
        ("000.png", "good"),
        ("000.bmp", "hole"),
    ]
    images, masks = _all(pool)
    for row, file in enumerate(files):
        with Image.open(file.path) as opened:
            assert np.array_equal(images[row], np.asarray(opened.convert("RGB")).transpose(2, 0, 1))
    for start in (0, 7):
        assert np.array_equal(masks[start + 3], _box(MIDDLE))
        assert np.array_equal(masks[start + 4], _box(CORNER))
        assert np.array_equal(masks[start + 6], _box(MIDDLE))
        assert not masks[[start, start + 1, start + 2, start + 5]].any()
    assert pool.has_mask.tolist() == [False, False, False, True, True, False, True] * 2
    assert pool.train.tolist() == [True, True, True, False, False, False, False] * 2


def test_a_plain_folder_needs_no_masks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _mvtec(tmp_path / "own", masks="elsewhere")
    (root / "notes").mkdir()
    assert categories_of(root) == ("carpet", "tile")
    pool = _read(trees(root, ("carpet",), masks_expected=False))
    assert pool.anomalous.sum() == 3
    assert not pool.has_mask.any()
    assert not _all(pool)[1].any()
    assert "3 defective images have no mask and count for image figures only" in caplog.text
    with pytest.raises(UserError, match="has no folder with a folder train in it, so no category"):
        categories_of(root / "notes")


def test_visa_converted_and_as_published_are_the_same(tmp_path: Path) -> None:
    """The published masks number the defects from 1; the converter makes all of them 255."""
    published, converted = tmp_path / "published", tmp_path / "converted"
    rows = ["object,split,label,image,mask"]
    for number in range(5):
        kind = "Normal" if number < 3 else "Anomaly"
        image = f"candle/Data/Images/{kind}/{number:03d}.JPG"
        _picture(published / image, 20 * number)
        part = "train" if number < 2 else "test"
        label = "normal" if number < 3 else "anomaly"
        target = (
            converted / "1cls" / "candle" / part / ("good" if number < 3 else "bad") / f"{number:03d}.JPG"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((published / image).read_bytes())
        mask = f"candle/Data/Masks/Anomaly/{number:03d}.png" if number > 2 else ""
        if mask:
            box = CORNER if number == 3 else MIDDLE
            _mask(published / mask, box, value=number - 2)
            _mask(converted / "1cls" / "candle" / "ground_truth" / "bad" / f"{number:03d}.png", box)
        rows.append(f"candle,{part},{label},{image},{mask}")
    table = published / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    table.write_text("\n".join(rows))
    pools = [_read(visa(root, ("candle",))) for root in (published, converted)]
    order = [0, 1, 3, 4, 2]  # the converted one sorts bad before good
    for found, expected in zip(_all(pools[1]), _all(pools[0]), strict=True):
        assert np.array_equal(found, expected[order])
    assert pools[0].defect.tolist() == [0, 0, 0, 1, 1]
    assert np.array_equal(_all(pools[0])[1][3:], [_box(CORNER), _box(MIDDLE)])
    table.write_text("\n".join(rows).replace("mask", "ground", 1))
    with pytest.raises(UserError, match="has no column mask"):
        visa(published, ("candle",))
    table.write_text("\n".join([*rows, "candle,test,normal,candle/gone.JPG,"]))
    with pytest.raises(UserError, match=r"1cls.csv names .*gone.JPG, which is not there"):
        visa(published, ("candle",))
    table.write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"category fryum is empty: .*1cls.csv names no training image"):
        visa(published, ("candle", "fryum"))


def _realiad(root: Path) -> Path:
    """One category: two good samples seen by two cameras each, one of them to train on, and a defective one
    with one mask.
    """
    entries: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}
    for number, (part, kind) in enumerate([("train", "OK"), ("test", "OK"), ("test", "NG/pit")]):
        for camera in ("C1", "C2"):
            name = f"{kind}/S{number:04d}/toy_{number:04d}_{camera}_2023.jpg"
            _picture(root / "realiad_256" / "toy" / name, 40 * number + (20 if camera == "C2" else 0))
            mask = name.replace(".jpg", "_mask.png") if kind != "OK" and camera == "C1" else None
            if mask:
                _mask(root / "realiad_256" / "toy" / mask, MIDDLE)
            entries[part].append(
                {"image_path": name, "mask_path": mask, "anomaly_class": kind.removeprefix("NG/")}
            )
    for variant, content in (
        ("realiad_jsons", entries),
        (
            "realiad_jsons_fuiad_0.1",
            {
                "train": entries["train"] + entries["test"][2:3],
                "test": entries["test"][3:] + entries["test"][:2],
            },
        ),
    ):
        path = root / "realiad_jsons" / variant / "toy.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"meta": {}, **content}))
    return root


def test_realiad_is_read_from_its_lists(tmp_path: Path) -> None:
    root = _realiad(tmp_path / "realiad")
    files = realiad(root, ("toy",), variant="realiad_jsons", pixels=256, cameras="")
    pool = _read(files)
    assert pool.kinds == ("good", "pit")
    assert pool.sample.tolist() == [1, 1, 2, 2, 0, 0]
    assert pool.train.tolist() == [True, True, False, False, False, False]
    assert pool.anomalous.tolist() == [False] * 4 + [True] * 2
    assert pool.has_mask.tolist() == [False] * 4 + [True, False]
    assert np.array_equal(_all(pool)[1][4], _box(MIDDLE))
    one = realiad(root, ("toy",), variant="realiad_jsons", pixels=256, cameras="C2")
    assert [file.path.name[9:11] for file in one] == ["C2"] * 3
    mixed = _read(realiad(root, ("toy",), variant="realiad_jsons_fuiad_0.1", pixels=256, cameras=""))
    assert (mixed.train & mixed.anomalous).sum() == 1


def test_faults_of_realiad_lists_are_named(tmp_path: Path) -> None:
    root = _realiad(tmp_path / "realiad")
    with pytest.raises(UserError, match=r"no list .*realiad_jsons_sv/toy.json"):
        realiad(root, ("toy",), variant="realiad_jsons_sv", pixels=256, cameras="")
    with pytest.raises(UserError, match=r"names .*realiad_1024.*which is not there"):
        realiad(root, ("toy",), variant="realiad_jsons", pixels=1024, cameras="")
    with pytest.raises(UserError, match="category toy is empty"):
        realiad(root, ("toy",), variant="realiad_jsons", pixels=256, cameras="C5")
    (root / "realiad_jsons" / "realiad_jsons" / "toy.json").write_text('{"train": [{}]')
    with pytest.raises(
        UserError, match=r"toy.json is no list of images with train and test \(JSONDecodeError"
    ):
        realiad(root, ("toy",), variant="realiad_jsons", pixels=256, cameras="")


def test_a_data_set_is_looked_for_below_owb_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "mvtec").mkdir(parents=True)
    with pytest.raises(
        UserError, match="no folder mvtec for source=mvtec; say where it is with root, or set OWB_DATA"
    ):
        folder_at("", "mvtec")
    assert folder_at(str(tmp_path / "data" / "mvtec"), "mvtec") == tmp_path / "data" / "mvtec"
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "data"))
    assert folder_at("", "mvtec") == folder_at("mvtec", "folder") == tmp_path / "data" / "mvtec"
    with pytest.raises(UserError, match="source=folder needs root"):
        folder_at("", "folder")


# --- what is wrong is named ---------------------------------------------------------------------------------


def _break(root: Path, what: str) -> None:
    tile = root / "tile"
    if what == "damaged":
        (tile / "train" / "good" / "001.png").write_bytes(
            (tile / "train" / "good" / "001.png").read_bytes()[:60]
        )
    elif what == "no image":
        (tile / "test" / "cut" / "001.png").write_text("a web page")
    elif what == "other size":
        _mask(tile / "ground_truth" / "cut" / "000_mask.png", MIDDLE, size=(9, 8))
    elif what == "empty mask":
        _mask(tile / "ground_truth" / "hole" / "000_mask.png", MIDDLE, value=0)
    elif what == "nothing to learn":
        for path in (tile / "train" / "good").iterdir():
            path.unlink()
    elif what == "no masks":
        (tile / "ground_truth" / "hole" / "000_mask.png").unlink()
        (tile / "ground_truth" / "hole").rmdir()
    elif what == "twice":
        (tile / "test" / "good" / "007.png").write_bytes(
            (root / "carpet" / "train" / "good" / "001.png").read_bytes()
        )
    elif what == "nobody's mask":
        _mask(tile / "ground_truth" / "cut" / "017_mask.png", MIDDLE)
    elif what == "two masks":
        _mask(tile / "ground_truth" / "cut" / "001_mask.png", MIDDLE)
    elif what == "two images":
        _picture(tile / "test" / "cut" / "001.jpg", 90)
    elif what == "deep":
        Image.fromarray(np.full((8, 8), 1023, dtype=np.uint16)).save(tile / "train" / "good" / "001.png")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("damaged", r"cannot read the image .*tile/train/good/001.png: damaged, or not an image"),
        ("no image", r"cannot read the image .*tile/test/cut/001.png"),
        (
            "other size",
            r"mask .*tile/ground_truth/cut/000_mask.png has 9 x 8 pixels, its image .*tile/test/cut/000.JPEG 8 x 8",
        ),
        (
            "empty mask",
            r"mask .*tile/ground_truth/hole/000_mask.png is empty, but .*tile/test/hole/000.bmp counts as defective",
        ),
        ("nothing to learn", r"category tile is empty: no image in .*tile/train/good"),
        ("no masks", r"no folder .*tile/ground_truth/hole with the masks of .*tile/test/hole"),
        (
            "twice",
            r"tile/test/good/007.png is a test image, but the same file is learned from as .*carpet/train/good/001.png",
        ),
        ("nobody's mask", r"mask .*017_mask.png belongs to no image in .*tile/test/cut"),
        ("two masks", r"001.PNG and 001_mask.png in .*tile/ground_truth/cut are both masks of 001"),
        ("two images", r"tile/test/cut has two images of one name"),
        (
            "deep",
            r"image .*tile/train/good/001.png is of 16 bits and has no value above 1023, which shows as black",
        ),
    ],
)
def test_bad_files_are_named(tmp_path: Path, what: str, message: str) -> None:
    root = _mvtec(tmp_path / "mvtec")
    _break(root, what)
    with pytest.raises(UserError, match=message):
        _read(trees(root, ("carpet", "tile"), masks_expected=True))
    assert _read(trees(root, ("carpet",), masks_expected=True)).train.sum() == 3


def test_a_category_that_is_not_there_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown category 'carpets'; did you mean 'carpet'\?"):
        trees(_mvtec(tmp_path / "mvtec"), ("carpets",), masks_expected=True)


def test_what_systems_and_editors_keep_in_a_folder_is_no_category_no_kind_and_no_image(
    tmp_path: Path,
) -> None:
    root = _mvtec(tmp_path / "mvtec")
    before = hashed(trees(root, categories_of(root), masks_expected=True)).digest()
    hidden = (".ipynb_checkpoints", "__MACOSX", "@eaDir", "._cut")
    for number, name in enumerate(hidden):
        for place in (
            root,
            root / "tile" / "test",
            root / "tile" / "test" / "cut",
            root / "tile" / "ground_truth",
        ):
            _picture(place / name / "train" / "good" / "000.png", 60 + number)
            _picture(place / name / "000.png", 70 + number)
    for folder in ("train/good", "test/cut", "ground_truth/cut"):
        for name in ("._000.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
            (root / "tile" / folder / name).write_bytes(b"of the system")
    assert categories_of(root) == ("carpet", "tile")
    files = trees(root, categories_of(root), masks_expected=True)
    assert kinds_of(files) == ("good", "cut", "hole")
    assert hashed(files).digest() == before
    with pytest.raises(UserError) as problem:
        trees(root, ("__MACOS",), masks_expected=True)
    assert not any(name in str(problem.value) for name in hidden)


def test_every_format_counts_and_what_is_not_read_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _mvtec(tmp_path / "mvtec")
    images = _all(_read(trees(root, ("tile",), masks_expected=True)))[0]
    good = root / "tile" / "train" / "good"
    for name, other in (("000", "000.WEBP"), ("001", "001.tiff"), ("002", "002.Bmp")):
        with Image.open(good / f"{name}.png") as opened:
            opened.save(good / other, **({"lossless": True} if other.endswith("WEBP") else {}))
        (good / f"{name}.png").unlink()
    files = trees(root, ("tile",), masks_expected=True)
    assert np.array_equal(_all(_read(files))[0], images)
    assert "left out" not in caplog.text
    (good / "003.heic").write_bytes(b"ftypheic")
    assert len(trees(root, ("tile",), masks_expected=True)) == len(files)
    assert (
        "1 files among pictures are in no format that is read and are left out: .heic (1); the first of "
        f"them is {good / '003.heic'}"
    ) in (caplog.text)
    crack = root / "tile" / "test" / "crack"
    crack.mkdir()
    (crack / "000.HEIC").write_bytes(b"ftypheic")
    with pytest.raises(
        UserError, match=r"tile/test/crack has no picture in a format that is read, only \.heic \(1\)"
    ):
        trees(root, ("tile",), masks_expected=False)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_an_image_that_exif_turns_and_its_mask_are_brought_to_one_orientation(
    tmp_path: Path, suffix: str
) -> None:
    """The picture is white where the mask, drawn on what a viewer shows, says; it is stored lying on its
    side.
    """
    image, mask = tmp_path / f"a{suffix}", tmp_path / "a_mask.png"
    pixels = np.zeros((24, 40), dtype=np.uint8)
    pixels[2:10, 4:30] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.repeat(np.rot90(pixels)[..., None], 3, axis=2))
    stored.save(image, exif=exif, quality=97)
    Image.fromarray(pixels).save(mask)
    sizes = Sizes(resize=24, crop=0, keep_aspect=True)
    shown = _packed(image, sizes)[np.array([0])][0]
    pack = packed_masks([mask], [image], digests_of([mask]), sizes, resolution=24, rule=">0.5")
    assert np.array_equal(pack[np.array([0])][0], pixels[:, 8:32] > 0)
    assert np.array_equal(shown.mean(axis=0) > 127, pixels[:, 8:32] > 0)
    Image.fromarray(np.rot90(pixels)).save(mask)
    with pytest.raises(
        UserError,
        match=r"has 24 x 40 pixels, its image .* 40 x 24; one of them lies on its side, an EXIF orientation",
    ):
        packed_masks([mask], [image], digests_of([mask]), sizes, resolution=24, rule=">0.5")


def test_a_single_defective_image_may_lack_its_mask(tmp_path: Path) -> None:
    root = _mvtec(tmp_path / "mvtec")
    (root / "tile" / "ground_truth" / "cut" / "001.PNG").unlink()
    pool = _read(trees(root, ("tile",), masks_expected=True))
    assert pool.has_mask.tolist() == [False, False, False, True, False, False, True]


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    files = trees(_mvtec(tmp_path / "mvtec"), ("tile",), masks_expected=True)
    files[0].path.unlink()
    with pytest.raises(UserError, match=r"cannot read .*tile/train/good/000.png"):
        hashed(files)


# --- packs --------------------------------------------------------------------------------------------------


def _gradient(path: Path, size: tuple[int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[: size[1], : size[0]]
    Image.fromarray(np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)).save(path)
    return path


def _packed(path: Path, sizes: Sizes) -> Packed:
    return packed_images([path], digests_of([path]), sizes)


def test_images_are_resized_and_the_centre_is_kept(tmp_path: Path) -> None:
    path = _gradient(tmp_path / "a.png", (96, 64))
    with Image.open(path) as opened:
        for sizes, width, box in (
            (Sizes(resize=48, crop=32), 48, (8, 8, 40, 40)),
            (Sizes(resize=48, crop=0), 48, (0, 0, 48, 48)),
            (Sizes(resize=48, crop=32, keep_aspect=True), 72, (20, 8, 52, 40)),
            (Sizes(resize=48, crop=0, keep_aspect=True), 72, (12, 0, 60, 48)),
        ):
            expected = np.asarray(opened.resize((width, 48), Image.Resampling.BILINEAR).crop(box)).transpose(
                2, 0, 1
            )
            assert np.array_equal(_packed(path, sizes)[np.array([0])][0], expected)
    with pytest.raises(UserError, match="crop=64 is larger than resize=48"):
        Sizes(resize=48, crop=64)


def test_kept_aspect_agrees_with_torchvision(tmp_path: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    path = _gradient(tmp_path / "a.png", (101, 64))
    with Image.open(path) as opened:
        for resize in (48, (48, 48)):
            expected = np.asarray(
                transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(32)])(opened)
            ).transpose(2, 0, 1)
            found = _packed(path, Sizes(resize=48, crop=32, keep_aspect=resize == 48))
            assert np.array_equal(found[np.array([0])][0], expected)


def test_masks_go_the_way_of_the_released_code(tmp_path: Path) -> None:
    """Resize and crop as the image, nearest pixels of torch, then the rule: the two rules differ at the
    border of a defect.
    """
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms")
    image, mask = _gradient(tmp_path / "a.png", (50, 40)), tmp_path / "a_mask.png"
    pixels = np.zeros((40, 50), dtype=np.uint8)
    pixels[11:23, 17:32] = 255
    Image.fromarray(pixels).save(mask)
    tensor = transforms.Compose(
        [transforms.Resize((28, 28)), transforms.CenterCrop(24), transforms.ToTensor()]
    )(Image.open(mask))
    nearest = torch.nn.functional.interpolate(tensor[None], size=17, mode="nearest")[0, 0].numpy()
    found = {}
    for rule, least in ((">0.5", 0.5), (">0", 0.0)):
        pack = packed_masks(
            [mask], [image], digests_of([mask]), Sizes(resize=28, crop=24), resolution=17, rule=rule
        )
        found[rule] = pack[np.array([0])][0]
        assert np.array_equal(found[rule], nearest > least)
    assert found[">0"].sum() > found[">0.5"].sum() > 0


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_any_value_but_zero_is_defective_in_every_kind_of_mask(tmp_path: Path, mode: str) -> None:
    image, mask = _gradient(tmp_path / "a.png", (8, 8)), tmp_path / "a_mask.png"
    drawn_mask = Image.fromarray(_box(MIDDLE).astype(np.uint8) * (255 if mode == "1" else 1))
    if mode == "P":
        drawn_mask = drawn_mask.copy()
        drawn_mask.putpalette([0, 0, 0, 255, 0, 0])
    else:
        drawn_mask = drawn_mask.convert(mode)
    drawn_mask.save(mask)
    pack = packed_masks([mask], [image], digests_of([mask]), WHOLE, resolution=8, rule=">0.5")
    assert np.array_equal(pack[np.array([0])][0], _box(MIDDLE))


def test_noise_of_a_compressed_mask_is_no_defect(tmp_path: Path) -> None:
    image, mask = _gradient(tmp_path / "a.png", (32, 32)), tmp_path / "a_mask.jpg"
    pixels = np.zeros((32, 32), dtype=np.uint8)
    pixels[7:18, 9:20] = 255
    Image.fromarray(pixels).save(mask, quality=60)
    pack = packed_masks(
        [mask], [image], digests_of([mask]), Sizes(resize=32, crop=0), resolution=32, rule=">0.5"
    )
    assert np.array_equal(pack[np.array([0])][0], pixels > 0)


def test_a_pack_is_in_order_of_hashes_and_a_subset_holds_path_and_numbers_alone(tmp_path: Path) -> None:
    files = trees(_mvtec(tmp_path / "mvtec"), ("carpet", "tile"), masks_expected=True)
    content = hashed(files)
    pool = _read(files)
    inputs = pool.inputs
    assert isinstance(inputs, Packed)
    assert isinstance(inputs, Divisible)
    assert np.array_equal(np.argsort(inputs.rows), np.argsort(content.images, kind="stable"))
    assert Path(inputs.path).name.startswith("pack-")
    assert "tile" not in Path(inputs.path).name
    few = inputs.subset(np.array([9, 2]))
    assert few.shape == (2, 3, 8, 8)
    assert len(few) == 2
    assert few.rows.base is None
    assert np.array_equal(few[np.array([1, 0])], inputs[np.array([2, 9])])
    assert few[np.zeros(0, dtype=np.int64)].shape == (0, 3, 8, 8)


def test_a_pack_is_made_once_and_a_damaged_one_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scenarios.datasets import pack_files, packed

    files = trees(_mvtec(tmp_path / "mvtec"), ("tile",), masks_expected=True)
    first = _read(files)
    images = _all(first)[0]
    made: list[Path] = []
    inner: Callable[[Path], Image.Image] = packed.shown

    def decoded(path: Path) -> Image.Image:
        made.append(path)
        return inner(path)

    monkeypatch.setattr(packed, "shown", decoded)
    assert np.array_equal(_all(_read(files))[0], images)
    assert not made
    assert isinstance(first.inputs, Packed)
    pack = Path(first.inputs.path)
    pack.write_bytes(pack.read_bytes()[:200])
    pack_files.opened.cache_clear()
    assert np.array_equal(_all(_read(files))[0], images)
    assert len(made) == len(files)
    assert not list(pack.parent.glob("*.tmp*"))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    files = trees(_mvtec(tmp_path / "mvtec"), ("tile",), masks_expected=True)
    before, digest = _all(_read(files))[0], hashed(files).digest()
    _picture(files[0].path, 200, size=(9, 9))
    after = _all(_read(files))[0]
    assert not np.array_equal(before[0], after[0])
    assert np.array_equal(before[1:], after[1:])
    assert hashed(files).digest() != digest


def test_a_cache_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot keep the packed items in .*; set OWB_CACHE"):
        _read(trees(_mvtec(tmp_path / "mvtec"), ("tile",), masks_expected=True))


def test_the_digest_is_of_contents_and_roles_not_of_places(tmp_path: Path) -> None:
    digests = []
    for place in ("here", "there"):
        files = trees(_mvtec(tmp_path / place), ("carpet", "tile"), masks_expected=True)
        digests.append(hashed(files).digest())
    assert digests[0] == digests[1]
    assert kinds_of(files) == ("good", "cut", "hole")
    swapped = [
        ImageFile(
            path=file.path,
            category=file.category,
            defect="cut" if file.defect == "hole" else file.defect,
            train=file.train,
            sample=file.sample,
            mask=file.mask,
        )
        for file in files
    ]
    assert hashed(swapped).digest() != digests[0]


def test_loco_has_several_masks_an_image_and_what_any_of_them_marks_is_defective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = formats.mvtec_loco(tmp_path)
    monkeypatch.setenv("OWB_DATA", str(tmp_path))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    scenario = configured("scenario", "anomaly[source=mvtec-loco,resize=24,crop=24]")
    deal = scenario.deal(0)
    asked = deal.stages[-1].query
    assert len(np.unique(deal.labels)) == 5
    assert sum(len(stage.rows) for stage in deal.stages) == 10  # those to validate on are left out
    assert deal.facts["anomalous"][asked].tolist().count(1) == 10
    masks = np.asarray(deal.facts["mask"][asked[deal.facts["anomalous"][asked] > 0]])
    one, both = np.zeros((24, 24), dtype=bool), np.zeros((24, 24), dtype=bool)
    one[4:12, 4:12] = both[4:12, 4:12] = both[16:24, 4:12] = True
    assert sorted(mask.tobytes() for mask in masks) == sorted([one.tobytes(), both.tobytes()] * 5)
    before = scenario.data_digests()
    second = root / "pushpins" / "ground_truth" / "logical_anomalies" / "000" / "001.png"
    second.unlink()
    assert scenario.data_digests() != before
    second.parent.rename(second.parent.with_name("009"))
    with pytest.raises(UserError, match=r"009 has masks of no image in .*pushpins/test/logical_anomalies"):
        scenario.deal(0)


def test_ad_2_is_tested_on_its_public_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formats.mvtec_ad_2(tmp_path)
    monkeypatch.setenv("OWB_DATA", str(tmp_path))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    deal = configured("scenario", "anomaly[source=mvtec-ad-2,resize=24,crop=24,categories=can+vial]").deal(0)
    asked = deal.stages[-1].query
    assert (len(np.concatenate([stage.rows for stage in deal.stages])), len(asked)) == (4, 4)
    assert deal.facts["anomalous"][asked].tolist().count(1) == 2
    assert deal.facts["has_mask"][asked].sum() == 2
