"""Soft labels of teachers that stopped early: what lies in distillation under wrong labels, without the rest of it.

Teachers are networks like the learner's, trained with its own loss for the first share of the passes, before they
learn wrong labels by heart; the learner is then shown the mean of their probabilities for what it is shown, and no
label. It is the control beside MEAL V2 (Shen and Savvides 2020, arXiv 2009.08453), whose targets these are and whose
discriminator is left out.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.contracts import param
from strategies.components.before import Before
from strategies.components.contract import Need, Task
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.loop import Batch


class EarlyTeacher(Before):
    """Learn from the soft labels of teachers that stopped early."""

    teachers: int = param(1, "networks whose probabilities are averaged (published 2)", ge=1, ablate=[2])
    share: float = param(
        0.1, "passes of each, of the learner's; late teachers have memorised", gt=0, le=1, ablate=[0.5]
    )

    needs: ClassVar[frozenset[Need]] = frozenset({"targets"})

    def begin(self, task: Task) -> int:
        """Train the teachers.

        Raises:
            Unsuitable: no pass would be left for the learner.
        """
        passes, spent = self.passes(task, self.share, self.teachers)
        self.trained = [task.teacher(f"{self.stream_name}-{place}", passes) for place in range(self.teachers)]
        return spent

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch with the teachers' probabilities as its targets."""
        return batch._replace(targets=self.probabilities(batch.inputs))

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Return the mean of the teachers' probabilities (B, C)."""
        return self.answers(inputs).softmax(dim=2).mean(dim=0)

    def answers(self, inputs: Tensor) -> Tensor:
        """Return the logits of every teacher, (teachers, B, C), in evaluation mode."""
        found = []
        for teacher in self.trained:
            with eval_mode(teacher):
                logits = teacher(inputs)
                found.append(logits if logits.dtype == torch.float64 else logits.float())
        return torch.stack(found)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: every stage has teachers of its own."""
        return {}
