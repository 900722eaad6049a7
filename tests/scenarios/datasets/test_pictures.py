"""Pictures as a viewer shows them, whatever their mode and format, and which files of a folder are pictures."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from harness.errors import UserError
from scenarios.datasets.picture_folders import folders_in, images_in, is_hidden, picture_suffixes
from scenarios.datasets.pictures_shown import marked, shown, size_shown

SCENE = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
BOX = np.zeros((6, 10), dtype=bool)
BOX[1:4, 2:9] = True


def _saved(path: Path, image: Image.Image, **more: Any) -> Path:
    image.save(path, **more)
    return path


def _indexed(numbers: NDArray[Any], *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(numbers.astype(np.uint8))
    image.putpalette([value for colour in colours for value in colour])
    return image


# --- photographs --------------------------------------------------------------------------------------------


TURNED: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}
"""What the eight orientations of EXIF 2.3 (4.6.4, tag 0x0112) do to an array of rows from the top."""


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_photograph_is_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _saved(
        tmp_path / f"a{suffix}",
        Image.fromarray(SCENE),
        exif=exif,
        **({"lossless": True} if suffix == ".webp" else {}),
    )
    expected = TURNED[orientation](SCENE)
    np.testing.assert_array_equal(np.asarray(shown(path)), expected)
    assert size_shown(path) == expected.shape[1::-1]


def test_orientations_are_those_of_the_two_jpegs_of_one_scene(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    path = _saved(tmp_path / "a.jpg", Image.fromarray(SCENE), exif=exif, quality=90)
    plain = _saved(tmp_path / "b.jpg", Image.fromarray(SCENE), quality=90)
    np.testing.assert_array_equal(np.asarray(shown(path)), np.rot90(np.asarray(shown(plain))))
    assert (size_shown(path), size_shown(plain)) == ((6, 10), (10, 6))


def test_damaged_exif_leaves_a_photograph_as_it_is_stored(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.png", Image.fromarray(SCENE), exif=b"Exif\x00\x00no such header at all")
    np.testing.assert_array_equal(np.asarray(shown(path)), SCENE)
    assert size_shown(path) == (10, 6)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_ordinary_photograph_keeps_the_bytes_that_pillow_decodes(
    tmp_path: Path, mode: str, suffix: str
) -> None:
    path = _saved(tmp_path / f"a{suffix}", Image.fromarray(SCENE).convert(mode))
    with Image.open(path) as opened:
        np.testing.assert_array_equal(np.asarray(shown(path)), np.asarray(opened.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "P with bytes"])
def test_colours_below_what_is_clear_do_not_show(tmp_path: Path, mode: str) -> None:
    """The right half is clear, half of the left one lets half of the white through."""
    image, hidden = Image.new("RGBA", (4, 2), (200, 100, 50, 255)), (10, 20, 30, 0)
    if mode in ("RGBA", "LA"):
        image.putpixel((0, 0), (200, 100, 50, 128))
        for place in ((2, 0), (3, 0), (2, 1), (3, 1)):
            image.putpixel(place, hidden)
        image = image.convert(mode)
        path = _saved(tmp_path / "a.png", image)
        colour = np.array(image.getpixel((0, 1)))[:-1]
        np.testing.assert_allclose(
            np.asarray(shown(path))[0, 0],
            [255 + (value - 255) * 128 / 255 for value in np.broadcast_to(colour, 3)],
            atol=1,
        )
    else:
        numbers = np.array([[0, 0, 1, 1]] * 2)
        indexed = _indexed(numbers, (200, 100, 50), hidden[:3])
        path = _saved(tmp_path / "a.png", indexed, transparency=1 if mode == "P" else b"\xff\x00")
        colour = np.array((200, 100, 50))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = np.asarray(shown(path))
    assert (found[:, 2:] == 255).all()
    assert (found[1, :2] == colour).all()


def test_photographs_of_other_modes_show_their_colours(tmp_path: Path) -> None:
    indexed = _saved(tmp_path / "p.png", _indexed(BOX, (9, 8, 7), (200, 100, 0)))
    np.testing.assert_array_equal(
        np.asarray(shown(indexed)), np.where(BOX[..., None], (200, 100, 0), (9, 8, 7))
    )
    bits = _saved(tmp_path / "1.png", Image.fromarray(BOX))
    np.testing.assert_array_equal(np.asarray(shown(bits)), np.repeat(255 * BOX[..., None], 3, axis=2))
    inks = _saved(tmp_path / "c.tif", Image.new("CMYK", (3, 2), (255, 0, 0, 0)))
    np.testing.assert_array_equal(np.asarray(shown(inks)), np.broadcast_to((0, 255, 255), (2, 3, 3)))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_show_their_high_byte_or_are_refused_where_they_show_black(
    tmp_path: Path, suffix: str
) -> None:
    values = np.array([[0, 255, 256, 32_767], [32_768, 65_279, 65_280, 65_535]], dtype=np.uint16)
    path = _saved(tmp_path / f"a{suffix}", Image.fromarray(values))
    np.testing.assert_array_equal(np.asarray(shown(path))[..., 0], [[0, 0, 1, 127], [128, 254, 255, 255]])
    np.testing.assert_array_equal(marked(path), values > 0)
    path = _saved(tmp_path / f"b{suffix}", Image.fromarray(values // 16))
    with pytest.raises(
        UserError,
        match=rf"image .*b\{suffix} is of 16 bits and has no value above 4095, which shows as black",
    ):
        shown(path)
    np.testing.assert_array_equal(marked(path), values > 15)


def test_values_that_no_viewer_shows_alike_are_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path / "f.tif", Image.fromarray(np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10)))
    with pytest.raises(UserError, match=r"image .*f\.tif is of mode F, which viewers do not show alike"):
        shown(path)


# --- masks --------------------------------------------------------------------------------------------------


WHITE, BLACK, CLEAR = (255, 255, 255), (0, 0, 0), (255, 255, 255, 0)


def _layer(ground: tuple[int, ...], paint: tuple[int, ...]) -> Image.Image:
    return Image.fromarray(np.where(BOX[..., None], paint, ground).astype(np.uint8))


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(_indexed(BOX, BLACK, WHITE), id="indexed"),
        pytest.param(_indexed(~BOX, WHITE, BLACK), id="indexed, white first"),
        pytest.param(
            _indexed(np.where(BOX, 7, 3), *[(90, 0, 0)] * 3, BLACK, *[(90, 0, 0)] * 3, (0, 0, 1)),
            id="indexed, any numbers",
        ),
        pytest.param(_layer((*BLACK, 255), (*WHITE, 255)), id="opaque"),
        pytest.param(_layer(CLEAR, (*WHITE, 255)), id="painted on white that is clear"),
        pytest.param(_layer((*BLACK, 0), (255, 0, 0, 128)), id="painted half through on black that is clear"),
        pytest.param(_layer(CLEAR, (*WHITE, 255)).convert("LA"), id="grey and clear"),
        pytest.param(Image.fromarray(BOX), id="1 bit"),
        pytest.param(Image.fromarray(BOX.astype(np.uint8)), id="one of 255"),
        pytest.param(Image.fromarray(BOX.astype(np.uint16)), id="one of 65535"),
        pytest.param(_layer(BLACK, (0, 0, 3)), id="dark blue"),
    ],
)
def test_a_mask_marks_what_is_not_black(tmp_path: Path, mask: Image.Image) -> None:
    np.testing.assert_array_equal(marked(_saved(tmp_path / "m.png", mask)), BOX)


def test_a_mask_with_a_clear_entry_marks_the_others(tmp_path: Path) -> None:
    mask = _saved(tmp_path / "m.png", _indexed(BOX, WHITE, (255, 0, 0)), transparency=0)
    np.testing.assert_array_equal(marked(mask), BOX)


def test_a_mask_of_inks_and_one_of_real_numbers(tmp_path: Path) -> None:
    inks = Image.fromarray(np.where(BOX[..., None], 0, (0, 0, 0, 255)).astype(np.uint8), mode="CMYK")
    np.testing.assert_array_equal(marked(_saved(tmp_path / "c.tif", inks)), BOX)
    np.testing.assert_array_equal(
        marked(_saved(tmp_path / "f.tif", Image.fromarray(BOX.astype(np.float32)))), BOX
    )


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_where_a_format_changes_values_the_nearer_of_black_and_white_counts(
    tmp_path: Path, suffix: str
) -> None:
    drawn = np.zeros((32, 48), dtype=np.uint8)
    drawn[5:18, 9:29] = 255
    path = _saved(tmp_path / f"m{suffix}", Image.fromarray(drawn), quality=60)
    with Image.open(path) as opened:
        assert len(np.unique(np.asarray(opened.convert("L")))) > 2
    np.testing.assert_array_equal(marked(path), drawn > 0)


def test_a_webp_without_loss_marks_all_but_black(tmp_path: Path) -> None:
    path = _saved(
        tmp_path / "m.webp",
        Image.fromarray(np.repeat(BOX[..., None], 3, axis=2).astype(np.uint8)),
        lossless=True,
    )
    np.testing.assert_array_equal(marked(path), BOX)


@pytest.mark.parametrize("orientation", TURNED)
def test_a_mask_is_turned_as_its_own_exif_says(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _saved(tmp_path / "m.png", Image.fromarray(BOX), exif=exif)
    np.testing.assert_array_equal(marked(path), TURNED[orientation](BOX))


# --- folders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [".git", "._a.png", ".DS_Store", "__MACOSX", "Thumbs.db", "thumbs.DB", "desktop.ini", "@eaDir"]
)
def test_what_systems_keep_is_hidden(name: str) -> None:
    assert is_hidden(name)
    assert not is_hidden(f"a{name}")


def test_the_pictures_of_a_folder_are_those_of_every_format_sorted_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [
        "B.PNG",
        "a.jpeg",
        "b.JPG",
        "c.jfif",
        "d.webp",
        "e.bmp",
        "f.TIF",
        "g.gif",
        "h.ppm",
        "i.tga",
        "j.jp2",
    ]
    for name in [*reversed(names), ".hidden.png", "Thumbs.db"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    (found, none) = images_in([tmp_path, tmp_path / "no folder"])
    assert [path.name for path in found] == sorted([*names, "gone.png", "round.png"])
    assert none == []
    assert not caplog.text
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "x.HEIC").write_text("")
    with caplog.at_level(logging.WARNING, "scenarios"):
        for _ in range(2):
            assert images_in([tmp_path]) == [found]
    assert caplog.text.count("left out") == 1
    assert (
        "2 files among pictures are in no format that is read and are left out: .heic (1), .txt (1); the "
        f"first of them is {tmp_path}"
    ) in (caplog.text)


def test_suffixes_are_of_formats_that_pillow_decodes_by_itself() -> None:
    assert {
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".gif",
        ".ppm",
        ".jp2",
    } <= picture_suffixes()
    assert not {".h5", ".hdf", ".mpg", ".eps", ".ps", ".pdf", ".txt", ".json", ""} & picture_suffixes()


def test_folders_that_count_are_sorted(tmp_path: Path) -> None:
    for name in ("b", "a", ".git", "__MACOSX", "lost+found"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert folders_in(tmp_path) == ["a", "b", "link"]
    assert folders_in(tmp_path / "nowhere") == []
