"""`owb slurm`: the batch file with which Slurm does a run on several nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console, options
from harness.errors import UserError

SETTINGS = {"allow_interspersed_args": False}
EPILOGUE = options.examples(
    "owb slurm replay ewc                                              one whole node; printed",
    "owb slurm --nodes 4 --time 4:00:00 --out job.sh replay ewc -n 10  four of them; then: sbatch job.sh",
    "owb slurm -N 2 -c 16 -p short --out job.sh suite.yaml             16 cores of each of two nodes",
    "owb slurm --gpus-per-node 4 --out job.sh replay --device cuda --gpus 0.5   8 workers of half a GPU",
)


def slurm(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="WORDS", help="What follows `owb run`: strategies, options, a suite file."),
    ],
    nodes: Annotated[int, typer.Option("--nodes", "-N", min=1, help="Number of nodes.")] = 1,
    cores: Annotated[
        int | None,
        typer.Option("--cpus-per-task", "-c", min=1, help="Cores of each node; by default whole nodes."),
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus-per-node", min=0, help="GPUs of each node.")] = 0,
    time: Annotated[
        str, typer.Option("--time", "-t", help="Longest time, such as 90 (minutes), 4:00:00 or 2-12.")
    ] = "",
    partition: Annotated[str, typer.Option("--partition", "-p", help="Partition of the cluster.")] = "",
    out: Annotated[
        Path | None, options.path("--out", "-o", help="The file; by default it is printed.")
    ] = None,
) -> None:
    """Write a batch file for Slurm that starts Ray on a job's nodes, does `owb run` there and ends Ray.

    Options of this verb stand before WORDS, those of `owb run` among them.
    """
    from harness.execution.slurm import Allocation, batch_file

    allocation = Allocation(nodes=nodes, cores=cores, gpus=gpus, time=time, partition=partition)
    _check_words(context, words)
    text = batch_file(words, allocation)
    if out is None:
        console.say(text.rstrip("\n"))
        return
    temporary = out.with_name(f".{out.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(out)
    console.note(f"wrote {out}; next: sbatch {out}")


def _check_words(context: typer.Context, words: list[str]) -> None:
    """Read the words as `owb run` will, hours before it does.

    Raises:
        UserError: they name another cluster.
    """
    parent = context.parent
    assert parent is not None
    assert isinstance(parent.command, typer.core.TyperGroup)
    command = parent.command.get_command(parent, "run")
    assert command is not None
    if command.make_context("run", [*words], parent=parent).params["address"] is not None:
        raise UserError("the job starts a cluster of its own: leave out --address")
