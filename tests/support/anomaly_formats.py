"""Writers of tiny data sets of anomaly detection, each in the true format of its publisher; of every category
two images to learn, two to test.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from scenarios.anomaly.names import PUBLISHED

_SIDE = 24


def _image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)).save(
        path
    )


def _mask(path: Path, *, top: int = 4, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((_SIDE, _SIDE), dtype=np.uint8)
    pixels[top : top + 8, 4:12] = value
    Image.fromarray(pixels).save(path)


def mvtec(above: Path) -> Path:
    """Write MVTec-AD."""
    for place, category in enumerate(PUBLISHED["mvtec"]):
        folder = above / "mvtec" / category
        for number, image in enumerate(("train/good/000", "train/good/001", "test/good/000", "test/cut/000")):
            _image(folder / f"{image}.png", 10 * place + number)
        _mask(folder / "ground_truth" / "cut" / "000_mask.png")
    return above / "mvtec"


def mvtec_loco(above: Path) -> Path:
    """Write MVTec LOCO AD: every defective image has a folder of masks, whose values say the kind of defect."""
    for place, category in enumerate(PUBLISHED["mvtec-loco"]):
        folder = above / "mvtec-loco" / category
        for number, image in enumerate(
            (
                "train/good/000",
                "train/good/001",
                "validation/good/000",
                "test/good/000",
                "test/logical_anomalies/000",
                "test/structural_anomalies/000",
            )
        ):
            _image(folder / f"{image}.png", 10 * place + number)
        (folder / "defects_config.json").write_text("[]")
        truth = folder / "ground_truth"
        _mask(truth / "logical_anomalies" / "000" / "000.png", value=200)
        _mask(truth / "logical_anomalies" / "000" / "001.png", value=7, top=16)
        _mask(truth / "structural_anomalies" / "000" / "000.png", value=255)
    return above / "mvtec-loco"


def mvtec_ad_2(above: Path) -> Path:
    """Write MVTec AD 2: masks lie below the public test, and two tests have no labels."""
    for place, category in enumerate(PUBLISHED["mvtec-ad-2"]):
        folder = above / "mvtec-ad-2" / category
        for number, image in enumerate(
            (
                "train/good/000_regular",
                "train/good/001_regular",
                "validation/good/000_regular",
                "test_public/good/000_overexposed",
                "test_public/bad/000_regular",
                "test_private/000_regular",
                "test_private_mixed/000_mixed",
            )
        ):
            _image(folder / f"{image}.png", 10 * place + number)
        _mask(folder / "test_public" / "ground_truth" / "bad" / "000_regular_mask.png")
    return above / "mvtec-ad-2"


def visa(above: Path) -> Path:
    """Write VisA as published, with its table."""
    root = above / "visa"
    rows = ["object,split,label,image,mask"]
    for place, category in enumerate(PUBLISHED["visa"]):
        for number, (part, label) in enumerate(
            (("train", "normal"), ("train", "normal"), ("test", "normal"), ("test", "anomaly"))
        ):
            image = f"{category}/Data/Images/{label.title()}/{number:03}.JPG"
            mask = f"{category}/Data/Masks/Anomaly/{number:03}.png" if label == "anomaly" else ""
            _image(root / image, 10 * place + number)
            if mask:
                _mask(root / mask)
            rows.append(f"{category},{part},{label},{image},{mask}")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(rows))
    return root


def realiad(above: Path) -> Path:
    """Write Real-IAD at 1024 pixels, one camera."""
    root = above / "realiad"
    for place, category in enumerate(PUBLISHED["realiad"]):
        lists: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}
        for number, (part, kind) in enumerate(
            (("train", "OK"), ("train", "OK"), ("test", "OK"), ("test", "NG/pit"))
        ):
            image = f"{kind}/S{number:04}/{category}_{number:04}_C1_2023.jpg"
            mask = None if kind == "OK" else image.replace(".jpg", "_mask.png")
            _image(root / "realiad_1024" / category / image, 10 * place + number)
            if mask:
                _mask(root / "realiad_1024" / category / mask)
            lists[part].append(
                {"image_path": image, "mask_path": mask, "anomaly_class": kind.removeprefix("NG/")}
            )
        path = root / "realiad_jsons" / "realiad_jsons" / f"{category}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(lists))
    return root
