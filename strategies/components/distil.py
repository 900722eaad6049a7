"""Distillation from several teachers, with a discriminator and without labels (Shen and Savvides 2020, MEAL V2, arXiv
2009.08453; released code at 59e6bca).

The student minimises -sum q log p, q the mean of the teachers' softmaxes, plus L_D, the binary cross-entropy of a
discriminator that is shown the student's logits (1, 0) and the mean of the teachers' logits (0, 1): linear layers C ->
C/K -> C/K^2 -> 2 with a ReLU behind each, the last too, mean over 2B x 2. As in the released code one backward pass
minimises L_D by student and discriminator alike (`released`): nothing is reversed, and the student learns to be told
apart from its teachers. `adversarial` negates its gradient to the student, `off` leaves it out. The discriminator
trains at the student's rate, as it does in the released code, whose own rate for it is overwritten. It dies easily:
outputs of zero, a loss of log 2 and no gradient. K is 8 in the released code, for 1000 classes; with ten there the
second layer would have no unit.

There are no pretrained weights here: teachers are trained before, as those of `early-teacher`, and at the first stage
the student starts from the first of them. Weight decay is off while distilling. `early-teacher` is the control: what
teachers that stopped early do by themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.contracts import param
from strategies.components.contract import Rate, Task
from strategies.components.early_teacher import EarlyTeacher
from strategies.components.modules import started_from
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch


class Discriminator(nn.Module):
    """Logits (N, C) to two outputs that are not negative, (N, 2)."""

    def __init__(self, classes: int, reduction: int) -> None:
        super().__init__()
        sizes = [classes, max(1, classes // reduction), max(1, classes // reduction**2), 2]
        self.layers = nn.ModuleList(nn.Linear(*each) for each in itertools.pairwise(sizes))

    def forward(self, logits: Tensor) -> Tensor:
        """Return the outputs."""
        for layer in self.layers:
            logits = layer(logits).relu()
        return logits


def discriminated(discriminator: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """Return L_D for logits (B, C) of the student and the mean ones of the teachers."""
    outputs = discriminator(torch.cat([student, teacher]))
    wanted = torch.zeros_like(outputs)
    wanted[: len(student), 0] = 1
    wanted[len(student) :, 1] = 1
    return functional.binary_cross_entropy_with_logits(outputs, wanted)


class Distil(EarlyTeacher):
    """Learn from teachers' soft labels, beside a discriminator that tells student and teachers apart."""

    teachers: int = param(2, "networks whose probabilities are averaged", ge=1, ablate=[1])
    start: Literal["teacher", "fresh"] = param(
        "teacher", "where the student starts at the first stage", ablate=["fresh"]
    )
    discriminator: Literal["released", "adversarial", "off"] = param(
        "released",
        "what the student makes of it: as in the released code, reversed, or nothing",
        ablate=["adversarial", "off"],
    )
    reduction: int = param(
        2, "K, by which the discriminator's layers narrow (published 8, for 1000 classes)", ge=1
    )
    label: float = param(0.0, "share of the label in the target", ge=0, le=1, ablate=[0.5])
    decay: bool = param(False, "whether weights decay while distilling", ablate=[True])

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Give a head its discriminator."""
        if self.discriminator != "off" and isinstance(part, nn.Linear) and part is network.head:
            part.add_module("discriminator", Discriminator(part.out_features, self.reduction))

    def begin(self, task: Task) -> int:
        """Train the teachers, and start from the first.

        Raises:
            Unsuitable: no pass would be left for the learner.
        """
        spent = super().begin(task)
        if self.start == "teacher" and task.stage.index == 0:
            started_from(task.network, self.trained[0])
        return spent

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        """Return no decay for any weight."""
        return {} if self.decay else {weights: Rate(decay=0.0) for weights in network.parameters()}

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch with the teachers' probabilities as its targets, and some of the label."""
        self.wanted = self.answers(batch.inputs)
        targets = self.wanted.softmax(dim=2).mean(dim=0)
        if self.label:
            hard = functional.one_hot(batch.labels, targets.shape[1])
            targets = (1 - self.label) * targets + self.label * hard
        return batch._replace(targets=targets)

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor | None:
        """Return the discriminator's loss."""
        if self.discriminator == "off":
            return None
        assert network.head is not None
        student = seen.logits[: len(batch.labels)]
        if self.discriminator == "adversarial":
            student = 2 * student.detach() - student  # the same values, with a gradient of the other sign
        return discriminated(
            network.head.get_submodule("discriminator"), student.float(), self.wanted.mean(dim=0)
        )
