"""Writers of tiny data sets, each in the true format of its publisher; what an item shows follows from its
class and number.
"""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

WNIDS = [f"n{1_440_764 + 7 * number:08}" for number in range(1000)]
"""A thousand ids in sorted order."""


def pixels(
    label: int, number: int, *, test: bool = False, side: int = 32, channels: int = 3
) -> NDArray[np.uint8]:
    """Return uint8 (channels, side, side) that no other item has; the first row tells label and number."""
    image = np.random.default_rng((label, number, test)).integers(
        0, 256, (channels, side, side), dtype=np.uint8
    )
    image[:, 0, :3] = label % 256, label // 256, number
    return image


def colour(label: int, number: int, *, test: bool = False) -> tuple[int, int, int]:
    """Return the one colour of a picture."""
    return (37 * label) % 256, (90 * number + 20) % 256, 200 if test else 50


def picture(
    path: Path, label: int, number: int, *, test: bool = False, size: tuple[int, int] = (10, 8)
) -> None:
    """Write a picture of one colour in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour(label, number, test=test)).save(
        path, **({"format": "JPEG"} if path.suffix == ".JPEG" else {})
    )


# --- pickles as Python 2 wrote them -------------------------------------------------------------------------


def python2_pickle(value: Any) -> bytes:
    """Return protocol 2 as Python 2 and the numpy of its day write it: text and raw bytes are both `str`."""
    return b"\x80\x02" + _emitted(value) + b"."


def _emitted(value: Any) -> bytes:
    if isinstance(value, str | bytes):
        content = value.encode() if isinstance(value, str) else value
        return b"T" + struct.pack("<i", len(content)) + content
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_emitted, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_emitted(key) + _emitted(item) for key, item in value.items()) + b"u"
    dtype = b"cnumpy\ndtype\n" + b"(" + _emitted(value.dtype.str[1:]) + _emitted(0) + _emitted(1) + b"tR"
    dtype += (
        b"(" + _emitted(3) + _emitted(value.dtype.str[0]) + b"NNN" + 2 * _emitted(-1) + _emitted(0) + b"tb"
    )
    shape = b"(" + b"".join(_emitted(side) for side in value.shape) + b"t"
    made = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n("
        + _emitted(0)
        + b"t"
        + _emitted("b")
        + b"\x87R"
    )
    return made + b"(" + _emitted(1) + shape + dtype + b"\x89" + _emitted(value.tobytes()) + b"tb"


def cifar100(above: Path, *, train: int = 2, test: int = 1, classes: int = 100) -> Path:
    """Write cifar-100-python with so many images of every class, the classes in turn."""
    folder = above / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, each in (("train", train), ("test", test)):
        labels = [label for _ in range(each) for label in range(classes)]
        rows = np.stack(
            [
                pixels(label, place // classes, test=name == "test").ravel()
                for place, label in enumerate(labels)
            ]
        )
        content = {
            "filenames": [f"{place}.png" for place in range(len(labels))],
            "batch_label": f"{name}ing batch 1 of 1",
            "fine_labels": labels,
            "coarse_labels": [label // 5 for label in labels],
            "data": rows,
        }
        (folder / name).write_bytes(python2_pickle(content))
    names = {
        "fine_label_names": [f"fine {label}" for label in range(classes)],
        "coarse_label_names": [f"coarse {n}" for n in range(20)],
    }
    (folder / "meta").write_bytes(python2_pickle(names))
    return folder


def cifar10(above: Path, *, each: int = 1) -> Path:
    """Write cifar-10-batches-py: in each batch so many images of every class."""
    folder = above / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for batch, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        labels = [label for _ in range(each) for label in range(10)]
        rows = np.stack(
            [pixels(label, batch * each + place // 10).ravel() for place, label in enumerate(labels)]
        )
        content = {
            "batch_label": name,
            "labels": labels,
            "data": rows,
            "filenames": [f"{place}.png" for place in range(len(labels))],
        }
        (folder / name).write_bytes(python2_pickle(content))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(
        python2_pickle({"num_cases_per_batch": 10 * each, "label_names": names, "num_vis": 3072})
    )
    return folder


def cifar100_c(above: Path, *, size: int = 4) -> Path:
    """Write CIFAR-100-C with two corruptions: `size` images at each of five severities."""
    folder = above / "CIFAR-100-C"
    folder.mkdir(parents=True)
    for number, name in enumerate(("gaussian_noise", "fog")):
        images = [
            pixels(item, 10 * severity + number).transpose(1, 2, 0)
            for severity in range(1, 6)
            for item in range(size)
        ]
        np.save(folder / f"{name}.npy", np.stack(images))
    np.save(folder / "labels.npy", np.tile(np.arange(size, dtype=np.uint8), 5))
    return folder


def svhn(above: Path, *, each: int = 2) -> Path:
    """Write SVHN's three files; ten stands for the digit zero."""
    folder = above / "svhn"
    folder.mkdir(parents=True)
    for part, name in enumerate(("train", "test", "extra")):
        labels = [label for _ in range(each) for label in range(1, 11)]
        images = [
            pixels(label, 10 * part + place // 10).transpose(1, 2, 0) for place, label in enumerate(labels)
        ]
        savemat(
            folder / f"{name}_32x32.mat",
            {"X": np.stack(images, axis=-1), "y": np.array(labels, dtype=np.uint8)[:, None]},
        )
    return folder


# --- idx ----------------------------------------------------------------------------------------------------


def idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Write an array of bytes as idx, packed where the name ends in .gz."""
    content = (
        bytes((0, 0, 8, array.ndim))
        + b"".join(struct.pack(">I", side) for side in array.shape)
        + array.tobytes()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def mnist(
    folder: Path,
    *,
    prefix: str = "",
    parts: Sequence[str] = ("train", "t10k"),
    end: str = ".gz",
    first: int = 0,
    classes: int = 10,
    by_column: bool = False,
) -> Path:
    """Write four idx files with two training items and one test item of every class; the first class has the
    label `first`.
    """
    for part, each in zip(parts, (2, 1), strict=True):
        labels = [label for _ in range(each) for label in range(classes)]
        images = [
            pixels(label, place // classes, test=each == 1, side=28, channels=1)[0]
            for place, label in enumerate(labels)
        ]
        stored = np.stack([image.T if by_column else image for image in images])
        idx(folder / f"{prefix}{part}-images-idx3-ubyte{end}", stored)
        idx(
            folder / f"{prefix}{part}-labels-idx1-ubyte{end}",
            np.array(labels, dtype=np.uint8) + np.uint8(first),
        )
    return folder


def emnist_letters(above: Path) -> Path:
    """Write EMNIST's letters: labels from 1, images by column, both cases of a letter in the mapping."""
    folder = mnist(
        above / "emnist",
        prefix="emnist-letters-",
        parts=("train", "test"),
        first=1,
        classes=26,
        by_column=True,
    )
    (folder / "emnist-letters-mapping.txt").write_text(
        "".join(f"{n + 1} {65 + n} {97 + n}\n" for n in range(26))
    )
    return folder


# --- pictures -----------------------------------------------------------------------------------------------


def tinyimagenet(above: Path, *, classes: int = 200, train: int = 2, test: int = 1) -> Path:
    """Write tiny-imagenet-200; wnids.txt is in no order, and the validation goes through the classes
    backwards.
    """
    folder = above / "tiny-imagenet-200"
    for label, wnid in enumerate(WNIDS[:classes]):
        for number in range(train):
            picture(
                folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", label, number, size=(64, 64)
            )
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t10\t63\t58\n")
    rows = [(label, number) for number in range(test) for label in reversed(range(classes))]
    for place, (label, number) in enumerate(rows):
        picture(folder / "val" / "images" / f"val_{place}.JPEG", label, number, test=True, size=(64, 64))
    lines = [f"val_{place}.JPEG\t{WNIDS[label]}\t0\t32\t44\t62\n" for place, (label, _) in enumerate(rows)]
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text(
        "".join(f"{wnid}\n" for wnid in sorted(WNIDS[:classes], key=lambda wnid: wnid[::-1]))
    )
    picture(folder / "test" / "images" / "test_0.JPEG", 0, 0)
    return folder


def imagenet(folder: Path, *, labels: Sequence[int] = range(5), train: int = 2, test: int = 1) -> Path:
    """Write the folders train and val with a folder for each of these classes."""
    for label in labels:
        for part, each in (("train", train), ("val", test)):
            for number in range(each):
                picture(
                    folder / part / WNIDS[label] / f"{WNIDS[label]}_{number}.JPEG",
                    label,
                    number,
                    test=part == "val",
                )
    return folder


def imagenet_of_kaggle(above: Path, *, labels: Sequence[int] = range(5)) -> Path:
    """Write the layout of the Kaggle challenge, whose validation images lie in one folder."""
    folder = imagenet(above / "imagenet" / "ILSVRC" / "Data" / "CLS-LOC", labels=labels, test=0)
    lines = ["ImageId,PredictionString\n"]
    for place, label in enumerate(reversed(labels)):
        picture(folder / "val" / f"ILSVRC2012_val_{place:08}.JPEG", label, 0, test=True)
        lines.append(f"ILSVRC2012_val_{place:08},{WNIDS[label]} 85 1 499 272 \n")
    (above / "imagenet" / "LOC_val_solution.csv").write_text("".join(lines))
    return above / "imagenet"


def cub(above: Path, *, classes: int = 4, train: int = 2, test: int = 1) -> Path:
    """Write CUB_200_2011: numbers of images go through the classes, test items last in each."""
    folder = above / "CUB_200_2011"
    names = [f"{label + 1:03}.Bird_{label}" for label in range(classes)]
    images, labels, parts = [], [], []
    for label, name in enumerate(names):
        for number in range(train + test):
            tested = number >= train
            picture(
                folder / "images" / name / f"Bird_{label}_{number}.jpg",
                label,
                number,
                test=tested,
                size=(12, 9 + number),
            )
            images.append(f"{len(images) + 1} {name}/Bird_{label}_{number}.jpg\n")
            labels.append(f"{len(images)} {label + 1}\n")
            parts.append(f"{len(images)} {int(not tested)}\n")
    (folder / "images.txt").write_text("".join(images))
    (folder / "image_class_labels.txt").write_text("".join(labels))
    (folder / "train_test_split.txt").write_text("".join(parts))
    (folder / "classes.txt").write_text("".join(f"{label + 1} {name}\n" for label, name in enumerate(names)))
    return folder


def cars(above: Path, *, classes: int = 4, each: int = 2, test_labels: bool = True) -> Path:
    """Write Stanford Cars with its annotations; images go backwards through the classes."""
    folder = above / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    labels = [label for label in reversed(range(classes)) for _ in range(each)]
    box = [(f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2")]
    for part, name in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        fields = (
            [*box, ("class", "O"), ("fname", "O")]
            if part == "train" or test_labels
            else [*box, ("fname", "O")]
        )
        rows = np.zeros((1, len(labels)), dtype=fields)
        for place, label in enumerate(labels):
            picture(folder / f"cars_{part}" / f"{place + 1:05}.jpg", label, place, test=part == "test")
            said = {"class": label + 1, "fname": f"{place + 1:05}.jpg"}
            for field, _ in fields:
                rows[field][0, place] = said.get(field, 1)
        savemat(folder / name, {"annotations": rows})
    models = np.array([f"Make {label} Sedan 2012" for label in range(classes)], dtype=object)[None]
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": models})
    return folder


def cars_in_folders(above: Path, *, classes: int = 196) -> Path:
    """Write Stanford Cars as a folder per class."""
    folder = above / "stanford_cars"
    for label in range(classes):
        for part in ("train", "test"):
            picture(
                folder / "car_data" / "car_data" / part / f"Make {label:03} Sedan" / "00001.jpg",
                label,
                0,
                test=part == "test",
            )
    return folder


def aircraft(
    above: Path, *, variants: Sequence[str] = ("707-320", "A380", "An-12", "DC-9-30", "F/A-18"), each: int = 2
) -> Path:
    """Write fgvc-aircraft-2013b."""
    folder = above / "fgvc-aircraft-2013b" / "data"
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for part, lines in lists.items():
        for number in range(each):
            for label, variant in enumerate(variants):
                image = f"{label}{number}{len(part):05}"
                picture(folder / "images" / f"{image}.jpg", label, number, test=part == "test", size=(20, 14))
                lines.append(f"{image} {variant}\n")
        (folder / f"images_variant_{part}.txt").write_text("".join(lines))
    (folder / "variants.txt").write_text("".join(f"{variant}\n" for variant in variants))
    return folder.parent


def animal10n(above: Path, *, train: int = 2, test: int = 1) -> Path:
    """Write the raw images of ANIMAL-10N."""
    for label in range(10):
        for part, each in (("training", train), ("testing", test)):
            for number in range(each):
                picture(
                    above / "animal-10n" / part / f"{label}_{100 * label + number}.jpg",
                    label,
                    number,
                    test=part == "testing",
                    size=(64, 64),
                )
    return above / "animal-10n"


def clothing1m(above: Path, *, inner: str = "annotations", more: Sequence[int] = ()) -> Path:
    """Write Clothing1M: an image of class c in every part, and so many `more` noisy ones, the classes in
    turn; noisy labels say c + 1.
    """
    folder = above / "clothing1m"
    lists = folder / inner
    lists.mkdir(parents=True)
    said: dict[str, list[str]] = {"noisy_train": [], "clean_train": [], "clean_val": [], "clean_test": []}
    labels: dict[str, list[str]] = {"noisy": [], "clean": []}
    for label in range(14):
        for number, part in enumerate(said):
            key = f"images/{label % 10}/{number:02}/{label},{number}.jpg"
            picture(folder / key, label, number, test=part == "clean_test")
            said[part].append(key)
            kind = part.partition("_")[0]
            labels[kind].append(f"{key} {(label + (kind == 'noisy')) % 14}")
    for number, label in sorted(
        (4 + number, label) for label, each in enumerate(more) for number in range(each)
    ):
        key = f"images/{label % 10}/{number:02}/{label},{number}.jpg"
        picture(folder / key, label, number)
        said["noisy_train"].append(key)
        labels["noisy"].append(f"{key} {(label + 1) % 14}")
    for part, keys in said.items():
        (lists / f"{part}_key_list.txt").write_text("\n".join(keys) + "\n")
    for kind, lines in labels.items():
        (lists / f"{kind}_label_kv.txt").write_text("\n".join(lines) + "\n")
    (lists / "category_names_eng.txt").write_text("".join(f"Clothes {label}\n" for label in range(14)))
    return folder


def tar_of(folder: Path, path: Path) -> Path:
    """Write a .tar.gz or .tgz with the files of a folder, which stays."""
    import tarfile

    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


def web_page() -> bytes:
    """Return what a download behind a log-in leaves."""
    return b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"


def jpeg(side: int = 8) -> bytes:
    """Return a whole JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (1, 2, 3)).save(buffer, "JPEG")
    return buffer.getvalue()


WRITERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cifar10": (cifar10, ""),
    "cifar100": (cifar100, ""),
    "cifar100-c": (cifar100_c, ""),
    "svhn": (svhn, ""),
    "mnist": (lambda above: mnist(above / "mnist"), ""),
    "fashion-mnist": (lambda above: mnist(above / "FashionMNIST" / "raw", end=""), ""),
    "emnist": (emnist_letters, "split=letters"),
    "tinyimagenet": (lambda above: tinyimagenet(above, classes=6), ""),
    "imagenet": (lambda above: imagenet(above / "imagenet"), "subset=present,resize=8,crop=6"),
    "cub": (cub, "resize=8,crop=0"),
    "cars": (cars, "resize=8,crop=6"),
    "aircraft": (aircraft, "resize=8,crop=6"),
    "animal10n": (animal10n, "resize=8"),
    "clothing1m": (clothing1m, "resize=8,crop=6"),
}
"""What writes each data set below a folder, and the parameters that it is read back with."""
