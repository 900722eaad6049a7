"""Tokens beyond the budget: half precision in a file that has no name, read in pieces, with the same figures;
within it nothing changes.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext
from torch import Tensor
from torch.nn.functional import avg_pool2d, unfold
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.contracts import Query, Stage
from harness.errors import UserError
from harness.metrics.detection import auroc, levels
from strategies.anomaly import inp_former
from strategies.anomaly import token_memory as memory
from strategies.anomaly.base import PatchDetector
from strategies.anomaly.coreset import k_centres
from strategies.anomaly.encoders.by_name import Encoder
from strategies.anomaly.image_distance import ImageDistance
from strategies.anomaly.inp_former import InpFormer
from strategies.anomaly.padim import PaDiM
from strategies.anomaly.patch_bank import PatchCore, PatchKNN
from strategies.anomaly.patch_gaussian import PatchGaussian

IMAGES, SMALL = 640, 1 << 16
PER_IMAGE = 4 * 2 * 16 * 48
"""Bytes of an image's tokens as float32: two groups, 4 x 4 patches, 48 channels."""


@dataclass
class Pixels:
    """An encoder of 16 x 16 images: patches as they are, and blurred, far from zero."""

    grid: tuple[int, int] = (4, 4)
    groups: int = 2
    channels: int = 48
    digest: str = ""

    def __call__(self, images: Tensor) -> Tensor:
        blurred = avg_pool2d(images, 3, 1, 1)
        return (
            torch.stack([unfold(each, 4, stride=4).transpose(1, 2) for each in (images, blurred)], dim=1) + 50
        )


def _images(count: int, seed: int, *, dark: bool = False) -> np.ndarray[Any, Any]:
    """Return stripes of random phase, uint8 (N, 3, 16, 16); the dark have a black corner."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:16, :16]
    grey = (
        128
        + 60 * np.sin(0.9 * across + 0.4 * down + rng.uniform(0, 7, (count, 1, 1)))
        + 15 * rng.normal(size=(count, 16, 16))
    )
    images = np.clip(grey, 0, 255).astype(np.uint8)[:, None].repeat(3, axis=1)
    if dark:
        images[:, :, 2:7, 3:8] = images[:, :, 2:7, 3:8] // 3
    return images


NORMAL, TESTED = _images(IMAGES, 0), np.concatenate([_images(60, 1), _images(60, 2, dark=True)])
CATEGORIES = np.random.default_rng(3).permutation(np.repeat([0, 1], IMAGES // 2))

DETECTORS: dict[str, Callable[[], PatchDetector]] = {
    "patch-gaussian": lambda: PatchGaussian(),
    "patch-gaussian per category": lambda: PatchGaussian(per_category=True),
    "padim": lambda: PaDiM(channels=10),
    "padim per category": lambda: PaDiM(channels=10, per_category=True),
    "image-distance": lambda: ImageDistance(),
    "patch-knn": lambda: PatchKNN(vectors=300),
    "patch-knn budget": lambda: PatchKNN(memory="budget", budget=200),
    "patch-knn union": lambda: PatchKNN(memory="budget", budget=200, share="union"),
    "patchcore": lambda: PatchCore(ratio=0.02, projection=8),
    "patchcore budget": lambda: PatchCore(memory="budget", budget=200, projection=8),
    "patchcore union": lambda: PatchCore(memory="budget", budget=200, share="union", projection=8),
    "inp-former": lambda: InpFormer(
        width=8, heads=2, prototypes=3, decoder_blocks=2, expand="never", stored=4, warmup=2
    ),
    "inp-former merged": lambda: InpFormer(
        width=8, heads=2, prototypes=3, decoder_blocks=2, expand="never", groups=1, warmup=2
    ),
}


def _started(name: str, folder: Path) -> PatchDetector:
    detector = DETECTORS[name]()
    detector.start(FakeContext(backbone="gabor", epochs=1, batch_size=16, scratch=folder))  # type: ignore[arg-type]
    detector.encoder = Encoder(Pixels(), "cpu")
    return detector


def _stage(inputs: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], index: int = 0) -> Stage:
    return Stage(
        index=index,
        ids=np.arange(len(labels)),
        inputs=inputs,
        labels=labels,
        named_classes=int(labels.max()) + 1,
        new_classes=2,
    )


def _answers(detector: PatchDetector) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Return image scores, the mean of the two largest patches where a detector gives none, and maps."""
    found = detector.predict(Query(ids=np.arange(len(TESTED)), inputs=TESTED))
    if found.anomaly_maps is None:
        assert found.anomaly_scores is not None
        return found.anomaly_scores, None
    maps = found.anomaly_maps.astype(np.float64)
    return np.sort(maps.reshape(len(maps), -1), axis=1)[:, -2:].mean(axis=1), maps


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 64 kB be the budget and the piece, of 3.9 MB of tokens; INP-Former's components are summed over 256
    tokens at once.
    """
    monkeypatch.setattr(inp_former, "ROWS", 256)
    monkeypatch.setattr(memory, "BUDGET", SMALL)
    monkeypatch.setattr(memory, "PIECE", SMALL)


class Largest(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that an operation made in memory; float16 ones lie in files
    here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor) and each.dtype != torch.float16 and type(each) is Tensor:
                self.bytes = max(self.bytes, each.untyped_storage().nbytes())
        return made


# --- figures, memory, files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DETECTORS)
def test_half_precision_in_a_file_gives_the_same_figures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Image AUROC within half a point, maps within two per cent of their spread on average; INP-Former's,
    whose training carries the last digits on through 40 steps, within two points and a quarter of the spread.
    """
    trained = name.startswith("inp-former")
    whole = _started(name, tmp_path)
    whole.learn(_stage(NORMAL, CATEGORIES))
    monkeypatch.setattr(memory, "BUDGET", SMALL)
    monkeypatch.setattr(memory, "PIECE", SMALL)
    mapped = _started(name, tmp_path)
    mapped.learn(_stage(NORMAL, CATEGORIES))
    (scores, maps), (again, other) = _answers(whole), _answers(mapped)
    is_dark = np.arange(len(TESTED)) >= 60
    figures = auroc(levels(scores, is_dark)), auroc(levels(again, is_dark))
    assert figures[0] > 0.6
    assert abs(figures[0] - figures[1]) <= (0.02 if trained else 0.005)
    if (
        maps is not None and other is not None and "patchcore" not in name
    ):  # a coreset that goes another way at a tie is as good a cover
        assert np.abs(maps - other).mean() <= (0.25 if trained else 0.02) * maps.std()


