"""`owb new`: a file to start from that already passes `owb check`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console, options
from harness.errors import UserError

app = typer.Typer(
    help="Write a file to start from.", no_args_is_help=True, epilog=options.examples("owb new strategy mine")
)

STRATEGY = '''"""{name}: say here in one sentence what it does, and where it comes from."""

import numpy as np

from harness.contracts import Prediction, Query, Stage, Strategy, param


class {cls}(Strategy):
    """Predict the class whose mean training input is nearest."""

    power: float = param(2.0, "power of the distance", gt=0)

    def setup(self) -> None:
        """Make what must exist before the first stage. What is set on self is kept between stages."""
        self.means: dict[int, np.ndarray] = {{}}

    def learn(self, stage: Stage) -> None:
        """Learn one stage: stage.inputs (N, ...), stage.labels (N,); earlier stages do not come again."""
        for label in np.unique(stage.labels[stage.labels >= 0]):
            self.means[int(label)] = stage.inputs[np.flatnonzero(stage.labels == label)].mean(axis=0, dtype=np.float64)

    def predict(self, query: Query) -> Prediction:
        """Answer every item of the query, in its order."""
        inputs = query.inputs[np.arange(len(query.ids))].astype(np.float64)
        far = [(abs(inputs - mean) ** self.power).reshape(len(inputs), -1).sum(axis=1) for mean in self.means.values()]
        return Prediction(classes=np.array(list(self.means))[np.argmin(far, axis=0)])
'''


@app.command(
    "strategy", epilog=options.examples("owb new strategy mine", "owb new strategy mine --folder methods")
)
def new_strategy(
    name: Annotated[str, typer.Argument(help="Name in lower case, such as my-replay.")],
    folder: Annotated[Path, options.path(help="Where to write the file.")] = Path(),
) -> None:
    """Write a working strategy in one file of 15 code lines."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise UserError(
            f"{name!r} cannot name a strategy: use lower-case letters, digits, - and _, beginning with a letter"
        )
    cls = "".join(part.capitalize() for part in re.split("[-_]", name))
    path = folder / f"{name.replace('-', '_')}.py"
    if path.exists():
        raise UserError(f"{path} is there already; choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(STRATEGY.format(name=name, cls=cls), encoding="utf-8")
    console.say(f"wrote {path}; next:")
    console.say(f"  owb check {path}:{cls}")
    console.say(f"  owb run {path}:{cls} --seeds 3")
