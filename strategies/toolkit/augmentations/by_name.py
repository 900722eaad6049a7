"""Augmentations by the text that a protocol names: `affine[rotate=15]`, or several one after another,
`padded-crop[mirror=0.5]+colour-jitter`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from harness.contracts import Context
from harness.errors import UserError
from harness.networks import augmentations
from strategies.toolkit.augmentations.base import Augmentation, check_range


class Chain:
    """Several augmentations, one after another."""

    def __init__(self, steps: Sequence[Augmentation]) -> None:
        self.steps = steps

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return what the last one makes of what the others made; all draw from the same generator, in their
        order.
        """
        for augment in self.steps:
            inputs = augment(inputs, generator)
        return inputs


class Either:
    """One of two augmentations, drawn for every item: `either[one=padded-crop,other=resized-crop[low=0.5]]`, as UNO
    and Cr-KD crop CIFAR.
    """

    def __init__(self, *, one: str = "padded-crop", other: str = "resized-crop", chance: float = 0.5) -> None:
        """Take the texts of both, which leave inputs equally large, and the chance of the first."""
        check_range("either", 0, 1, chance=chance)
        self.one, self.other, self.chance = augmentation_of(one), augmentation_of(other), chance

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return inputs of which each has gone through one of them."""
        first = torch.rand(len(inputs), generator=generator, device=inputs.device) < self.chance
        augmented: Tensor | None = None
        for augment, whose in ((self.one, first), (self.other, ~first)):
            (rows,) = whose.nonzero(as_tuple=True)
            if len(rows):
                part = augment(inputs[rows], generator)
                if augmented is None:
                    augmented = part.new_empty((len(inputs), *part.shape[1:]))
                if part.shape[1:] != augmented.shape[1:]:
                    raise UserError(
                        "either needs two augmentations that leave images equally large, got "
                        f"{(*augmented.shape[1:],)} and {(*part.shape[1:],)}"
                    )
                augmented.index_copy_(0, rows, part)
        return inputs if augmented is None else augmented


def augmentation_of(text: str) -> Augmentation:
    """Return the augmentation that `text` selects: one, or several joined by +.

    Raises:
        UserError: no augmentation of that name, a parameter it does not have, or an amount out of range.
    """
    steps: list[Augmentation] = augmentations(text)
    return steps[0] if len(steps) == 1 else Chain(steps)


def augmenting(context: Context, stream: str = "views") -> Callable[[Tensor], Tensor]:
    """Return the protocol's augmentation of inputs (B, ...), with draws of its own from the stream of that name."""
    augment, generator = augmentation_of(context.augmentations), generator_of(context, stream)
    return lambda inputs: augment(inputs, generator)


def generator_of(context: Context, name: str) -> Generator:
    """Return a torch generator on the context's device that follows the stream `name`."""
    return torch.Generator(context.device).manual_seed(int(context.stream(name).integers(2**63)))