@pytest.mark.parametrize("name", DETECTORS)
def test_nothing_of_the_size_of_all_tokens_is_held_and_no_file_is_left(
    name: str, small: None, tmp_path: Path
) -> None:
    detector = _started(name, tmp_path)
    with Largest() as largest:
        detector.learn(_stage(NORMAL, CATEGORIES))
    assert largest.bytes <= IMAGES * PER_IMAGE / 4, "64 images in double precision are a fifth"
    assert not list(tmp_path.iterdir())
    kept = [each for each in tree_leaves(detector.state()) if isinstance(each, Tensor)]
    assert sum(each.nbytes for each in kept) < IMAGES * PER_IMAGE / 4


def test_within_the_budget_all_of_it_is_held(tmp_path: Path) -> None:
    """The measure above would see it."""
    detector = _started("patch-gaussian", tmp_path)
    with Largest() as largest:
        detector.learn(_stage(NORMAL, CATEGORIES))
    assert largest.bytes >= IMAGES * PER_IMAGE


class _Seen(PatchGaussian):
    """Keeps what it is handed."""

    def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None:
        self.handed = tokens


@contextmanager
def _seen(folder: Path, **values: Any) -> Iterator[_Seen]:
    detector = _Seen(**values)
    detector.start(FakeContext(backbone="gabor", scratch=folder))  # type: ignore[arg-type]
    detector.encoder = Encoder(Pixels(), "cpu")
    yield detector


def test_the_file_has_no_name_while_it_is_read(small: None, tmp_path: Path) -> None:
    with _seen(tmp_path) as detector:
        detector.learn(_stage(NORMAL, CATEGORIES))
    assert detector.handed.dtype == torch.float16
    assert not list(tmp_path.iterdir())
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert (
            sum(str(tmp_path) in line and "(deleted)" in line for line in maps.read_text().splitlines()) == 1
        )
        del detector.handed
        assert str(tmp_path) not in maps.read_text()


# --- the standard -------------------------------------------------------------------------------------------


