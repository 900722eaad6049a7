"""`owb data`: the data sets, where each is found, its card, and what is wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from harness import console
from harness.cli import options
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.contracts import Card, Dataset, IntArray

SOME_WRONG = 1

app = typer.Typer(help="The data sets: what there is, where it is found, and the card of each.", no_args_is_help=True,
                  epilog=options.examples("owb data list", "owb data show chars47", "owb data check digits"))  # fmt: skip

Name = Annotated[str, typer.Argument(help="Name of a data set, with parameters in brackets.")]


class Found(NamedTuple):
    """Whether a data set is there, where it is (a package or a folder), and how to get it where it is not."""

    found: bool
    where: str
    obtain: str


@app.command("list", epilog=options.examples("owb data list", "owb data list --json"))
def list_data(as_json: options.Json = False) -> None:
    """List the data sets with their sizes, whether they are there, where, and how to get them."""
    from harness.plugins import find, registered
    from scenarios.on_disk import ANOMALY_SOURCES

    classes = {name: find("dataset", name).cls for name in registered("dataset")}
    places = {name: _found(cls) for name, cls in classes.items()} | {f"anomaly[source={name}]": _anomaly(name) for name in ANOMALY_SOURCES}
    if as_json:
        cards = {name: asdict(cls.card) for name, cls in classes.items()}
        cards |= {f"anomaly[source={name}]": source._asdict() for name, source in ANOMALY_SOURCES.items()}
        console.dump({name: {**card, **places[name]._asdict()} for name, card in cards.items()})
        return
    rows = [[name, str(cls.card.classes), str(cls.card.items), _sides(cls.card)] for name, cls in classes.items()]
    rows += [[f"anomaly[source={name}]", str(source.categories), str(source.images), "3 x any"] for name, source in ANOMALY_SOURCES.items()]
    ends = [["yes", place.where] if place.found else ["no", place.obtain] for place in (places[row[0]] for row in rows)]
    header = ["data set", "classes", "items", "shape", "found", "where, or how to get it"]
    console.grid(header, [[*row, *end] for row, end in zip(rows, ends, strict=True)])
    console.note(f"OWB_DATA is {os.environ.get('OWB_DATA') or 'not set'}")


@app.command("show", epilog=options.examples("owb data show chars47", "owb data show digits --json"))
def show_data(name: Annotated[str, typer.Argument(help="Name of a data set.")], as_json: options.Json = False) -> None:
    """Show a data set's card: what it is, how large, whose, where it is found, and what to beware of."""
    from harness.plugins import find

    cls = find("dataset", name).cls
    content: dict[str, Any] = {**asdict(cls.card), **_found(cls)._asdict()}
    if as_json:
        console.dump(content)
        return
    said = {**content, "shape": _sides(cls.card), "found": "yes" if content["found"] else "no",
            "digest": cls.card.digest or "that of the files on disk"}  # fmt: skip
    for key, value in said.items():
        console.say(f"{key:<8}  {value}".rstrip())


@app.command("check", epilog=options.examples("owb data check mnist5k", "owb data check 'cifar100[root=FOLDER]'"))
def check_data(name: Name) -> None:
    """Hold a data set against its card; of one on disk say all that is wrong with its files at once."""
    from harness.selection import configured
    from scenarios.datasets.on_disk.place import OnDisk

    dataset: Dataset = configured("dataset", name)
    if isinstance(dataset, OnDisk):
        if problems := dataset.problems():
            for problem in problems:
                console.complain(problem)
            console.say(f"{name}: {len(problems)} {'problem' if len(problems) == 1 else 'problems'}")
            raise typer.Exit(SOME_WRONG)
        labels, names = dataset.labelled()
        console.say(f"{name}: {_counted(labels, names)}, digest {dataset.card.digest[:16]}, in {dataset.folder()}")
        return
    data = dataset.load()
    if (len(data.labels), len(data.class_names)) != (dataset.card.items, dataset.card.classes) and "[" not in name:
        raise UserError(f"{name} loads {len(data.labels)} items of {len(data.class_names)} classes, its card says otherwise")
    console.say(f"{name}: {_counted(data.labels, data.class_names)}, inputs {data.inputs.shape}")


def _counted(labels: IntArray, class_names: Sequence[str]) -> str:
    import numpy as np

    counts = np.bincount(labels, minlength=len(class_names))
    return f"{len(labels)} items of {len(class_names)} classes, {counts.min()} to {counts.max()} per class"


def _found(cls: type[Dataset]) -> Found:
    """Return where a data set is, without reading it."""
    from scenarios.datasets.on_disk.place import OnDisk

    if issubclass(cls, OnDisk):
        folder = cls().whereabouts().folder
        return Found(folder is not None, str(folder or ""), cls.obtain)
    packages = re.findall(r"([\w-]+) \(tested", cls.card.package)
    return Found(all(_installed(package) for package in packages), cls.card.package, "pip install 'openworld-bench[data]'")


def _anomaly(name: str) -> Found:
    from scenarios.on_disk import ANOMALY_SOURCES

    source = ANOMALY_SOURCES[name]
    folder = Path(os.environ.get("OWB_DATA", "")).expanduser() / source.folder
    found = folder.is_dir()
    return Found(found, str(folder) if found else "", source.obtain)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _sides(card: Card) -> str:
    return "x".join(map(str, card.shape))
