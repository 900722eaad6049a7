"""A filter of system calls (seccomp) that a process puts on itself and cannot take off, and the listener
outside that is told what was tried.

The verdict is the kernel's: it holds for native code as for Python, in every thread, and no state in the
process has a say in it. A call that no learner makes waits until whoever holds the listener has written it
down and answered that it is not permitted; calls that libraries try and do without fail at once. See
seccomp(2) and `Documentation/userspace-api/seccomp_filter.rst` of Linux. Needs Linux 5.7 on x86_64 or aarch64.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import select
import struct
from collections.abc import Sequence
from typing import NamedTuple

from harness.sandbox.guard import checked
from harness.sandbox.syscalls import NEWEST, OTHERS, PROCESS, QUIET, SIGNAL, STRANGE, TOLD, Machine, numbers

_MACHINES: dict[str, tuple[Machine, int]] = {
    "x86_64": ("x86_64", 0xC000003E),
    "aarch64": ("aarch64", 0xC00000B7),
}
"""Names and AUDIT_ARCH numbers of machines by what the system calls them."""

_ALLOW, _ERRNO, _NOTIFY = 0x7FFF0000, 0x00050000, 0x7FC00000
_LOAD, _AND, _EQUAL, _ABOVE, _FROM, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x35, 0x06
_CALL, _MACHINE, _ARGUMENTS = 0, 4, 16
"""Where a filter finds them; of an argument of 8 bytes, the lower half comes first."""
_X32 = 0x40000000
_CLONE_THREAD, _CLONE_NEW = 0x10000, 0x7E020080
_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20

_SET_FILTER = 1
_ALL_THREADS, _NEW_LISTENER, _OR_NONE = 1, 8, 16
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_AT_ONCE = 64
"""Calls that are answered before limits are looked at again."""
_NOTICE, _ANSWER = struct.Struct("=QII iIQ 6Q"), struct.Struct("=QqiI")


class Instruction(NamedTuple):
    """One step of a classic BPF program. then, other: how many steps a comparison skips."""

    code: int
    then: int
    other: int
    value: int


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


def program(machine: Machine, own: int) -> list[Instruction]:
    """Return the filter for a process of id `own`: what each system call comes to."""
    number = numbers(machine)
    architecture = dict(_MACHINES.values())[machine]
    steps = [_step(_LOAD, _MACHINE), Instruction(_EQUAL, 1, 0, architecture), _step(_RETURN, _NOTIFY)]
    steps += [_step(_LOAD, _CALL)]
    if machine == "x86_64":
        steps += [Instruction(_FROM, 0, 1, _X32), _step(_RETURN, _NOTIFY)]
    steps += [Instruction(_ABOVE, 0, 1, NEWEST), _step(_RETURN, _ERRNO | errno.ENOSYS)]
    for name in (name for names in TOLD.values() for name in names):
        steps += _if_called(number.get(name), [_step(_RETURN, _NOTIFY)])
    for error, names in QUIET.items():
        for name in names:
            steps += _if_called(number.get(name), [_step(_RETURN, _ERRNO | error)])
    threads = [_argument(0), _step(_AND, _CLONE_THREAD | _CLONE_NEW), *_only(_CLONE_THREAD)]
    steps += _if_called(number["clone"], threads)
    for name in _OF_PROCESSES:
        allowed = [own, 0] if name == "prlimit64" else [own]
        steps += _if_called(number[name], [_argument(0), *_only(*allowed)])
    hidden = _MAP_SHARED | _MAP_ANONYMOUS
    shared = [_argument(3), _step(_AND, hidden), *_but(hidden)]
    own_filter = [_argument(0), *_but(_PR_SET_SECCOMP)]
    steps += [*_if_called(number["mmap"], shared), *_if_called(number["prctl"], own_filter)]
    return [*steps, _step(_RETURN, _ALLOW)]


_OF_PROCESSES = {
    "kill": SIGNAL,
    "tgkill": SIGNAL,
    "rt_sigqueueinfo": SIGNAL,
    "rt_tgsigqueueinfo": SIGNAL,
    "prlimit64": OTHERS,
}
"""Calls whose first argument is a process, which has to be one's own."""
_SENTENCES = {name: sentence for sentence, names in TOLD.items() for name in names}
_SENTENCES |= {"clone": PROCESS, **_OF_PROCESSES}


def _step(code: int, value: int) -> Instruction:
    return Instruction(code, 0, 0, value)


def _argument(place: int) -> Instruction:
    return _step(_LOAD, _ARGUMENTS + 8 * place)


def _but(value: int) -> list[Instruction]:
    """Refuse this value of what was loaded quietly, and allow all others."""
    return [Instruction(_EQUAL, 0, 1, value), _step(_RETURN, _ERRNO | errno.EPERM), _step(_RETURN, _ALLOW)]


def _only(*values: int) -> list[Instruction]:
    """Allow these values of what was loaded, and tell of all others."""
    steps = [step for value in values for step in (Instruction(_EQUAL, 0, 1, value), _step(_RETURN, _ALLOW))]
    return [*steps, _step(_RETURN, _NOTIFY)]


def _if_called(number: int | None, steps: Sequence[Instruction]) -> list[Instruction]:
    return [] if number is None else [Instruction(_EQUAL, 0, len(steps), number), *steps]


def install() -> int:
    """Put the filter on all threads of this process, for good; return the listener, to be handed outside.

    Raises:
        OSError: this machine has no such filter.
    """
    machine, _ = _here()
    steps = b"".join(struct.pack("=HBBI", *step) for step in program(machine, os.getpid()))
    given = _Program(len(steps) // 8, steps)
    libc = ctypes.CDLL(None, use_errno=True)
    checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    flags = _ALL_THREADS | _NEW_LISTENER | _OR_NONE
    return checked(libc.syscall(numbers(machine)["seccomp"], _SET_FILTER, flags, ctypes.byref(given)))


class Listener:
    """The outer end of a filter."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        machine, self.architecture = _here()
        self.names = {number: name for name, number in numbers(machine).items()}
        self._calls = select.poll()
        self._calls.register(descriptor, select.POLLIN)

    def refused(self) -> list[str]:
        """Answer calls that wait, a few at most, that they are not permitted; return what each was, as a
        sentence.
        """
        told = []
        for _ in range(_AT_ONCE):
            found = self._calls.poll(0)
            if not found or not found[0][1] & select.POLLIN:  # nobody calls, or all who could are gone
                break
            notice = bytearray(_NOTICE.size)
            with contextlib.suppress(FileNotFoundError):  # the caller was killed while it waited
                fcntl.ioctl(self.descriptor, _RECEIVE, notice)
                call, _, _, number, architecture, *_ = _NOTICE.unpack(notice)
                told.append(self._sentence(number, architecture))
                fcntl.ioctl(self.descriptor, _SEND, _ANSWER.pack(call, 0, -errno.EPERM, 0))
        return told

    def close(self) -> None:
        """Let go of it; whoever calls then is told that there is no such call."""
        os.close(self.descriptor)

    def _sentence(self, number: int, architecture: int) -> str:
        name = self.names.get(number)
        if architecture != self.architecture or name is None:
            return STRANGE
        return f"{_SENTENCES[name]} ({name})"


def _here() -> tuple[Machine, int]:
    try:
        return _MACHINES[platform.machine()]
    except KeyError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None


__all__ = ["Instruction", "Listener", "install", "program"]
