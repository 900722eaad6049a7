"""`owb data`: the data sets, and the card of each."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from harness import console
from harness.cli import options

app = typer.Typer(help="The data sets: what there is, and the card of each.", no_args_is_help=True,
                  epilog=options.examples("owb data list", "owb data show chars47", "owb data check digits"))  # fmt: skip


@app.command("list", epilog=options.examples("owb data list", "owb data list --json"))
def list_data(as_json: options.Json = False) -> None:
    """List the data sets with their sizes and where they come from."""
    from harness.plugins import find, registered

    cards = {name: find("dataset", name).cls.card for name in registered("dataset")}
    if as_json:
        console.dump({name: asdict(card) for name, card in cards.items()})
        return
    rows = [[name, str(card.classes), str(card.items), "x".join(map(str, card.shape)), card.package] for name, card in cards.items()]
    console.grid(["data set", "classes", "items", "shape", "package"], rows)


@app.command("show", epilog=options.examples("owb data show chars47", "owb data show digits --json"))
def show_data(name: Annotated[str, typer.Argument(help="Name of a data set.")], as_json: options.Json = False) -> None:
    """Show a data set's card: what it is, how large, whose, and what to beware of."""
    from harness.plugins import find

    card = find("dataset", name).cls.card
    if as_json:
        console.dump(asdict(card))
        return
    for key, value in asdict(card).items():
        console.say(f"{key:<8}  {'x'.join(map(str, value)) if key == 'shape' else value}")


@app.command("check", epilog=options.examples("owb data check mnist5k"))
def check_data(name: Annotated[str, typer.Argument(help="Name of a data set, with parameters in brackets.")]) -> None:
    """Load a data set and hold it against its card."""
    import numpy as np

    from harness.errors import UserError
    from harness.selection import configured

    dataset = configured("dataset", name)
    data = dataset.load()
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    if (len(data.labels), len(data.class_names)) != (dataset.card.items, dataset.card.classes) and "[" not in name:
        raise UserError(f"{name} loads {len(data.labels)} items of {len(data.class_names)} classes, its card says otherwise")
    console.say(f"{name}: {len(data.labels)} items of {len(data.class_names)} classes, {counts.min()} to {counts.max()} per class, "
                f"inputs {data.inputs.shape}")  # fmt: skip
