"""Slurm: the batch file of a run on the nodes of one job.

The file starts Ray by `srun`, the head on the first node of the job and a worker on every other, runs `owb run`
beside the head, ends Ray and hands on the exit code. All that differs between jobs, the token too, is made when
the job runs, so the same words give the same file.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError

_TIME = re.compile(r"\d+(:[0-5]?\d){0,2}|\d+-\d+(:[0-5]?\d){0,2}", re.ASCII)
_PARTITIONS = re.compile(r"[\w.-]+(,[\w.-]+)*", re.ASCII)

_BODY = r"""
set -euo pipefail
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
folder=$(mktemp -d /tmp/owb-ray-XXXXXX)

# The servers of a job with one node listen on its loopback address alone.
if (( SLURM_NNODES > 1 )); then
  host=$(python3 -c 'import ray.util; print(ray.util.get_node_ip_address())')
else
  host=127.0.0.1
  export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')

on_each=(srun --quiet --export=ALL --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=0)
start_ray() {
  local where=$1
  shift
  exec "${on_each[@]}" $where --no-kill --cpu-bind=none "${share[@]}" bash -c \
    'exec ray start --block --num-cpus="$SLURM_CPUS_ON_NODE" --min-worker-port=0 --max-worker-port=0 "$@"' ray "$@"
}
finish() {
  [[ -z ${others-} ]] || kill -0 "$others" || cat "$folder/others.log" >&3
  kill $(jobs -p) || true
  wait
  "${on_each[@]}" rm -rf "$folder" || true
} 3>&2 2> /dev/null
trap finish EXIT

start_ray '--nodes=1 --ntasks=1 --relative=0' \
  --head --node-ip-address="$host" --port="$port" --temp-dir="$folder" --include-dashboard=false &> "$folder/head.log" &
head=$!
until (: < "/dev/tcp/$host/$port") 2> /dev/null; do
  if ! kill -0 $head 2> /dev/null; then
    cat "$folder/head.log" >&2
    echo "error: Ray has not started on the first node; what it said is above" >&2
    exit 1
  fi
  sleep 1
done
if (( SLURM_NNODES > 1 )); then
  number=$((SLURM_NNODES - 1))
  start_ray "--nodes=$number --ntasks=$number --relative=1" --address="$host:$port" &> "$folder/others.log" &
  others=$!
fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a job asks Slurm for, in its own words.

    cores, gpus: of each node; None cores for whole nodes.  time: as Slurm writes it, such as 90, 4:00:00 or
    2-12; empty for that of the partition.  partition: name, or several with commas; empty for Slurm's own choice.
    """

    nodes: int = 1
    cores: int | None = None
    gpus: int = 0
    time: str = ""
    partition: str = ""

    def __post_init__(self) -> None:
        """Refuse what Slurm would not understand; raise `UserError`."""
        if self.time and not _TIME.fullmatch(self.time):
            raise UserError(
                "--time takes minutes, hours:minutes:seconds or days-hours, such as 90, 4:00:00 or 2-12, got "
                f"{self.time!r}"
            )
        if self.partition and not _PARTITIONS.fullmatch(self.partition):
            raise UserError(f"--partition takes the name of a partition (all: sinfo), got {self.partition!r}")

    def options(self) -> list[str]:
        """Return the options of `sbatch`."""
        return [
            f"--nodes={self.nodes}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={self.cores}" if self.cores else "--exclusive",
            *([f"--gpus-per-node={self.gpus}"] if self.gpus else []),
            *([f"--time={self.time}"] if self.time else []),
            *([f"--partition={self.partition}"] if self.partition else []),
            "--no-kill",
        ]


def batch_file(words: Sequence[str], allocation: Allocation) -> str:
    """Return the text of a file for `sbatch` that does `owb run` with `words` on an allocation.

    The programs are those beside the Python that calls this, so their folder has to be there on every node.
    """
    share = [f"--cpus-per-task={allocation.cores}"] if allocation.cores else []
    share += [f"--gpus-per-node={allocation.gpus}"] if allocation.gpus else []
    header = [
        "#!/bin/bash",
        "#SBATCH --job-name=owb",
        *(f"#SBATCH {option}" for option in allocation.options()),
        f"export PATH={_quoted(str(Path(sys.executable).parent))}:$PATH",
        f"share=({' '.join(share)})",
    ]
    said = " ".join(_quoted(word) for word in words)
    return "\n".join(header) + _BODY + f'\nowb run --address "$host:$port" {said}\n'


def _quoted(word: str) -> str:
    """Return a word as bash reads it back; what cannot be shown as the numbers of its bytes."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(f"\\x{byte:02x}" for byte in os.fsencode(word)) + "'"


__all__ = ["Allocation", "batch_file"]
