"""Views by the text that a protocol names: `affine[rotate=15]`, or several one after another,
`padded-crop[mirror=0.5]+colour-jitter`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from harness.contracts import Context
from harness.errors import UserError
from harness.networks import augmentations
from strategies.toolkit.augmentations.base import View, check_range


class Chain:
    """Several views, one after another."""

    def __init__(self, views: Sequence[View]) -> None:
        self.views = views

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return what the last view makes of what the others made; all draw from the same generator, in their
        order.
        """
        for view in self.views:
            inputs = view(inputs, generator)
        return inputs


class Either:
    """One of two views, drawn for every item: `either[one=padded-crop,other=resized-crop[low=0.5]]`, as UNO
    and Cr-KD crop CIFAR.
    """

    def __init__(self, *, one: str = "padded-crop", other: str = "resized-crop", chance: float = 0.5) -> None:
        """Take the texts of both views, which leave inputs equally large, and the chance of the first."""
        check_range("either", 0, 1, chance=chance)
        self.one, self.other, self.chance = view_of(one), view_of(other), chance

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return inputs of which each has gone through one view."""
        first = torch.rand(len(inputs), generator=generator, device=inputs.device) < self.chance
        shown: Tensor | None = None
        for view, whose in ((self.one, first), (self.other, ~first)):
            (rows,) = whose.nonzero(as_tuple=True)
            if len(rows):
                part = view(inputs[rows], generator)
                shown = part.new_empty((len(inputs), *part.shape[1:])) if shown is None else shown
                if part.shape[1:] != shown.shape[1:]:
                    raise UserError(
                        "either needs two views that leave images equally large, got "
                        f"{(*shown.shape[1:],)} and {(*part.shape[1:],)}"
                    )
                shown.index_copy_(0, rows, part)
        return inputs if shown is None else shown


def view_of(text: str) -> View:
    """Return the view that `text` selects: one, or several joined by +.

    Raises:
        UserError: no augmentation of that name, a parameter it does not have, or an amount out of range.
    """
    views: list[View] = augmentations(text)
    return views[0] if len(views) == 1 else Chain(views)


def showing(context: Context, stream: str = "views") -> Callable[[Tensor], Tensor]:
    """Return what shows inputs (B, ...) as the protocol's views have it, once, by draws of its own from the
    stream of that name.
    """
    view, generator = view_of(context.views), generator_of(context, stream)
    return lambda inputs: view(inputs, generator)


def generator_of(context: Context, name: str) -> Generator:
    """Return a torch generator on the context's device that follows the stream `name`."""
    return torch.Generator(context.device).manual_seed(int(context.stream(name).integers(2**63)))
