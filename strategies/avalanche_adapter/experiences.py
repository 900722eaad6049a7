"""One of our stages as one of Avalanche's experiences, with what its strategies ask of it and nothing of the
stages to come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.contracts import HIDDEN, Stage
from harness.errors import Unsuitable
from strategies.avalanche_adapter.loading import avalanche
from strategies.toolkit.training.tensors import as_tensor


@dataclass
class SeenSoFar:
    """Stands for the benchmark an experience belongs to; it grows by a stage at a time, since later ones are
    not known.

    places: how many classes the learner has room for; what is not taken yet stands as one more experience to
    come.
    """

    places: int = 0
    classes_order: list[int] = field(default_factory=list)
    _sizes: list[int] = field(default_factory=list)

    @property
    def n_classes_per_exp(self) -> list[int]:
        """Classes of every experience so far, then the free places."""
        return [*self._sizes, max(0, self.places - len(self.classes_order))]

    def add(self, classes: list[int]) -> None:
        """Take in the classes of a new stage."""
        self._sizes.append(len(classes))
        self.classes_order += classes


def dataset_of(inputs: Tensor, labels: Tensor, task: int = 0) -> Any:
    """Return a task-aware Avalanche data set of tensors in memory: inputs float32 (N, ...), labels int64
    (N,).
    """
    make = avalanche("benchmarks.utils.classification_dataset")._make_taskaware_tensor_classification_dataset
    return make(inputs, labels, task_labels=task)


def experience_of(stage: Stage, seen: SeenSoFar) -> Any:
    """Return `stage` as an experience of `seen`, which grows by it.

    Raises:
        Unsuitable: a label of the stage is hidden.
    """
    if (stage.labels == HIDDEN).any():
        raise Unsuitable(
            "Avalanche's supervised strategies need every training label, and this stage hides some"
        )
    scenarios = avalanche("benchmarks.scenarios")
    classes = [int(label) for label in np.unique(stage.labels)]
    previous = list(seen.classes_order)
    seen.add([label for label in classes if label not in previous])
    dataset = dataset_of(as_tensor(stage.inputs, "cpu"), torch.tensor(stage.labels))
    experience = scenarios.DatasetExperience(dataset=dataset, current_experience=stage.index)
    experience.origin_stream = scenarios.CLStream(
        "train", iter([experience]), benchmark=seen, set_stream_info=False
    )
    experience.benchmark = seen
    experience.classes_in_this_experience = classes
    experience.previous_classes = previous
    experience.classes_seen_so_far = list(seen.classes_order)
    experience.task_label, experience.task_labels = 0, [0]
    return experience
