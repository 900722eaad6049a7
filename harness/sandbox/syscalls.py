"""System calls that submitted code may not make, by the sentence that says what they do, and their numbers on
the two machines that the filter knows.

Numbers are those of the Linux tables `arch/x86/entry/syscalls/syscall_64.tbl` and `asm-generic/unistd.h`.
"""

from __future__ import annotations

import errno
from typing import Literal

Machine = Literal["x86_64", "aarch64"]

NETWORK = "opens the network"
PROCESS = "starts a process"
SIGNAL = "sends signals to other processes"
OTHERS = "reaches into other processes"
PLACE = "changes what it sees of the system"
KERNEL = "changes the running kernel"
STRANGE = "calls the kernel by the numbers of another machine"

TOLD: dict[str, tuple[str, ...]] = {
    NETWORK: ("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    PROCESS: ("fork", "vfork", "execve", "execveat"),
    SIGNAL: ("pidfd_send_signal",),
    OTHERS: (
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "process_madvise",
        "process_mrelease",
        "pidfd_getfd",
        "kcmp",
    ),
    PLACE: (
        "unshare",
        "setns",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "open_tree",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "mount_setattr",
        "name_to_handle_at",
        "open_by_handle_at",
        "fanotify_init",
        "quotactl",
        "quotactl_fd",
    ),
    KERNEL: (
        "bpf",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "reboot",
        "swapon",
        "swapoff",
        "acct",
        "settimeofday",
        "clock_settime",
        "clock_adjtime",
        "sethostname",
        "setdomainname",
        "iopl",
        "ioperm",
    ),
}
"""Refused, and told: no learner calls them."""

QUIET: dict[int, tuple[str, ...]] = {
    errno.ENOSYS: (
        "clone3",  # its flags lie where a filter cannot look; the C library then calls clone
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "memfd_create",
        "memfd_secret",
        "shmget",
        "semget",
        "msgget",
        "mq_open",
        "tkill",
        "pidfd_open",
        "userfaultfd",
        "perf_event_open",
        "seccomp",
    ),
    errno.EPERM: ("add_key", "request_key", "keyctl", "syslog", "migrate_pages", "move_pages"),
}
"""Refused without a word, by error: libraries try them and do without. Among them all sources of memory that no
process is counted for.
"""

NEWEST = 462
"""The last number that was looked at (`mseal`); later ones are answered as an older kernel does."""

_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "acct": (163, 89),
    "add_key": (248, 217),
    "bind": (49, 200),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "connect": (42, 203),
    "delete_module": (176, 106),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fork": (57, None),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "listen": (50, 201),
    "memfd_create": (319, 279),
    "migrate_pages": (256, 238),
    "mmap": (9, 222),
    "mount": (165, 40),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "seccomp": (317, 277),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vfork": (58, None),
}
_LATER_NUMBERS = {
    "clone3": 435,
    "fsconfig": 431,
    "fsmount": 432,
    "fsopen": 430,
    "fspick": 433,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "io_uring_setup": 425,
    "memfd_secret": 447,
    "mount_setattr": 442,
    "move_mount": 429,
    "open_tree": 428,
    "pidfd_getfd": 438,
    "pidfd_open": 434,
    "pidfd_send_signal": 424,
    "process_madvise": 440,
    "process_mrelease": 448,
    "quotactl_fd": 443,
}
"""The same on all machines."""


def numbers(machine: Machine) -> dict[str, int]:
    """Return the numbers of the calls above by name; those that a machine does not have are left out."""
    place = 0 if machine == "x86_64" else 1
    own = {name: number for name, each in _NUMBERS.items() if (number := each[place]) is not None}
    return own | _LATER_NUMBERS


__all__ = ["NEWEST", "OTHERS", "PROCESS", "QUIET", "SIGNAL", "STRANGE", "TOLD", "Machine", "numbers"]
