"""The shell steps of a workflow's job, run here as the host runs them: `bash -e`, one after another, the rest
skipped where one fails. What stands for the host's actions and expressions is given.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from checkout import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"
Action = Callable[[Path, Mapping[str, str]], None]
"""Called with the workspace and the step's `with`."""


@dataclass
class Job:
    """What became of a job: its result, the names of the steps that ran, and what they printed."""

    failed: bool = False
    ran: list[str] = field(default_factory=list)
    said: str = ""


def workflow(name: str) -> dict[Any, Any]:
    """Return the content of a workflow."""
    content: dict[Any, Any] = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))
    return content


def run_job(
    name: str,
    job: str,
    workspace: Path,
    *,
    values: Mapping[str, str],
    actions: Mapping[str, Action],
    without: Collection[str] = (),
) -> Job:
    """Run a job of a workflow in the folder `workspace`.

    Args:
        name: file of the workflow.
        job: name of the job.
        workspace: an empty folder.
        values: what expressions such as `github.sha` stand for; an unknown one is an error.
        actions: what stands for an action, by its name without the commit.
        without: shell steps that are left out, by name or text.
    """
    workspace.mkdir(parents=True)
    temporary = workspace.with_name(f"{workspace.name}-temporary")
    temporary.mkdir()
    known = {**values, "runner.temp": str(temporary)}
    done = Job()
    for step in workflow(name)["jobs"][job]["steps"]:
        title = step.get("name") or step.get("run") or step["uses"].partition("@")[0]
        condition = step.get("if", "success()")
        if title in without or not _holds(condition, known, done.failed):
            continue
        done.ran.append(title)
        if "uses" in step:
            said = {name: _filled(str(value), known) for name, value in step.get("with", {}).items()}
            actions[step["uses"].partition("@")[0]](workspace, said)
            continue
        output = temporary / "output"
        output.write_text("")
        environment = {
            **{name: value for name, value in os.environ.items() if name != "BASE"},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(output),
            **{name: _filled(str(value), known) for name, value in step.get("env", {}).items()},
        }
        ended = subprocess.run(
            ["bash", "-e", "-c", _filled(step["run"], known)],
            cwd=workspace / step.get("working-directory", "."),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        done.said += ended.stdout
        done.failed |= ended.returncode != 0
        for line in output.read_text().splitlines():
            key, _, value = line.partition("=")
            known[f"steps.{step['id']}.outputs.{key}"] = value
    return done


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ (.+?) \}\}", lambda found: values[found[1]], text)


def _holds(condition: str, values: Mapping[str, str], failed: bool) -> bool:
    """Evaluate `always()`, `success()` and comparisons with a text, joined by `&&`."""
    parts = condition.split(" && ")
    said = [_is_so(part, values, failed) for part in parts]
    return all(said) and (not failed or "always()" in parts)


def _is_so(part: str, values: Mapping[str, str], failed: bool) -> bool:
    if part in ("always()", "success()"):
        return part == "always()" or not failed
    name, text = part.split(" == ")
    return values[name] == text.strip("'")
