"""`owb new`: a file to start from that already works: `owb check` and `owb data check` pass it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import console, options, scaffolds
from harness.errors import UserError

app = typer.Typer(
    help="Write a file to start from.",
    no_args_is_help=True,
    epilog=options.examples("owb new strategy mine", "owb new notebook mine"),
)

Name = Annotated[str, typer.Argument(help="Name in lower case, such as my-replay.")]
Folder = Annotated[Path, options.path("--folder", help="Where to write the file.")]


def _epilogue(kind: str) -> str:
    return options.examples(f"owb new {kind} mine", f"owb new {kind} mine --folder methods")


@app.command("strategy", epilog=_epilogue("strategy"))
def new_strategy(name: Name, folder: Folder = Path()) -> None:
    """Write a working strategy in one file of 15 code lines."""
    plugin = _written(name, folder, scaffolds.STRATEGY)
    _say_next(f"owb check {plugin}", f"owb run {plugin} --seeds 3")


@app.command("scenario", epilog=_epilogue("scenario"))
def new_scenario(name: Name, folder: Folder = Path()) -> None:
    """Write a working scenario in one file: what it deals, and how it scores."""
    plugin = _written(name, folder, scaffolds.SCENARIO)
    _say_next(f"owb check {plugin}", f"owb run replay -s {plugin} --seeds 3")


@app.command("dataset", epilog=_epilogue("dataset"))
def new_dataset(name: Name, folder: Folder = Path()) -> None:
    """Write a working data set in one file; pictures, tables and arrays are read without one."""
    plugin = _written(name, folder, scaffolds.DATASET)
    _say_next(
        f"owb data check {plugin}",
        f"owb run replay -s 'class-incremental[dataset={plugin},stages=3]' --seeds 3",
    )


@app.command("component", epilog=_epilogue("component"))
def new_component(name: Name, folder: Folder = Path()) -> None:
    """Write a working component in one file: a change to how learners train."""
    plugin = _written(name, folder, scaffolds.COMPONENT)
    _say_next(
        f"owb check {plugin}",
        f"owb run cross-entropy 'cross-entropy[components={plugin}]' -s 'noisy-labels[preset=digits]' --seeds 3",
    )


@app.command("notebook", epilog=_epilogue("notebook"))
def new_notebook(name: Name, folder: Folder = Path()) -> None:
    """Write a notebook with data, a strategy and a run of one's own."""
    cells: list[dict[str, Any]] = [
        {
            "cell_type": kind,
            "id": f"cell-{number}",
            "metadata": {},
            **({"execution_count": None, "outputs": []} if kind == "code" else {}),
            "source": text.format(name=name, cls=_class_of(name)).splitlines(keepends=True),
        }
        for number, (kind, text) in enumerate(scaffolds.NOTEBOOK)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path = _free(name, folder, "ipynb")
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    console.say(f"wrote {path}; open it in Jupyter, from an environment that has openworld-bench")


def _written(name: str, folder: Path, text: str) -> str:
    """Write a module with one class, and return the name of the plugin."""
    cls, path = _class_of(name), _free(name, folder, "py")
    path.write_text(text.format(name=name, cls=cls), encoding="utf-8")
    console.say(f"wrote {path}; next:")
    return f"{path}:{cls}"


def _say_next(*commands: str) -> None:
    for command in commands:
        console.say(f"  {command}")


def _class_of(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise UserError(
            f"{name!r} cannot name it: use lower-case letters, digits, - and _, beginning with a letter"
        )
    return "".join(part.capitalize() for part in re.split("[-_]", name))


def _free(name: str, folder: Path, ending: str) -> Path:
    path = folder / f"{name.replace('-', '_')}.{ending}"
    if path.exists():
        raise UserError(f"{path} is there already; choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    return path
