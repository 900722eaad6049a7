"""Where and how cells run: the one value that goes from the command line to the workers."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.processes.compiler import check_compiler

if TYPE_CHECKING:
    from harness.cell.run import CellSettings
    from harness.contracts import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where and how cells run; nothing here is part of a protocol. Device, precision and compile are named in
    the record.

    workers: worker processes; None for as many as the cores have room for.  threads: of each.
    gpus: a worker's share of GPUs.  address: of a Ray cluster; None to start Ray here.
    resources, labels: further resources that a worker takes of a node of the cluster (`NAME=AMOUNT`), and labels
    that the node has to have (`NAME=VALUE`), separated by commas; the resource `memory` counts in bytes.
    object_store_mib: shared memory that a Ray started here has, in MiB.
    device, precision, compile: of the networks, as in `Context`.
    together: whether cells learn at once where their strategy can; otherwise every cell learns alone.
    mixed: whether nodes of a cluster may have other libraries, which the records of their cells then name.
    share: whether stages that several cells begin with are learned once; otherwise every cell learns all its
    stages itself.
    dashboard: whether Ray's own page about its processes is there, and its address is said.
    """

    workers: int | None = None
    threads: int = 1
    gpus: float = 0.0
    address: str | None = None
    resources: str = ""
    labels: str = ""
    object_store_mib: int = 1024
    device: str = "cpu"
    precision: Precision = "float32"
    compile: bool = False
    together: bool = True
    share: bool = True
    mixed: bool = False
    dashboard: bool = False

    @property
    def processes(self) -> int:
        """How many workers there are: those asked for, or as many as the cores have room for."""
        return self.workers or max(1, (os.cpu_count() or 1) // self.threads)

    @property
    def needed(self) -> dict[str, float]:
        """What a worker takes of a node, by Ray's names of resources; raise `UserError` for what is no amount."""
        return {
            "CPU": float(self.threads),
            **({"GPU": self.gpus} if self.gpus else {}),
            **{name: _amount(name, value) for name, value in _pairs("resources", self.resources).items()},
        }

    @property
    def labelled(self) -> dict[str, str]:
        """The labels that a node has to have; raise `UserError` for what is no pair."""
        return _pairs("labels", self.labels)

    def computing(self, settings: CellSettings) -> CellSettings:
        """Return the settings of a cell that computes as this machine does."""
        return replace(settings, device=self.device, precision=self.precision, compile=self.compile)

    def check(self) -> None:
        """Refuse a device, number format or compilation that cannot be had, before a worker is started for
        it, and resources that are none; raise `UserError`.
        """
        if self.address is None and (self.resources or self.labels):
            raise UserError("--resources and --labels choose among the nodes of a cluster: say --address too")
        _ = self.needed, self.labelled
        if self.address is None or self.device == "cpu":
            check_device(self.device, self.precision)
        if self.compile and self.address is None:
            check_compiler(self.device)


def _pairs(option: str, text: str) -> dict[str, str]:
    """Return what `NAME=VALUE,NAME=VALUE` says."""
    found = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not name or not equals or not value:
            raise UserError(f"--{option} takes NAME=VALUE, several separated by commas, got {part!r}")
        found[name] = value
    return found


def _amount(name: str, text: str) -> float:
    if name in ("CPU", "GPU"):
        raise UserError(f"--resources {name}={text}: say {'--threads' if name == 'CPU' else '--gpus'}")
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise UserError(f"--resources {name}={text}: an amount is a number above 0")
    return amount


def check_device(device: str, precision: Precision) -> None:
    """Refuse a device or number format that cannot be had on this machine; raise `UserError`."""
    if device == "cpu":
        if precision == "float16":
            raise UserError(
                "--precision float16 is for GPUs: on the CPU say bfloat16, which is as short and many "
                "times faster there"
            )
        return
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None


__all__ = ["Machine", "check_device"]