def test_tokens_far_from_zero_keep_what_differs_between_them(small: None, tmp_path: Path) -> None:
    """Raw values near 50 have steps of 1/32 in half precision, a tenth of their deviation; standardised ones
    lose less than 0.004.
    """
    with _seen(tmp_path) as detector:
        detector.learn(_stage(NORMAL, CATEGORIES))
    raw = detector.encoder.encode(NORMAL).double() if detector.encoder else torch.zeros(0)
    mean, deviation = raw.mean(dim=(0, 2), keepdim=True), raw.std(dim=(0, 2), keepdim=True, correction=0)
    torch.testing.assert_close(detector.standard.mean.double(), mean[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(detector.standard.scale.double(), deviation[0], rtol=1e-3, atol=0)
    torch.testing.assert_close(detector.handed.double(), (raw - mean) / deviation, rtol=2e-3, atol=2e-3)


def test_a_later_stage_is_in_units_of_the_first(small: None, tmp_path: Path) -> None:
    with _seen(tmp_path) as detector:
        detector.learn(_stage(NORMAL, CATEGORIES))
        mean = detector.standard.mean.clone()
        later = NORMAL // 2
        detector.learn(_stage(later, CATEGORIES, 1))
        torch.testing.assert_close(detector.standard.mean, mean, rtol=0, atol=0)
        torch.testing.assert_close(detector.handed.float(), detector.tokens_of(later), rtol=1e-3, atol=1e-3)


def test_a_channel_that_is_constant_keeps_its_scale_and_tokens_may_stay_raw(
    small: None, tmp_path: Path
) -> None:
    flat = np.full_like(NORMAL, 90)
    with _seen(tmp_path) as detector:
        detector.learn(_stage(flat, CATEGORIES))
        assert (detector.standard.scale[0] == 1).all(), "the other group's channels see the border"
        assert torch.isfinite(detector.handed).all()
    with _seen(tmp_path, standardise=False) as detector:
        detector.learn(_stage(NORMAL, CATEGORIES))
        assert detector.encoder is not None
        torch.testing.assert_close(detector.handed, detector.encoder.encode(NORMAL).half(), rtol=0, atol=0)


# --- the pieces ---------------------------------------------------------------------------------------------


def _tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_within_the_budget_every_function_is_the_plain_expression(tmp_path: Path) -> None:
    context: Any = FakeContext(scratch=tmp_path)
    tokens, mask = _tokens(50, 3, 4), torch.arange(50) % 3 == 0
    for found, plain in (
        (memory.changed(tokens, lambda part: part.flip(2) * 3, context), tokens.flip(2) * 3),
        (memory.selected(tokens, mask, context), tokens[mask]),
        (memory.stacked([tokens, tokens[:7]], context), torch.cat([tokens, tokens[:7]])),
        (memory.to_train_on(tokens, context), tokens),
    ):
        assert found.dtype == torch.float32
        assert torch.equal(found, plain)
    ((rows, whole),) = memory.pieces(tokens, context)
    assert whole is tokens
    assert torch.equal(torch.arange(50)[rows], torch.arange(50))


def test_beyond_it_they_give_the_same_in_half_precision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "BUDGET", 100)
    monkeypatch.setattr(memory, "PIECE", 200)
    context: Any = FakeContext(scratch=tmp_path)
    plain, mask = _tokens(50, 3, 4).half().float(), torch.arange(50) % 3 == 0
    tokens = memory.filled(iter(plain.split(11)), plain.shape, context)
    assert memory.is_mapped(tokens)
    for found, expected in (
        (memory.changed(tokens, lambda part: part.flip(2) * 2, context), plain.flip(2) * 2),
        (memory.selected(tokens, mask, context), plain[mask]),
        (memory.selected(tokens, torch.tensor([9, 0, 9]), context), plain[[9, 0, 9]]),
        (memory.stacked([plain[:5], tokens], context), torch.cat([plain[:5], plain])),
        (memory.to_train_on(tokens, context)[torch.tensor([4, 2])], plain[[4, 2]]),
    ):
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=0)
    few = memory.changed(tokens, lambda part: part.mean(dim=(1, 2))[:, None] * 0 + 1, context)
    assert len(list(memory.pieces(tokens, context))) == 13
    assert few.dtype == torch.float16
    monkeypatch.setattr(memory, "BUDGET", 200)
    assert memory.changed(tokens, lambda part: part[:, 0, :1], context).dtype == torch.float32, (
        "what has become small is held again"
    )


def test_what_half_precision_cannot_hold_becomes_the_largest_it_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "BUDGET", 0)
    context: Any = FakeContext(scratch=tmp_path)
    tokens = memory.filled([torch.tensor([[1e9, -1e9, 3.0]])], (1, 3), context)
    assert tokens.tolist() == [[65504.0, -65504.0, 3.0]]


def test_the_coreset_of_half_precision_is_that_of_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    points = (_tokens(400, 20) + 3).half()
    for dimensions in (0, 8):
        expected = k_centres(points.float(), 60, np.random.default_rng(1), dimensions=dimensions)
        monkeypatch.setattr(memory, "PIECE", 4000)
        found = k_centres(points, 60, np.random.default_rng(1), dimensions=dimensions)
        assert torch.equal(found, expected)


def test_no_room_is_told_in_one_sentence_and_leaves_nothing(small: None, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(UserError, match="cannot keep 1 MiB of tokens") as problem:
            _started("patch-gaussian", tmp_path).learn(_stage(NORMAL, CATEGORIES))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(problem.value)
    assert not list(tmp_path.iterdir())
