"""`owb demo`: the main job in a minute: real strategies on real data, in parallel, recorded, ranked, and
shown as a page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console, options, run
from harness.execution.machine import Machine

EPILOGUE = options.examples(
    "owb demo                  run it; a second time everything is cached",
    "owb demo --workers 1      on one core",
    "owb demo --json           the ranking for machines",
)


def demo(
    workers: options.Workers = None,
    store: options.Store = "owb-store",
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would run and what is already there; run nothing.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Benchmark the baselines on three embedded data sets with three seeds."""
    import leaderboards
    from harness.protocol.cells import read_suite

    suite = read_suite(Path(leaderboards.__path__[0]) / "suites" / "demo.yaml")
    records = run.run_suite(suite, Machine(workers=workers), store, only_plan=plan, as_json=as_json)
    if records and not as_json:
        page = _page(store, suite.title)
        console.note(f"the same as a page for the browser: {page}")
        console.note(
            "look further: owb show demo --cells; owb show KEY; owb compare der replay --name demo; owb run --help"
        )
    if any(record.status not in ("done", "cached") for record in records):
        raise typer.Exit(run.SOME_FAILED)


def _page(store: str, title: str) -> Path:
    """Build the demo's page in ./site and return where it is."""
    from harness.store.mlflow_store import Store
    from leaderboards.site import build_experiment, write_index

    folder = Path("site")
    build_experiment(Store(store), "demo", folder, title=title)
    write_index(folder)
    return folder / "demo" / "index.html"
