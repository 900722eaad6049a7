"""What holds a process from within besides its filter: a file system of its own, resource limits, and an audit
hook that says what was tried.

The first two are the kernel's and cannot be argued with. The hook (PEP 578) sees what Python is asked to do,
refuses it and tells, in clearer words than a filter can; but native code passes it by, and code that searches
the garbage collector can silence it. So what it says is a hint and never the wall.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 32, 4096
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same numbers on every architecture
_AT_FDCWD, _AT_RECURSIVE, _TREE_CLONE, _FROM_DESCRIPTOR = -100, 0x8000, 1, 4
_ATTR_RDONLY, _ATTR_NODEV = 1, 4
_DEVICES = (os.devnull, "/dev/random", "/dev/urandom")
_SEMAPHORES = "/dev/shm"  # noqa: S108  (one's own)
_MOST_FILES = 20_000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_CAPABILITY_VERSION_3 = 0x20080522
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATH_EVENTS = {
    "os.remove": 1,
    "os.rename": 2,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.utime": 1,
}
"""Events that change files, and how many of their arguments are paths."""
_FOLDER_OF = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2}
"""Events whose path may be relative to an open folder, and which argument says so."""
_STARTS = (
    "os.fork",
    "os.forkpty",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "subprocess.Popen",
    "pty.spawn",
    "os.startfile",
)
_NATIVE = (
    "fork",
    "vfork",
    "clone",
    "system",
    "popen",
    "socket",
    "connect",
    "ptrace",
    "syscall",
    "unshare",
    "mount",
    "execve",
    "execv",
    "posix_spawn",
    "process_vm_readv",
)
_TRUTH = ("scenarios", "leaderboards", "mlxtend")


class Refused(PermissionError):
    """Raised into code that tries what it may not."""


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def mount_apart(scratch: Path, *, size_mib: int, hidden: Sequence[str]) -> None:
    """See a file system of one's own: all read-only, no devices but chance and the one that is nothing, room for
    semaphores, a scratch folder in memory, the folders and files in `hidden` empty but for the way to it. Then
    give up all rights.

    To be called with the right to mount, as the root of a user namespace has it.

    Raises:
        OSError: the kernel does not do it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    checked(libc.unshare(_CLONE_NEWNS))
    kept = [
        checked(libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(device), _TREE_CLONE)) for device in _DEVICES
    ]
    attributes = _Attributes(attr_set=_ATTR_RDONLY | _ATTR_NODEV)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    checked(libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, ctypes.byref(attributes), size))
    _mount_devices(libc, kept)
    flags = _MS_NOSUID | _MS_NODEV
    above = [place for place in hidden if scratch.is_relative_to(place)]
    for place in hidden:
        if Path(place).is_dir():
            only = flags if place in above else flags | _MS_RDONLY
            checked(libc.mount(b"none", os.fsencode(place), b"tmpfs", only, b"size=64k"))
        elif Path(place).exists():
            checked(libc.mount(os.fsencode(os.devnull), os.fsencode(place), None, _MS_BIND, None))
    scratch.mkdir(parents=True, exist_ok=True)
    room = f"size={size_mib}m,nr_inodes={_MOST_FILES},mode=700".encode()
    checked(libc.mount(b"none", os.fsencode(scratch), b"tmpfs", flags, room))
    for place in above:
        only = flags | _MS_REMOUNT | _MS_BIND | _MS_RDONLY
        checked(libc.mount(None, os.fsencode(place), None, only, None))
    for capability in range(64):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those this kernel does not know
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    checked(libc.capset(ctypes.byref(head), ctypes.byref((ctypes.c_uint32 * 6)())))
    checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _mount_devices(libc: ctypes.CDLL, kept: Sequence[int]) -> None:
    """Put the devices that are kept, and room for semaphores, where all devices are."""
    flags = _MS_NOSUID | _MS_NODEV
    checked(libc.mount(b"none", b"/dev", b"tmpfs", flags, b"size=64k,mode=755"))
    for device, tree in zip(_DEVICES, kept, strict=True):
        Path(device).touch()
        checked(libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(device), _FROM_DESCRIPTOR))
        os.close(tree)
    Path(_SEMAPHORES).mkdir()
    checked(libc.mount(b"none", os.fsencode(_SEMAPHORES), b"tmpfs", flags, b"size=1m,nr_inodes=1000"))
    checked(libc.mount(None, b"/dev", None, flags | _MS_REMOUNT | _MS_BIND | _MS_RDONLY, None))


def limit(*, memory_mib: int, cpu_s: int, file_mib: int, processes: int | None) -> None:
    """Set resource limits: a backstop behind what the parent watches. processes: with threads; None where it
    would count others'.
    """
    address = (memory_mib + 16384) << 20  # torch maps far more than it uses
    limits = {
        resource.RLIMIT_AS: address,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: file_mib << 20,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 512,
    }
    if processes is not None:
        limits[resource.RLIMIT_NPROC] = processes
    for which, most in limits.items():
        _, hard = resource.getrlimit(which)
        resource.setrlimit(
            which, (most, most) if hard == resource.RLIM_INFINITY or most <= hard else (hard, hard)
        )


def arm(
    scratch: Path, tell: Callable[[str], None], *, closed_imports: Sequence[str] = _TRUTH, refuse: bool = True
) -> None:
    """Refuse from now on, for the rest of the process, network, processes and writing outside `scratch`;
    `tell` of every attempt.

    Without `refuse`, it is only told.
    """
    inside = os.path.realpath(scratch)
    realpath, fsdecode, getpid, join = os.path.realpath, os.fsdecode, os.getpid, os.path.join
    busy: list[int] = []

    def is_own(path: Any, folder: Any = -1) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return True  # a file descriptor that is open already
        whole = (
            join(f"/proc/self/fd/{folder}", fsdecode(path))
            if isinstance(folder, int) and folder >= 0
            else fsdecode(path)
        )
        real = realpath(whole)
        return real == inside or real.startswith(f"{inside}{os.sep}") or real == os.devnull

    def wrong(event: str, args: tuple[Any, ...]) -> str:
        if event.startswith("socket.") and event != "socket.gethostname":
            return "opens the network"
        if event in _STARTS:
            return "starts a process"
        if event == "open" and isinstance(args[2], int) and args[2] & _WRITES and not is_own(args[0]):
            return f"writes outside its scratch folder ({Path(fsdecode(args[0])).name!r})"
        folder = args[_FOLDER_OF[event]] if event in _FOLDER_OF else -1
        if event in _PATH_EVENTS and not all(is_own(path, folder) for path in args[: _PATH_EVENTS[event]]):
            return f"changes files outside its scratch folder ({event})"
        if event == "import" and str(args[0]).partition(".")[0] in closed_imports:
            return f"imports {args[0]}, which leads to the truth"
        if event in ("ctypes.dlsym", "ctypes.dlsym/handle") and args[1] in _NATIVE:
            return f"calls {args[1]} of the C library"
        if event == "os.kill" and args[0] != getpid():
            return "sends signals to other processes"
        return ""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if busy:
            return
        busy.append(1)
        try:
            found = wrong(event, args)
            if found:
                tell(found)
        finally:
            busy.pop()
        if found and refuse:
            raise Refused(f"this strategy {found}")

    sys.addaudithook(hook)


def checked(result: int) -> int:
    """Return what the C library answered.

    Raises:
        OSError: it said no.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


__all__ = ["Refused", "arm", "checked", "limit", "mount_apart"]
