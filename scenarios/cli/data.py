"""`owb data`: the data sets, where each is found, its card, what is wrong with it, and how it comes here."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from harness.cli import console, options
from harness.cli.plugged import Finding
from harness.errors import UserError
from harness.places import below_data, data_folder, written

if TYPE_CHECKING:
    from harness.contracts import Card, Dataset
    from scenarios.cli.checking import Checked
    from scenarios.datasets.by_name import AnomalySource, HumanSource
    from scenarios.datasets.on_disk.fetching import DownloadPlan
    from scenarios.datasets.on_disk.place import OnDisk

SOME_WRONG = 1

app = typer.Typer(
    help="The data sets: what there is, where it is found, and the card of each.",
    no_args_is_help=True,
    epilog=options.examples("owb data list", "owb data show chars47", "owb data check digits"),
)

Name = Annotated[
    str,
    typer.Argument(
        help="Name of a data set, with parameters in brackets.", autocompletion=options.names_of("dataset")
    ),
]


class Found(NamedTuple):
    """Whether a data set is there, where it is (a package or a folder), and how to get it where it is not."""

    found: bool
    where: str
    obtain: str


@app.command("list", epilog=options.examples("owb data list", "owb data list --json"))
def list_data(as_json: options.Json = False) -> None:
    """List the data sets with their sizes, whether they are there, where, and how to get them."""
    from harness.plugins import find, registered
    from scenarios.datasets.by_name import ANOMALY_SOURCES, HUMAN_SOURCES

    classes = {name: find("dataset", name).cls for name in registered("dataset")}
    places = all_places()
    if as_json:
        cards = {name: asdict(cls.card) for name, cls in classes.items()}
        cards |= {name: source._asdict() for name, source in _read_by_scenarios().items()}
        console.dump({name: {**card, **places[name]._asdict()} for name, card in cards.items()})
        return
    rows = [
        [name, str(cls.card.classes or "any"), str(cls.card.items or "any"), _sides(cls.card)]
        for name, cls in classes.items()
    ]
    rows += [
        [f"anomaly[source={name}]", str(source.categories), str(source.images or "any"), "3 x any"]
        for name, source in ANOMALY_SOURCES.items()
    ]
    rows += [
        [f"human[file={source.file}]", str(source.classes), str(source.labels), "labels"]
        for source in HUMAN_SOURCES.values()
    ]
    ends = [
        ["yes", place.where] if place.found else ["no", place.obtain]
        for place in (places[row[0]] for row in rows)
    ]
    header = ["data set", "classes", "items", "shape", "found", "where, or how to get it"]
    console.grid(header, [[*row, *end] for row, end in zip(rows, ends, strict=True)])
    console.note(f"OWB_DATA is {os.environ.get('OWB_DATA') or 'not set'}")


@app.command("show", epilog=options.examples("owb data show chars47", "owb data show digits --json"))
def show_data(name: Name, as_json: options.Json = False) -> None:
    """Show a data set's card: what it is, how large, whose, where it is found, and what to beware of."""
    from harness.plugins import find
    from scenarios.datasets.by_name import dataset_named

    others = _read_by_scenarios()
    if name in others:
        content = {**others[name]._asdict(), **all_places()[name]._asdict()}
        said = content
    else:
        cls = type(dataset_named(name)) if "[" in name else find("dataset", name).cls
        card = dataset_named(name).card if "[" in name else cls.card
        content = {**asdict(card), **_found(cls)._asdict()}
        said = {
            **content,
            "items": card.items or "any",
            "classes": card.classes or "any",
            "shape": _sides(card),
            "digest": card.digest or "that of the files on disk",
        }
    if as_json:
        console.dump(content)
        return
    said |= {"found": "yes" if content["found"] else "no"}
    for key, value in said.items():
        console.say(f"{key:<8}  {value}".rstrip())


