"""Inputs that are too many for memory: what is done to them gives what it gives to the numbers, and learners
answer the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from worlds import Blobs, HiddenBlobs, NoisyBlobs, NovelBlobs

from harness import checkpoint
from harness.cell.run import CellSettings, run_cell
from harness.cell.sealing import build
from harness.contracts import AnyArray, Deal, Inputs, IntArray, Scenario, TrainingBudget
from harness.plugins import find
from harness.protocol.fingerprint import of_arrays
from harness.selection import resolved, single
from scenarios.datasets.packed import Packed, Sizes, packed_images
from strategies.toolkit.training import lazy_tensor
from strategies.toolkit.training.lazy_tensor import FromInputs, Held, Source, Stored
from strategies.toolkit.training.tensors import Items, as_tensor

ITEMS, SHAPE = 30, (3, 6, 6)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Thirty pictures on disk, packed."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    paths = [folder / f"{place}.png" for place in range(ITEMS)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OWB_CACHE", str(folder / "cache"))
        return packed_images(
            paths, [f"{place:03d}" for place in rng.permutation(ITEMS)], Sizes(resize=6, crop=0)
        )


def _numbers(pack: Packed) -> Tensor:
    return torch.from_numpy(pack[np.arange(ITEMS)]).float() / 255


def _kinds(pack: Packed) -> dict[str, Tensor]:
    """The same items, kept in every way."""
    array = pack[np.arange(ITEMS)]
    sources: dict[str, Source] = {
        "loader": FromInputs(pack),
        "array": FromInputs(array),
        "device": Held(torch.from_numpy(array)),
        "floats": FromInputs(array.astype(np.float32) / np.float32(255)),
    }
    kinds: dict[str, Tensor] = {
        name: Stored(source, torch.arange(ITEMS), SHAPE, "cpu") for name, source in sources.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy_tensor, "AT_ONCE", 0)
        kinds["joined"] = torch.cat([kinds["loader"][:7], kinds["loader"][7:]])
        kinds["mixed"] = torch.cat([kinds["loader"][:11], _numbers(pack)[11:20], kinds["device"][20:]])
    assert all(isinstance(kind, Stored) for kind in kinds.values())
    return kinds


KINDS = ["loader", "array", "device", "floats", "joined", "mixed"]
EVEN = torch.arange(ITEMS) % 2 == 0
DONE: dict[str, Callable[[Tensor], Any]] = {
    "rows": lambda x: x[torch.tensor([3, 3, 29, 0])],
    "rows of numpy": lambda x: x[np.array([5, 2])],
    "a list of rows": lambda x: x[[4, 1]],
    "no row": lambda x: x[torch.zeros(0, dtype=torch.long)],
    "a mask": lambda x: x[EVEN],
    "a mask of numpy": lambda x: x[EVEN.numpy()],
    "a table of rows": lambda x: x[torch.tensor([[1, 2], [3, 4]])],
    "rows and channels": lambda x: x[torch.tensor([1, 2]), torch.tensor([0, 2])],
    "a row": lambda x: x[7],
    "the last row": lambda x: x[-1],
    "a slice": lambda x: x[4:20:3],
    "channels": lambda x: x[:, 1:],
    "split": lambda x: torch.split(x, 8),
    "split of channels": lambda x: torch.split(x, 2, dim=1),
    "chunks": lambda x: x.chunk(4),
    "parts": lambda x: torch.split(x, [10, 20]),
    "index_select": lambda x: x.index_select(0, torch.tensor([9, 1])),
    "select of a channel": lambda x: x.select(1, 2),
    "one after another": lambda x: list(x),
    "cat": lambda x: torch.cat([x, x[EVEN]]),
    "cat along channels": lambda x: torch.cat([x, x], dim=1),
    "detach": lambda x: x.detach(),
    "everything": lambda x: x[...],
    "to": lambda x: x.to("cpu"),
    "double": lambda x: x.double(),
    "flatten": lambda x: x.flatten(1),
    "sum": lambda x: x.sum(dim=(1, 2, 3)),
    "picked again": lambda x: x[10:][EVEN[10:]][torch.tensor([2, 0])],
    "arithmetic": lambda x: 2 * x[EVEN] - x[~EVEN],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [0, 3 * 4 * 108, 2**28], ids=["nothing", "three items", "everything"])
def test_whatever_is_done_gives_what_it_gives_to_the_numbers(
    kind: str, at_once: int, pack: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, whole = _kinds(pack)[kind], _numbers(pack)
    monkeypatch.setattr(lazy_tensor, "AT_ONCE", at_once)
    assert (items.shape, items.dtype, items.device, len(items)) == (
        whole.shape,
        whole.dtype,
        whole.device,
        ITEMS,
    )
    for name, do in DONE.items():
        found, expected = do(items), do(whole)
        several = isinstance(expected, (tuple, list))
        for one, other in zip(
            found if several else [found], expected if several else [expected], strict=True
        ):
            assert one.shape == other.shape, name
            assert torch.equal(one + 0, other), name


def test_what_picks_many_rows_reads_nothing_and_few_rows_are_read_at_once(
    pack: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = _kinds(pack)["loader"]
    monkeypatch.setattr(lazy_tensor, "AT_ONCE", 10 * 4 * 108)
    for name in ("a mask", "split", "chunks", "a slice", "detach", "cat", "to", "everything"):
        found = DONE[name](items)
        assert all(
            isinstance(part, Stored) for part in (found if isinstance(found, (tuple, list)) else [found])
        ), name
    for name in ("rows", "a row", "index_select", "picked again"):
        assert type(DONE[name](items)) is Tensor, name


def test_gradients_flow_as_they_do_from_numbers(pack: Packed) -> None:
    gradients = []
    for inputs in (_kinds(pack)["loader"], _numbers(pack)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 2))
        model(inputs).square().sum().backward()
        gradients.append(
            torch.cat([weights.grad.flatten() for weights in model.parameters() if weights.grad is not None])
        )
    assert torch.equal(*gradients)


def test_what_is_saved_are_the_numbers(pack: Packed, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "state.pt", {"kept": [[_kinds(pack)["loader"], EVEN]]})
    kept = checkpoint.load(tmp_path / "state.pt")["kept"][0][0]
    assert type(kept) is Tensor
    assert torch.equal(kept, _numbers(pack))


def test_small_sets_become_numbers_and_only_bytes_and_loaders_stay_where_they_are(
    pack: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = pack[np.arange(ITEMS)]
    for inputs in (pack, array, array.astype(np.float32)):
        assert type(as_tensor(inputs, "cpu")) is Tensor
    monkeypatch.setattr(lazy_tensor, "AT_ONCE", 4 * array.size - 1)
    assert isinstance(as_tensor(pack, "cpu"), Stored)
    assert isinstance(as_tensor(array, "cpu"), Stored)
    assert type(as_tensor(array.astype(np.float32), "cpu")) is Tensor
    assert torch.equal(as_tensor(pack, "cpu") + 0, _numbers(pack))


def test_items_of_several_stages_are_joined_without_reading_them(
    pack: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_tensor, "AT_ONCE", 0)
    first = Items(as_tensor(pack.subset(np.arange(9)), "cpu"), torch.arange(9))
    second = Items(as_tensor(pack.subset(np.arange(9, ITEMS)), "cpu"), torch.arange(9, ITEMS))
    for both in (first.joined_with(second), Items.all_of([list(first), list(second)])):
        assert isinstance(both.inputs, Stored)
        assert torch.equal(both.inputs[torch.tensor([8, 29, 9])] + 0, _numbers(pack)[[8, 29, 9]])
        assert torch.equal(both.labels, torch.arange(ITEMS))


# --- learners -----------------------------------------------------------------------------------------------


class Shelf:
    """A loader that notes the most items that were ever asked for at once."""

    most = 0

    def __init__(self, items: AnyArray) -> None:
        self.items = items

    @property
    def shape(self) -> tuple[int, ...]:
        return self.items.shape

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: IntArray) -> AnyArray:
        Shelf.most = max(Shelf.most, len(index))
        return self.items[index]

    def subset(self, rows: IntArray) -> Shelf:
        return Shelf(self.items[rows])


def _pictures(deal: Deal) -> AnyArray:
    """Eight numbers an item as images (N, 2, 8, 8) of bytes, each number over sixteen pixels."""
    assert isinstance(deal.inputs, np.ndarray)
    small = np.clip(128 + 12 * deal.inputs, 0, 255).astype(np.uint8).reshape(-1, 2, 2, 2)
    images: AnyArray = small.repeat(4, axis=2).repeat(4, axis=3)
    return images


def _shown(base: type[Blobs]) -> tuple[type[Scenario], type[Scenario]]:
    class InMemory(base):  # type: ignore[misc, valid-type]
        def deal(self, seed: int) -> Deal:
            whole = super().deal(seed)
            return replace(whole, inputs=_pictures(whole))

        def budget(self) -> TrainingBudget:
            return replace(super().budget(), augmentations="padded-crop[pad=1,mirror=0.5]+noise[std=0.02]")

    class OnShelf(InMemory):
        def deal(self, seed: int) -> Deal:
            whole = super().deal(seed)
            inputs: Any = Shelf(whole.inputs)  # type: ignore[arg-type]
            return replace(whole, inputs=inputs)

    return InMemory, OnShelf


LEARNERS: Mapping[type[Blobs], list[str]] = {
    Blobs: [
        "fine-tune[ood_score=knn]",
        "replay[memory=10]",
        "der[memory=10]",
        "ewc",
        "lwf",
        "joint",
        "avalanche-naive",
    ],
    NoisyBlobs: [
        "cross-entropy",
        "elr",
        "elr-plus",
        "dividemix",
        "mixup",
        "co-teaching",
        "nested-co-teaching",
        "loss-correction",
    ],
    HiddenBlobs: ["happy", "happy[cached_views=2]", "simgcd", "frost", "joint-discovery"],
    NovelBlobs: [
        "uno[small_views=1]",
        "cr-kd[cached_views=2]",
        "rank-stats",
        "ncd-simgcd",
        "ncd-k-means",
        "depict",
        "joint-novel",
    ],
}
EVERY = [(world, learner) for world, learners in LEARNERS.items() for learner in learners]


def _answers(scenario: type[Scenario], learner: str, folder: Path) -> list[str]:
    selection = single(learner)
    plugin = find("strategy", selection.name)
    strategy = plugin.cls(**resolved(plugin, selection))
    one = scenario(backbone="mlp[width=16,depth=1]", epochs=3, batch_size=16, items=40)  # type: ignore[call-arg]
    settings = CellSettings(root_seed=1, budget=one.budget(), needed=one.answers)
    folder.mkdir()
    episodes = build(one, 0, reveal=selection.name == one.upper_bound).episodes
    results = run_cell(strategy, episodes, settings, scratch=folder, keep=folder)
    return [of_arrays(dict(answer.arrays)) for result in results for answer in result.answers]


@pytest.mark.parametrize(("world", "learner"), EVERY, ids=[learner for _, learner in EVERY])
def test_a_learner_answers_the_same_bytes_from_a_loader_as_from_memory(
    world: type[Blobs], learner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory, on_shelf = _shown(world)
    expected = _answers(in_memory, learner, tmp_path / "memory")
    monkeypatch.setattr(lazy_tensor, "AT_ONCE", 0)
    assert _answers(on_shelf, learner, tmp_path / "shelf") == expected
    assert len(expected) == len(build(on_shelf(), 0).episodes)


@pytest.mark.parametrize(
    ("world", "learner"),
    [
        (Blobs, "fine-tune[ood_score=knn]"),
        (NoisyBlobs, "elr-plus"),
        (NoisyBlobs, "dividemix"),
        (HiddenBlobs, "happy"),
        (NovelBlobs, "uno"),
    ],
    ids=["fine-tune", "elr-plus", "dividemix", "happy", "uno"],
)
def test_no_more_than_a_chunk_is_in_memory_at_once(
    world: type[Blobs], learner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 16, and chunks of 64 in evaluation (512, made smaller here)."""
    in_chunks: Callable[..., Any] = torch.split
    monkeypatch.setattr(torch, "split", lambda x, size, dim=0: in_chunks(x, 64 if size == 512 else size, dim))
    monkeypatch.setattr(lazy_tensor, "AT_ONCE", 0)
    monkeypatch.setattr(Shelf, "most", 0)
    _answers(_shown(world)[1], learner, tmp_path / "shelf")
    assert 16 <= Shelf.most <= 64


def test_inputs_are_what_the_contract_says(pack: Packed) -> None:
    inputs: Inputs = pack
    assert inputs.shape == (ITEMS, *SHAPE)
    assert (pack.dtype, as_tensor(inputs, "cpu").dtype) == ("uint8", torch.float32)
