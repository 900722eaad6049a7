"""Where a cost was measured: a name for a run on a machine. Costs compare where it is the same."""

from __future__ import annotations

import hashlib
import socket
import uuid

_LENGTH = 12


def this_machine() -> str:
    """Return a name for this machine that does not give it away."""
    return _short(socket.gethostname())


def new_session() -> str:
    """Return a name for what is run from now to the end of a command."""
    return uuid.uuid4().hex


def session_here(session: str) -> str:
    """Return the name of a driver's `session` on this machine. Empty without one."""
    return _short(f"{session}:{this_machine()}") if session else ""


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