@app.command(
    "check",
    epilog=options.examples(
        "owb data check mnist5k", "owb data check digits --sheet digits.png", "owb data check chars47 --json"
    ),
)
def check_data(
    name: Name,
    sheet: Annotated[
        Path | None,
        typer.Option(help="File for a contact sheet, .png or .html: a few images of every class."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Hold a data set against its card and the contract: how many items of every class and part, which images are
    there twice or look alike, and all that is wrong with its files at once.
    """
    from scenarios.cli.checking import checked, checked_anomaly
    from scenarios.datasets.by_name import dataset_named

    if name.partition("[")[0].strip() == "anomaly":
        if sheet:
            raise UserError("a contact sheet shows classes, which images of anomaly detection have none of")
        _tell(name, checked_anomaly(name), as_json=as_json)
    else:
        _tell(name, checked(dataset_named(name), name, sheet), as_json=as_json)


@app.command(
    "fetch",
    epilog=options.examples(
        "owb data fetch cifar100",
        "owb data fetch cifar100 --to /data --yes",
        "owb data fetch 'svhn[extra=true]' --yes",
    ),
)
def fetch_data(
    name: Name,
    to: Annotated[str, typer.Option(help="Folder to put it below; by default OWB_DATA.")] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree to its licence and size without being asked.")
    ] = False,
) -> None:
    """Fetch a data set from its publisher, unpack it where it is looked for, and check it; an interrupted
    fetch continues.
    """
    from scenarios.cli.checking import checked
    from scenarios.datasets.on_disk.fetching import download_plan

    dataset = _fetchable(name)
    above = written(to) if to else data_folder()
    if not above:
        raise UserError(f"set OWB_DATA to the folder that {name} shall lie in, or say --to")
    todo = download_plan(dataset, above)
    if todo is None:
        console.say(f"{name}: is there already, and right")
        return
    _agree(todo, yes=yes)
    with console.transfers(todo.files) as report:
        todo.run(report=report, tell=console.note)
    _tell(name, checked(todo.dataset, name))
    if to:
        console.note(f"found by OWB_DATA={above.absolute()} or {dataset.name}[root={todo.folder.absolute()}]")


def _fetchable(name: str) -> OnDisk:
    """Return the data set on disk of this name; raise `UserError` where it is none, with how to get it."""
    from harness.selection import configured
    from scenarios.datasets.by_name import ANOMALY_SOURCES, HUMAN_SOURCES
    from scenarios.datasets.on_disk.place import OnDisk

    source = name.removeprefix("anomaly[source=").removesuffix("]")
    if known := ANOMALY_SOURCES.get(source) or HUMAN_SOURCES.get(source):
        raise UserError(f"{source!r} is not fetched by this program: {known.obtain}")
    dataset: Dataset = configured("dataset", name)
    if not isinstance(dataset, OnDisk):
        there = _found(type(dataset))
        raise UserError(
            f"{name!r} comes with a package" + (" that is installed" if there.found else f": {there.obtain}")
        )
    if not dataset.addresses:
        raise UserError(f"{name!r} cannot be fetched by a program: {dataset.obtain}")
    if dataset.root:
        raise UserError(f"say --to {dataset.root} rather than root={dataset.root}")
    return dataset


def _tell(name: str, found: Checked, *, as_json: bool = False) -> None:
    """Print what a check found, and end with exit code 1 where something is wrong."""
    from scenarios.cli.checking import show

    if as_json:
        console.dump({"name": name, **asdict(found)})
    else:
        show(name, found)
    if found.problems:
        raise typer.Exit(SOME_WRONG)


def _agree(todo: DownloadPlan, *, yes: bool) -> None:
    """Say what will come under which licence, and ask."""
    card = todo.dataset.published
    for file, address in todo.files.items():
        console.say(f"{file}  from {address}")
    if todo.archive:
        console.say(f"{todo.archive} is there and will be unpacked")
    size = todo.size()
    console.say(
        f"{card.title}: {'size not stated' if size is None else f'{size / 1e6:.1f} MB'} to come, into {todo.folder}"
    )
    console.say(f"licence: {card.licence}; source: {card.source}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("say --yes to fetch it without being asked")
    if not typer.confirm("Fetch it?", default=True):
        raise typer.Exit


def all_places() -> dict[str, Found]:
    """Return where every data set is, by its name, without reading any."""
    from harness.plugins import find, registered
    from scenarios.datasets.by_name import ANOMALY_SOURCES, HUMAN_SOURCES

    places = {name: _found(find("dataset", name).cls) for name in registered("dataset")}
    places |= {f"anomaly[source={name}]": _anomaly(name) for name in ANOMALY_SOURCES}
    return places | {f"human[file={source.file}]": _human(source) for source in HUMAN_SOURCES.values()}


def _read_by_scenarios() -> dict[str, AnomalySource | HumanSource]:
    """Return what no data set reads, but a scenario by itself, by the name it has in the list."""
    from scenarios.datasets.by_name import ANOMALY_SOURCES, HUMAN_SOURCES

    found: dict[str, AnomalySource | HumanSource] = {
        f"anomaly[source={name}]": source for name, source in ANOMALY_SOURCES.items()
    }
    return found | {f"human[file={source.file}]": source for source in HUMAN_SOURCES.values()}


def _human(source: HumanSource) -> Found:
    """Return where labels that people gave are."""
    from scenarios.shared.human_labels import located

    try:
        return Found(True, str(located(source.file)), source.obtain)
    except UserError:
        return Found(False, "", source.obtain)


def finding() -> Finding:
    """Look at which data sets are there, for `owb doctor`."""
    places = all_places()
    there = [name for name, place in places.items() if place.found]
    missing = [name for name in places if name not in there]
    at_hand = [name for name in missing if name in fetchable()]
    others = [name for name in missing if name not in at_hand]
    above = data_folder()
    advice = [f"`owb data fetch NAME` brings {', '.join(at_hand)}"] if at_hand else []
    advice += [f"`owb data list` says how to get {', '.join(others)}"] if others else []
    if not above:
        advice.append("OWB_DATA is not set: set it to the folder above your data sets")
    elif not above.is_dir():
        advice.append(
            f"OWB_DATA is {above}, and there is no such folder: make it, or set it to the folder above your data sets"
        )
    text = f"{', '.join(there)} ({len(there)} of {len(places)}); OWB_DATA is {above or 'not set'}"
    return Finding(
        text=text, facts={"there": there, "missing": missing, "OWB_DATA": str(above or "")}, advice=advice
    )


def fetchable() -> list[str]:
    """Return the names of the data sets that `owb data fetch` brings."""
    from harness.plugins import find, registered
    from scenarios.datasets.on_disk.place import OnDisk

    classes = {name: find("dataset", name).cls for name in registered("dataset")}
    return [name for name, cls in classes.items() if issubclass(cls, OnDisk) and cls.addresses]


def _found(cls: type[Dataset]) -> Found:
    """Return where a data set is, without reading it."""
    from scenarios.datasets.on_disk.place import OnDisk
    from scenarios.datasets.own.base import Own

    if issubclass(cls, Own):
        return Found(True, f"your own: {cls.usage}", cls.usage)
    if issubclass(cls, OnDisk):
        folder = cls().whereabouts().folder
        return Found(folder is not None, str(folder or ""), cls.obtain)
    packages = re.findall(r"([\w-]+) \(tested", cls.card.package)
    return Found(
        all(_installed(package) for package in packages),
        cls.card.package,
        "pip install 'openworld-bench[data]'",
    )


def _anomaly(name: str) -> Found:
    from scenarios.datasets.by_name import ANOMALY_SOURCES

    source = ANOMALY_SOURCES[name]
    folder = below_data(source.folder)
    found = folder.is_dir()
    return Found(found, str(folder) if found else "", source.obtain)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _sides(card: Card) -> str:
    return "x".join(map(str, card.shape)) or "any"
