"""Where a run comes from: who began it, by which command, at which commit. MLflow's own tags."""

from __future__ import annotations

import getpass
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

_LONGEST = 500
_PATIENCE_S = 5.0


def provenance() -> dict[str, str]:
    """Return user, command, and the commit of the repository that the working folder lies in, where there is
    one.

    The commit is where the reader begins to look; which code ran is said by the tag `owb.code`, whether it was
    committed or not.
    """
    command = shlex.join([Path(sys.argv[0]).name or "python", *sys.argv[1:]])
    tags = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": command[:_LONGEST],
        "mlflow.user": _user(),
        "mlflow.source.git.commit": _commit(Path.cwd()),
    }
    return {name: value for name, value in tags.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container that runs under a number
        return ""


@cache
def _commit(folder: Path) -> str:
    """Return the commit that is checked out; empty without a repository, a commit or git."""
    ask = ["git", "-C", str(folder), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        found = subprocess.run(ask, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


__all__ = ["provenance"]
