"""Controls: dropout of one rate, and validation items as training items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from componented import networked, only, stage_like
from fakes import FakeContext
from torch import Tensor

from harness.contracts import Stage, Validation
from harness.errors import Unsuitable
from harness.selection import configured
from strategies.toolkit.training.loop import Batch

BATCH = Batch(torch.rand(4, 5), torch.zeros(4, dtype=torch.long), torch.arange(4), step=1, steps=9)


def test_units_of_every_hidden_layer_are_left_out_and_the_others_scaled() -> None:
    network, plain = networked("fixed-dropout[rate=0.25]"), networked()
    network.backbone.train()
    inputs, seen = torch.rand(2000, 5), []
    layers = [network.backbone.get_submodule(f"layers.{place}") for place in (1, 3)]
    for layer in layers:
        layer.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    only(network).change(network, BATCH)
    features = network.backbone(inputs)
    assert torch.equal(seen[0][0], inputs)  # those of the items are not
    for out, given in ((seen[0][1], seen[1][0]), (seen[1][1], features)):
        active = out.relu()
        kept = given != 0
        assert torch.allclose(given, active * kept / 0.75)
        assert float(kept[active > 0].float().mean()) == pytest.approx(0.75, abs=0.02)
    only(network).change(network, BATCH)
    assert torch.equal(network.backbone(inputs), features)
    only(network).change(network, BATCH._replace(step=2))
    assert not torch.equal(network.backbone(inputs), features)
    assert torch.equal(network.eval().backbone(inputs), plain.backbone(inputs))
    with pytest.raises(
        Unsuitable, match="has no hidden layer, of which component fixed-dropout leaves units out"
    ):
        networked("fixed-dropout", "linear")


def _learned(components: str, stage: Stage) -> Any:
    learner: Any = configured("strategy", f"cross-entropy[components={components}]")
    learner.start(FakeContext(epochs=3))
    learner.learn(stage)
    return learner


def _logits(learner: Any, stage: Stage) -> Tensor:
    logits: Tensor = learner.models[0].evaluated(torch.from_numpy(np.asarray(stage.inputs)))
    return logits


def test_validation_items_are_trained_on_like_those_of_the_stage() -> None:
    whole = stage_like(0, 3, items=24)
    assert isinstance(whole.inputs, np.ndarray)
    held = Validation(ids=whole.ids[16:], inputs=whole.inputs[16:], labels=whole.labels[16:])
    part = replace(
        whole, ids=whole.ids[:16], inputs=whole.inputs[:16], labels=whole.labels[:16], validation=held
    )
    both = _learned("validation-as-training", part)
    assert torch.equal(_logits(both, whole), _logits(_learned("", whole), whole))
    assert not torch.equal(_logits(both, whole), _logits(_learned("", part), whole))
    assert len(both.handed) == 16  # labels of the stage are judged, and no others
    with pytest.raises(Unsuitable, match="has no validation items in this protocol"):
        _learned("validation-as-training", whole)
    with pytest.raises(
        Unsuitable, match="adds items by component validation-as-training, which early-teacher would"
    ):
        _learned("validation-as-training+early-teacher", part)
