"""The same small pictures as folders, a table, arrays and data sets of Hugging Face."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

NAMES = ("ant", "bee", "cat", "dog")


class Lot(NamedTuple):
    """Pictures uint8 (N, 3, 12, 12), the class and part of each, and the PNG files they lie in."""

    pixels: np.ndarray
    labels: list[str]
    parts: list[str]
    files: list[Path]


def pictures(root: Path, *, train: int = 8, test: int = 3) -> Lot:
    """Write ROOT/{train,test}/<class>/*.png; every class has a colour of its own, under noise."""
    rng = np.random.default_rng(0)
    pixels, labels, parts, files = [], [], [], []
    for part, items in (("test", test), ("train", train))[::-1]:
        for number, name in enumerate(NAMES):
            for item in range(items):
                shown = rng.integers(0, 90, (12, 12, 3), dtype=np.uint8)
                shown[:, :, number % 3] += np.uint8(60 + 60 * (number // 3))
                files.append(root / part / name / f"{item}.png")
                files[-1].parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(shown).save(files[-1])
                pixels.append(shown.transpose(2, 0, 1))
                labels.append(name)
                parts.append(part)
    return Lot(np.stack(pixels), labels, parts, files)


def table(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str]) -> Path:
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def _folder(lot: Lot, root: Path) -> str:
    return f"folder[root={lot.files[0].parents[2]}]"


def _csv(lot: Lot, root: Path) -> str:
    rows = list(zip(lot.files, lot.labels, lot.parts, strict=True))
    path = table(root / "birds.csv", rows, ("picture", "species", "part"))
    above = lot.files[0].parents[2]
    return f"table[path={path},root={above},image=picture,label=species,split=part]"


def _parquet(lot: Lot, root: Path) -> str:
    import pandas as pd

    above = lot.files[0].parents[2]
    content = {
        "file": [str(file.relative_to(above)) for file in lot.files],
        "label": lot.labels,
        "split": lot.parts,
    }
    pd.DataFrame(content).to_parquet(root / "birds.parquet")
    return f"table[path={root}/birds.parquet,root={above},image=file,split=split]"


def _archive(lot: Lot, root: Path) -> str:
    np.savez(root / "birds.npz", inputs=lot.pixels, labels=np.array(lot.labels), split=np.array(lot.parts))
    return f"arrays[path={root}/birds.npz]"


def _numbered(lot: Lot, root: Path) -> str:
    """As .npy files, labels as numbers of named classes; mapped."""
    content = {
        "inputs": lot.pixels,
        "labels": np.array([NAMES.index(name) for name in lot.labels], dtype=np.uint8),
        "split": np.array(lot.parts),
        "class_names": np.array(NAMES),
    }
    (root / "birds").mkdir()
    for name, values in content.items():
        np.save(root / "birds" / f"{name}.npy", values)
    return f"arrays[path={root}/birds,memory=0]"


def hugging_face(lot: Lot):  # type: ignore[no-untyped-def]
    """Return the pictures as `datasets.DatasetDict`, the test first."""
    import datasets

    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=[*NAMES])})
    found = {}
    for part in ("test", "train"):
        rows = [row for row in range(len(lot.labels)) if lot.parts[row] == part]
        content = {
            "image": [{"bytes": lot.files[row].read_bytes(), "path": None} for row in rows],
            "label": [NAMES.index(lot.labels[row]) for row in rows],
        }
        found[part] = datasets.Dataset.from_dict(content, features=kinds)
    return datasets.DatasetDict(found)


def _saved(lot: Lot, root: Path) -> str:
    hugging_face(lot).save_to_disk(str(root / "saved"))
    return f"huggingface[path={root}/saved]"


def _hub(lot: Lot, root: Path) -> str:
    (root / "hub" / "data").mkdir(parents=True)
    for part, content in hugging_face(lot).items():
        content.to_parquet(str(root / "hub" / "data" / f"{part}-00000-of-00001.parquet"))
    return f"huggingface[path={root}/hub]"


WRITERS: dict[str, Callable[[Lot, Path], str]] = {
    "folder": _folder,
    "csv": _csv,
    "parquet": _parquet,
    "npz": _archive,
    "npy": _numbered,
    "saved": _saved,
    "hub": _hub,
}
OF_HUGGING_FACE = ("saved", "hub")
