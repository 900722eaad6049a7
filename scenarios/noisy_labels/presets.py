"""Named protocols: the embedded tracks, and those of the published tables."""

from __future__ import annotations

from typing import Any

from harness.contracts import Preset

_TRACK: dict[str, Any] = {"batch_size": 64, "validation": "noisy", "told": "matrix"}
_SOURCE = "embedded track; one class-incremental stage, a tenth of the training items held out with labels as noisy as the rest"

PRESETS = {
    "digits": Preset(
        values={**_TRACK, "over": "class-incremental[dataset=digits,stages=1]", "epochs": 120, "backbone": "mlp[width=256]"},
        source=_SOURCE,
    ),
    "mnist5k": Preset(
        values={**_TRACK, "over": "class-incremental[dataset=mnist5k,stages=1]", "epochs": 60, "backbone": "mlp[width=256]"},
        source=_SOURCE,
    ),
    "split-digits": Preset(
        values={**_TRACK, "over": "class-incremental[dataset=digits,stages=5]", "epochs": 40, "backbone": "mlp[width=256]",
                "noise": "symmetric[rate=0.2]"},
        source="embedded track: noisy labels in a class-incremental stream; items go to the stage of their label, as in Mammoth and SPR",
    ),
    "two-gaussians": Preset(
        values={"over": "two-gaussians", "noise": "symmetric[rate=0.4]", "probe_epochs": 10, "watched": 0,
                "epochs": 2000, "batch_size": 500, "backbone": "linear"},
        source="Liu et al. 2020, section 3: a linear softmax classifier, full-batch gradient descent from zero",
    ),
}  # fmt: skip
