"""Reading ahead: the same bytes however far, errors where they are due, and no thread that stays behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import numpy as np
import pytest
import torch
from fakes import FakeContext
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.contracts import AnyArray, IntArray
from strategies.toolkit.training.lazy_tensor import FromInputs, Stored
from strategies.toolkit.training.loop import Batch, sgd, train
from strategies.toolkit.training.prefetch import AHEAD, in_turn
from strategies.toolkit.training.tensors import Items

ITEMS = 100


class Shelf:
    """A loader that notes who fetches what, and fails at one item."""

    def __init__(self, damaged: int = -1) -> None:
        self.items = np.random.default_rng(0).integers(0, 256, (ITEMS, 3, 4, 4)).astype(np.uint8)
        self.damaged = damaged
        self.fetched: list[IntArray] = []
        self.threads: set[str] = set()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.items.shape

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, index: IntArray) -> AnyArray:
        self.threads.add(threading.current_thread().name)
        if self.damaged in index:
            raise OSError(f"cannot read item {self.damaged} of the pack")
        self.fetched.append(index)
        return self.items[index]


def _stored(shelf: Shelf) -> Stored:
    return Stored(FromInputs(shelf), torch.arange(ITEMS), shelf.shape[1:], "cpu")


def _batches() -> list[Tensor]:
    return list(torch.split(torch.randperm(ITEMS, generator=torch.Generator().manual_seed(2)), 13))


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("ahead", [0, 1, 4, 1000])
def test_however_far_it_runs_ahead_the_bytes_are_those_of_the_batches(ahead: int) -> None:
    shelf = Shelf()
    expected = [torch.from_numpy(shelf.items[rows.numpy()]).float() / 255 for rows in _batches()]
    found = list(in_turn(_stored(shelf), _batches(), ahead=ahead))
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert [index.tolist() for index in shelf.fetched] == [rows.tolist() for rows in _batches()]
    assert all(name.startswith("prefetch") == (ahead > 0) for name in shelf.threads)


@pytest.mark.parametrize("ahead", [1, 4])
def test_it_holds_no_more_than_it_may(ahead: int) -> None:
    shelf = Shelf()
    with closing(in_turn(_stored(shelf), _batches(), ahead=ahead)) as read:
        for taken, _ in enumerate(read, start=1):
            assert len(shelf.fetched) <= taken + ahead


def test_the_thread_fetches_while_the_batch_before_is_computed_with() -> None:
    """The second batch arrives although nobody asks for it."""
    arrived = threading.Event()

    class Awaited(Shelf):
        def __getitem__(self, index: IntArray) -> AnyArray:
            items = super().__getitem__(index)
            if len(self.fetched) == 2:
                arrived.set()
            return items

    with closing(in_turn(_stored(Awaited()), _batches(), ahead=1)) as read:
        next(read)
        assert arrived.wait(timeout=20)


@pytest.mark.parametrize("ahead", [0, 1, 4])
def test_an_error_comes_with_the_batch_that_it_concerns(ahead: int) -> None:
    damaged = int(_batches()[3][5])
    read = in_turn(_stored(Shelf(damaged)), _batches(), ahead=ahead)
    for _ in range(3):
        next(read)
    with pytest.raises(OSError, match=f"cannot read item {damaged} of the pack"):
        next(read)


def test_an_early_stop_ends_the_thread_and_leaves_the_rest_unread() -> None:
    shelf = Shelf()
    with closing(in_turn(_stored(shelf), _batches(), ahead=1)) as read:
        next(read)
    assert len(shelf.fetched) <= 3


def test_what_lies_in_memory_needs_no_thread() -> None:
    images = Shelf().items
    stored = Stored(FromInputs(images), torch.arange(ITEMS), images.shape[1:], "cpu")
    before = threading.active_count()
    for inputs in (stored, torch.from_numpy(images).float() / 255):
        for rows, batch in zip(_batches(), in_turn(inputs, _batches()), strict=True):
            assert threading.active_count() == before
            assert torch.equal(batch, torch.from_numpy(images[rows.numpy()]).float() / 255)


def _trained(inputs: Tensor) -> Tensor:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    labels = torch.arange(ITEMS) % 5

    def loss(batch: Batch) -> Tensor:
        assert type(batch.inputs) is Tensor
        return cross_entropy(model(batch.inputs), batch.labels)

    train(
        model,
        Items(inputs, labels),
        loss,
        sgd(model.parameters(), lr=0.1, momentum=0.9),
        FakeContext(epochs=3),
    )
    return torch.cat([weights.detach().flatten() for weights in model.parameters()])


@pytest.mark.parametrize("ahead", [0, AHEAD, 4])
def test_training_gives_the_same_weights_as_from_memory(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strategies.toolkit.training.loop.in_turn", partial(in_turn, ahead=ahead))
    shelf = Shelf()
    assert torch.equal(_trained(_stored(shelf)), _trained(torch.from_numpy(shelf.items).float() / 255))
    assert max(map(len, shelf.fetched)) <= 8


def test_an_error_in_the_loss_ends_the_thread_too() -> None:
    model = nn.Linear(1, 1)

    def loss(_: Batch) -> Tensor:
        raise ValueError("no such class")

    with pytest.raises(ValueError, match="no such class"):
        train(
            model,
            Items(_stored(Shelf()), torch.zeros(ITEMS, dtype=torch.long)),
            loss,
            sgd(model.parameters(), lr=0.1),
            FakeContext(),
        )
