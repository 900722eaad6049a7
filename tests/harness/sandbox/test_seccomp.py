"""The filter of system calls says of each call what it should, on both machines; checked by a second, slow
interpreter of its program, and by the tables of the system.
"""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.sandbox.seccomp import Instruction, program
from harness.sandbox.syscalls import NEWEST, QUIET, TOLD, Machine, numbers

ALLOW, NOTIFY, ERROR = 0x7FFF0000, 0x7FC00000, 0x00050000
ARCHITECTURES: dict[Machine, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES: list[Machine] = ["x86_64", "aarch64"]
OWN = 4711


def verdict(steps: Sequence[Instruction], call: int, *arguments: int, architecture: int) -> int:
    """Run a classic BPF program over what a filter sees of a call (`struct seccomp_data`)."""
    data = struct.pack("<iIQ6Q", call, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    held = place = 0
    while True:
        code, then, other, value = steps[place]
        place += 1
        match code:
            case 0x20:
                held = int.from_bytes(data[value : value + 4], "little")
            case 0x54:
                held &= value
            case 0x15:
                place += then if held == value else other
            case 0x25:
                place += then if held > value else other
            case 0x35:
                place += then if held >= value else other
            case 0x06:
                return value
            case _:
                raise AssertionError(f"no such step: {code:#x}")


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Machine:
    found: Machine = request.param
    return found


def asked(machine: Machine, name: str | int, *arguments: int) -> int:
    call = numbers(machine)[name] if isinstance(name, str) else name
    return verdict(program(machine, OWN), call, *arguments, architecture=ARCHITECTURES[machine])


def test_what_no_learner_calls_is_told_and_what_libraries_try_fails_quietly(machine: Machine) -> None:
    known = numbers(machine)
    for name in (name for names in TOLD.values() for name in names if name in known):
        assert asked(machine, name) == NOTIFY, name
    for error, names in QUIET.items():
        for name in names:
            assert asked(machine, name) == ERROR | error, name


def test_every_other_call_is_allowed_and_those_of_later_kernels_are_not_there(machine: Machine) -> None:
    others = set(range(NEWEST + 1)) - set(numbers(machine).values())
    assert len(others) > 300
    assert {asked(machine, call) for call in others} == {ALLOW}
    assert asked(machine, NEWEST + 1) == ERROR | errno.ENOSYS


@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("clone", (0x3D0F00,), True),  # the flags of pthread_create
        ("clone", (0x1200011,), False),  # those of fork
        ("clone", (0x4111,), False),  # those of vfork and of posix_spawn
        ("clone", (0x3D0F00 | 0x40000000,), False),  # a thread with a network of its own
        ("kill", (OWN, 9), True),
        ("kill", (0, 9), False),
        ("kill", (1, 9), False),
        ("kill", (2**32 - 1, 9), False),
        ("tgkill", (OWN, OWN + 1, 6), True),
        ("tgkill", (1, 1, 9), False),
        ("rt_sigqueueinfo", (1, 9), False),
        ("prlimit64", (0, 7), True),
        ("prlimit64", (OWN, 7), True),
        ("prlimit64", (1, 7), False),
    ],
)
def test_calls_that_depend_on_their_arguments(
    machine: Machine, name: str, arguments: tuple[int, ...], allowed: bool
) -> None:
    assert asked(machine, name, *arguments) == (ALLOW if allowed else NOTIFY)


def test_shared_memory_of_no_file_is_refused_and_other_mappings_are_not(machine: Machine) -> None:
    shared, private, validated, anonymous = 1, 2, 3, 0x20
    assert asked(machine, "mmap", 0, 4096, 3, shared | anonymous) == ERROR | errno.EPERM
    assert asked(machine, "mmap", 0, 4096, 3, validated | anonymous) == ERROR | errno.EPERM
    assert asked(machine, "mmap", 0, 4096, 3, private | anonymous) == ALLOW
    assert asked(machine, "mmap", 0, 4096, 3, shared) == ALLOW


def test_no_filter_of_its_own_can_hush_this_one(machine: Machine) -> None:
    """An error that a later filter gives would come before the notice of this one."""
    assert asked(machine, "prctl", 22, 2) == ERROR | errno.EPERM  # PR_SET_SECCOMP
    assert asked(machine, "prctl", 15) == ALLOW  # PR_SET_NAME, which names threads


def test_the_numbers_of_another_machine_are_told(machine: Machine) -> None:
    """A 32-bit call (int 0x80) has the architecture 0x40000003; one of x32 a bit of its own."""
    own = numbers(machine)["kill"]
    assert verdict(program(machine, OWN), own, OWN, architecture=0x40000003) == NOTIFY
    if machine == "x86_64":
        assert asked(machine, 0x40000000 | own, OWN) == NOTIFY


TABLES = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), r"#define __NR_(\w+) (\d+)"),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"), r"#define __NR(?:3264)?_(\w+) (\d+)"),
}


def test_numbers_are_those_of_the_tables_of_the_system(machine: Machine) -> None:
    table, line = TABLES[machine]
    if not table.is_file():
        pytest.skip("this machine has no headers of the kernel")
    stated = {name: int(number) for name, number in re.findall(line, table.read_text())}
    found = numbers(machine)
    assert {name: stated.get(name, found[name]) for name in found} == found
    assert len(stated.keys() & found.keys()) > 60
