"""What `--compile` needs of a machine, and how a compilation that fails is told from other failures."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from harness.errors import UserError

_WITHOUT = "or leave --compile out"


def check_compiler(device: str) -> None:
    """Refuse to compile for the CPU where there is no C++ compiler, as torch looks for one; that of a GPU is
    looked for in the worker.

    Raises:
        UserError: there is none.
    """
    if device == "cpu" and not compiler_found():
        raise UserError(_no_compiler(compiler_named()))


def compiler_named() -> str:
    """Return the C++ compiler that torch would call: what CXX says, or the usual one of the system."""
    return os.environ.get("CXX") or (
        "clang++" if sys.platform == "darwin" else "cl" if sys.platform == "win32" else "g++"
    )


def compiler_found() -> str:
    """Return the path of that compiler, empty where it is not there."""
    return shutil.which(shlex.split(compiler_named())[0]) or ""


def uncompiled(error: BaseException) -> str:
    """Return in one sentence why torch could not compile a network, empty where it is another error."""
    compiler = sys.modules.get("torch._dynamo.exc")  # where it is not loaded, nothing of it can have failed
    if compiler is None or not isinstance(error, compiler.TorchDynamoException):
        return ""
    cause: BaseException = getattr(error, "inner_exception", None) or error
    message = str(cause)
    if type(cause).__name__ == "InvalidCxxCompiler":
        return _no_compiler(compiler_named())
    if type(cause).__name__ == "TritonMissing":
        return f"--compile needs Triton on a GPU, and torch finds none that works: install triton, {_WITHOUT}"
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [type(cause).__name__]
    reason = next((line for line in lines if "error:" in line), lines[0]).rstrip(".")
    return f"torch could not compile the network: {reason[:300]}; leave --compile out"


def _no_compiler(wanted: str) -> str:
    return f"--compile needs a C++ compiler, and {wanted!r} is not there: install g++, name another in CXX, {_WITHOUT}"
