"""Noise at hidden layers, and answers that should stay the same under it (Khadangi et al. 2025, NoiseFiT, arXiv
2504.03302; released code at 48c61c8, the file of its first version).

With p of the clean pass and p1, p2 of two passes in which activations h (B, ...) of the layers chosen have become h +
scale n, n standard normal, the loss is c CE + (1 - c) [KL(p || p1) + KL(p || p2)] / 2 + l KL(p2 || p1); the component
adds what that differs from CE by, whatever the learner's own loss. The scale is

- `equivariant` (this project's): s std(h), the same for all entries, so that noise grows as activations do.
- `released`: s std(h) m exp(-|h - median| / (10 m)) min(5, exp(v / mean v)), with the median of an item's entries, m
  the median distance from it, and v their variance. It is quadratic in h. The code multiplies by s once more in
  training than where it chooses layers: say noise=0.01 for its 0.1. Behind a ReLU m is near 0 where half of the units
  are off.

Layers are `all`; those of the largest or smallest mean |h| / mean |noise|, which is how the code chooses and says
nothing of answers; or by `effect`, those where the same relative noise moves answers farthest. Chosen is on the first
batch of a stage. Noisy passes are made in evaluation mode, so that dropout and batch statistics add nothing. The code
lets the gradient through p (`detach=false`). Controls: `loss=cross-entropy,clean=0,consistency=0`, the noise without
all else at a third of the passes, and `rate`, as half of the loss goes where c is a half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from harness.contracts import param
from harness.errors import Unsuitable
from strategies.components.contract import Component
from strategies.components.losses import cross_entropies, wide
from strategies.components.modules import activations_behind
from strategies.ood_scores import Seen
from strategies.toolkit.augmentations import generator_of
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.loop import Batch

_WEIGHTING, _LARGEST, _EPSILON = 0.1, 5.0, 1e-6
_DRAWS = 10
"""Draws of noise that layers are chosen by."""
Form = Literal["equivariant", "released"]


def scales(activations: Tensor, form: Form) -> Tensor:
    """Return the deviation of the noise at s = 1 for activations (B, ...), of a shape that spreads over theirs."""
    h = activations.flatten(1)
    size = h.std()
    if form == "equivariant":
        return size
    variance = h.var(dim=1, keepdim=True)
    factor = torch.exp(variance / (variance.mean() + _EPSILON)).clamp_max(_LARGEST)
    away = (h - h.median(dim=1, keepdim=True).values).abs()
    middle = away.median(dim=1, keepdim=True).values
    middle = torch.maximum(middle, _EPSILON * torch.linalg.vector_norm(h, dim=1, keepdim=True))
    weight = torch.exp(-_WEIGHTING * away / (middle + _EPSILON))
    return (size * middle * weight * factor).view_as(activations)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(softmax(first) || softmax(second)) of logits (B, C), the mean over rows."""
    logs = functional.log_softmax(wide(second), dim=1)
    target = functional.log_softmax(wide(first), dim=1)
    return functional.kl_div(logs, target, reduction="batchmean", log_target=True)


