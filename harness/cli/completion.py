"""`owb completion`: what makes a shell complete verbs, options, and names of strategies, scenarios and data sets."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # typer lists no names there

from harness.cli import console, options

VARIABLE = "_OWB_COMPLETE"
"""Set by the shell's script when it asks what a word may become."""
EPILOGUE = options.examples(
    "owb completion bash >> ~/.bashrc                             once; shells that are opened then complete",
    "owb completion zsh >> ~/.zshrc                               the same for zsh",
    "owb completion fish > ~/.config/fish/completions/owb.fish    and for fish",
)


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell that is to complete.")],
) -> None:
    """Print the script that a shell completes this command by."""
    console.out.file.write(get_completion_script(prog_name="owb", complete_var=VARIABLE, shell=shell) + "\n")
