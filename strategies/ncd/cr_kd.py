"""Cr-KD (rKD): class-relation knowledge distillation for novel class discovery (Gu et al., ICCV 2023, arXiv
2307.09158v3).

The network of stage 0 stays as teacher. What it makes of a novel item, a distribution over known classes,
says what the item is like; the student is held to it while UNO's objective finds the novel classes. An item
counts by the mass that the student itself gives to known classes. Followed is the released code (0f55bea),
where it can be run; where paper and code differ, the switch says so. Differences: the last epoch counts (the
code keeps the one that is best on hidden labels); the head is chosen by the loss of the last epoch (the code
sums over all, as the presets do); the teacher sees the large views alone, the only ones that are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from harness.contracts import Preset, Stage, param
from strategies.ncd import losses
from strategies.ncd.uno import UNO, Seen
from strategies.toolkit.discovery.split_network import Previous
from strategies.toolkit.training.tensors import Items

_CODE: dict[str, Any] = {"width": 2048, "out": 256, "head_choice": "whole-stage", "rate_changes": "epoch"}
_CIFAR = {
    "heads": 4,
    "small_views": 2,
    "small_view": "resized-crop[size=18,low=0.3,high=0.8,mirror=0.5]+colour-jitter"
    "+solarise[chance=0.2]+equalise[chance=0.2]",
    "first_lr": 0.1,
    "weight_decay": 1e-4,
    "warmup": 0.05,
    "floor": 0.01,
    "lr": 0.4,
    "later_weight_decay": 1.5e-4,
    "later_warmup": 0.02,
    "later_floor": 0.0025,
}
_FINE = {
    "heads": 2,
    "trainable": "last",
    "optimiser": "adamw",
    "first_lr": 1e-3,
    "lr": 1e-3,
    "weight_decay": 1.5e-4,
    "warmup": 0.1,
    "floor": 0.1,
}


class CrKD(UNO):
    """UNO that keeps how novel items relate to known classes."""

    alpha: float = param(
        0.1, "weight of the relation loss (the paper's beta)", ge=0, ablate=[0.0, 0.02, 0.5], since_stage=1
    )
    temperature: float = param(4.0, "T of the relation, on top of tau", gt=0, ablate=[1.0], since_stage=1)
    weighting: losses.Weighting = param(
        "mass",
        "how much an item counts: its known mass over the mean, all alike, the mass itself, the same as a "
        "constant, or the "
        "teacher's confidence",
        ablate=["none", "mass-unscaled", "mass-constant", "teacher-confidence"],
        since_stage=1,
    )
    divergence: losses.Divergence = param(
        "cross-entropy",
        "of teacher and student: cross-entropy (code) or kl (paper)",
        ablate=["kl"],
        since_stage=1,
    )
    per_head: bool = param(False, "whether the mass is divided by the mean of its head", since_stage=1)
    relation_views: Literal["large", "all"] = param("large", "views that are distilled", since_stage=1)
    teacher_momentum: float = param(
        1.0,
        "1 keeps the network of stage 0 as teacher; less lets it follow the student",
        ge=0,
        le=1,
        ablate=[0.99],
        since_stage=1,
    )
    teacher_unit_length: bool = param(
        False,
        "whether the teacher's prototypes are brought to unit length (the code leaves them)",
        ablate=[True],
        since_stage=1,
    )
    overcluster: int = param(
        0,
        "finer prototypes for every novel class in a second set of heads; 0 for none, as published",
        ge=0,
        ablate=[3],
        since_stage=1,
    )

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {
            "paper-cifar100": Preset(
                values={**_CODE, **_CIFAR},
                source="released discover_cifar.yaml: 0.4 to 0.001 in 500 epochs, ten of them "
                "warm-up; stage 0 as in UNO (main_pretrain.py): 0.1 to 0.001 in 200 epochs, ten of them warm-up",
            ),
            "paper-fine-grained": Preset(
                values={**_CODE, **_FINE},
                source="released discover_vit_*.yaml and pretrain_vit_*.yaml: AdamW, 1e-3 "
                "to 1e-4, a tenth of the epochs warm-up",
            ),
        }
    )

    def discover(self, stage: Stage, items: Items, novel: int) -> None:
        """Keep the network of stage 0, then train as UNO does, held to its relations."""
        self.network.freeze(self.trainable)
        self.teacher = self._kept()
        super().discover(stage, items, novel)
        del self.teacher

    def auxiliary_loss(self, seen: Seen, done: float) -> Tensor:
        """Return the relation loss of the unlabelled items."""
        if not self.alpha:
            return super().auxiliary_loss(seen, done)
        self.follow_student()
        views = slice(None) if self.relation_views == "all" else slice(2)
        open_ = seen.unlabelled
        taught = [each[open_] for each in seen.before] or [
            self.teacher(hidden[open_]) for hidden in seen.hidden[views]
        ]
        teacher = torch.stack([self.teacher.head(features) for features in taught])
        known = torch.stack([scores.known[open_] for scores in seen.scores[views]])
        novel = torch.stack([scores.novel[:, open_] for scores in seen.scores[views]])
        return self.alpha * losses.relation_loss(
            known,
            novel,
            teacher,
            tau=self.tau,
            temperature=self.temperature,
            weighting=self.weighting,
            divergence=self.divergence,
            per_head=self.per_head,
        )

    def cached_teacher(self) -> Previous | None:
        """Return the teacher, unless it moves or nobody asks it."""
        return self.teacher if self.alpha and self.teacher_momentum == 1 else None

    def _kept(self) -> Previous:
        teacher = self.network.teacher()
        if self.teacher_unit_length:
            teacher.head.at_unit_length()  # type: ignore[operator]
        return teacher

    @torch.no_grad()
    def follow_student(self) -> None:
        """Move the teacher towards the student by one step of its moving average."""
        if self.teacher_momentum < 1:
            network = self.network
            assert network.known is not None
            current = nn.ModuleList([*network.parts[network.frozen :], network.known])
            for kept, now in zip(self.teacher.parameters(), current.parameters(), strict=True):
                kept.lerp_(now, 1 - self.teacher_momentum)
            for held, fresh in zip(self.teacher.buffers(), current.buffers(), strict=True):
                held.copy_(fresh)