class HiddenNoise(Component):
    """Learn answers that stay the same when hidden activations are noisy."""

    noise: float = param(
        1.0, "s, of the deviation of a layer's activations (published 0.1)", ge=0, ablate=[0.1, 0.3]
    )
    form: Form = param("equivariant", "how large noise is", ablate=["released"])
    layers: Literal["all", "snr-high", "snr-low", "effect"] = param(
        "all", "where there is noise", ablate=["snr-high", "effect"]
    )
    count: int = param(3, "how many layers are chosen, where not all are (published 3)", ge=1)
    loss: Literal["kl", "cross-entropy"] = param(
        "kl", "of a noisy pass: to the clean one's answers, or to the labels", ablate=["cross-entropy"]
    )
    clean: float = param(0.5, "c, weight of the clean pass", ge=0, le=1, ablate=[0.0])
    consistency: float = param(
        0.1, "l, weight of the two noisy passes' divergence; with 0 there is one", ge=0, ablate=[0.0]
    )
    detach: bool = param(True, "whether the clean pass's answers are constants", ablate=[False])

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"clean": 1.0, "consistency": 0.0})

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Change nothing.

        Raises:
            Unsuitable: the backbone has no activation behind a layer.
        """
        if part is not network.head and not _places(part):
            raise Unsuitable(f"has no hidden activations, to which component {self.name} adds noise")

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor | None:
        """Return what the loss differs by from cross-entropy; None where it does not."""
        if self.clean == 1 and not self.consistency:
            return None
        draws = generator_of(self.context, f"{self.stream_name}-{batch.step}")
        places = _places(network.backbone)
        if batch.step == 0 and self.layers != "all":
            self.chosen = self._choose(network, batch.inputs, places, draws)
        if self.layers != "all":
            places = [places[each] for each in self.chosen]
        noisy = [
            self._noisy(network, batch.inputs, places, draws) for _ in range(2 if self.consistency else 1)
        ]
        clean = seen.logits[: len(batch.labels)]
        answers = clean.detach() if self.detach else clean
        away = [
            divergence(answers, each) if self.loss == "kl" else cross_entropies(each, batch).mean()
            for each in noisy
        ]
        value: Tensor = (1 - self.clean) * (sum(away) / len(away) - cross_entropies(clean, batch).mean())
        return value + self.consistency * divergence(noisy[1], noisy[0]) if self.consistency else value

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: layers are chosen anew at every stage."""
        return {}

    def _noisy(
        self, network: Classifier, inputs: Tensor, places: Sequence[nn.Module], draws: Generator
    ) -> Tensor:
        """Return logits (B, C) of a pass with noise behind the modules of `places`."""

        def add(_: nn.Module, __: Any, out: Tensor) -> Tensor:
            h = wide(out)
            n = torch.randn(out.shape, generator=draws, device=out.device).to(h.dtype)
            return (h + self.noise * scales(h, self.form) * n).to(out.dtype)

        with _hooked(places, add), eval_mode(network), torch.enable_grad():
            logits: Tensor = network(inputs)
        return logits

    @torch.no_grad()
    def _choose(
        self, network: Classifier, inputs: Tensor, places: Sequence[nn.Module], draws: Generator
    ) -> list[int]:
        """Return the numbers of the places chosen, the first ones of equal."""
        values: dict[nn.Module, Tensor] = {}

        def note(place: nn.Module, _: Any, out: Tensor) -> None:
            values[place] = wide(out)

        with _hooked(places, note), eval_mode(network):
            plain = network(inputs)
        ratios = []
        for out in (values[place] for place in places):
            size = self.noise * scales(out, self.form)
            drawn = [torch.randn(out.shape, generator=draws, device=out.device) for _ in range(_DRAWS)]
            noise = torch.stack([(size * n).abs().mean() for n in drawn]).mean()
            ratios.append(float(out.abs().mean() / (noise + _EPSILON)))
        if self.layers == "effect":
            moved = [float(divergence(plain, self._noisy(network, inputs, [each], draws))) for each in places]
            worth = [far * ratio for far, ratio in zip(moved, ratios, strict=True)]
        else:
            worth = ratios if self.layers == "snr-high" else [-ratio for ratio in ratios]
        order = sorted(range(len(places)), key=lambda place: -worth[place])
        return sorted(order[: self.count])


def _places(part: nn.Module) -> list[nn.Module]:
    """Return the activations behind layers, each once, in their order."""
    return list(dict.fromkeys(behind for _, behind in activations_behind(part) if behind is not None))


@contextmanager
def _hooked(places: Sequence[nn.Module], hook: Callable[..., Tensor | None]) -> Iterator[None]:
    """Call a hook with what the modules of `places` make."""
    handles = [each.register_forward_hook(hook) for each in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
