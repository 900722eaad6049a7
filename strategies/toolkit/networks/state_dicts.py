"""Weights files of networks: where they lie, whether they are what they say, and how their tensors get into a
model.

A file is of safetensors or of `torch.save`; nothing in it is executed. Its tensors may lie below
`state_dict`, `model`, `teacher` or `student` and have names that begin with `module.`, `backbone.`,
`encoder.` and the like; of these the part that fits the model is taken, and heads are left out. What timm
knows of foreign layouts is used: DINOv2's names, position embeddings brought to another grid.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.weights import located, timms_weights

_BELOW = ("state_dict", "model", "teacher", "student")
_WRAPPERS = ("module", "model", "teacher", "student", "backbone", "encoder", "encoder_q", "net", "network")
_HEADS = (
    "head",
    "head_dist",
    "fc",
    "classifier",
    "heads",
    "projector",
    "projection_head",
    "predictor",
    "prototypes",
    "last_layer",
)
_PAGES = (b"<!doctype", b"<html", b"<?xml")
_NAMED = 3


def weights_of(model: str, weights: str, pretrained: bool) -> Path | None:
    """Return the file that a timm model's weights are said to come from: the one named, timm's own, or none."""
    if weights and pretrained:
        raise UserError(f"timm:{model} is told both weights={weights} and pretrained=true; say one of them")
    return located(str(weights)) if weights else timms_file(model) if pretrained else None


def timms_file(model: str) -> Path:
    """Return timm's own weights of a model from the cache of huggingface_hub, where the plan of a run has put
    them.

    Raises:
        UserError: they are not there.
    """
    repository, name, cached = timms_weights(model)
    if cached is None:
        raise UserError(
            f"timm's weights of {model} are not in the cache of huggingface_hub; download {name} from "
            f"huggingface.co/{repository} and say weights=FILE instead of pretrained=true"
        )
    return cached


def glance(weights: str) -> None:
    """Raise `UserError` where `weights` names a file that is no weights at first sight."""
    if weights:
        check_header(located(weights))


def check_header(file: Path) -> None:
    """Raise `UserError` for a file that cannot be read, is empty, cut short or a web page: what its first
    bytes and its size tell.
    """
    try:
        with file.open("rb") as content:
            start = content.read(512)
    except OSError as error:
        raise UserError(f"cannot read weights file {file}: {error.strerror or error}") from None
    if problem := _no_weights(file, start):
        raise UserError(f"cannot read weights file {file}: {problem}")


def tensors_of(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name.

    Raises:
        UserError: the file cannot be read, is cut short or a web page, or holds something else.
    """
    check_header(file)
    try:
        found: Any = _read(file)
    except Exception as error:  # damaged archives raise whatever their reader stumbles over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"cannot read weights file {file}: it is damaged, or holds more than tensors ({reason})"
        ) from None
    while isinstance(found, dict) and (below := [key for key in _BELOW if isinstance(found.get(key), dict)]):
        found = found[below[0]]
    tensors = (
        {key: value for key, value in found.items() if isinstance(value, Tensor)}
        if isinstance(found, dict)
        else {}
    )
    if not tensors:
        raise UserError(f"weights file {file} holds no tensors by name")
    return tensors


def put_into(model: nn.Module, file: Path, name: str) -> None:
    """Load a file's tensors into a model without a head, which is called `name` in errors.

    Raises:
        UserError: tensors are missing, have other shapes, or belong to another model.
    """
    own = model.state_dict()
    try:
        given = _fitted(_unwrapped(tensors_of(file), own), model)
    except (RuntimeError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"weights file {file} does not fit {name}: {' '.join(str(error).split())[:200]}"
        ) from None
    given = {
        key: value
        for key, value in given.items()
        if key in own or key.partition(".")[0] not in (*_HEADS, *_classifiers(model))
    }
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    foreign = [key for key in given if key not in own]
    wrong = [
        f"{key} of shape {tuple(given[key].shape)} where {tuple(own[key].shape)} is needed"
        for key in given
        if key in own and given[key].shape != own[key].shape
    ]
    problems = [
        _counted(missing, "tensors missing"),
        _counted(foreign, "tensors of other models"),
        _counted(wrong, "of other shapes"),
    ]
    if missing or foreign or wrong:
        raise UserError(f"weights file {file} does not fit {name}: {'; '.join(filter(None, problems))}")
    model.load_state_dict(given, strict=False)


def _no_weights(file: Path, start: bytes) -> str:
    """Return what a file is whose first bytes are no weights; empty where they may be."""
    if not start:
        return "it is empty"
    if start.lstrip().lower().startswith(_PAGES):
        return "it is a web page that was saved in the place of weights; download the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs; fetch the file itself (git lfs pull)"
    if start.startswith(b"PK") and not zipfile.is_zipfile(file):
        return f"it is cut short, after {file.stat().st_size} bytes; download it again"
    return ""


def _read(file: Path) -> Any:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    with torch.serialization.safe_globals(
        [argparse.Namespace]
    ):  # what DINO's checkpoints keep their settings in
        return torch.load(file, map_location="cpu", weights_only=True)


def _unwrapped(tensors: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """Return the tensors below that prefix of wrappers under which most of the wanted names are found, the
    first of equals.
    """
    prefixes = dict.fromkeys(["", *(prefix for key in tensors for prefix in _prefixes(key))])
    names = list(wanted)
    best = max(prefixes, key=lambda prefix: sum(prefix + name in tensors for name in names))
    return {key.removeprefix(best): value for key, value in tensors.items() if key.startswith(best)}


def _prefixes(key: str) -> list[str]:
    """Return what a name begins with, as far as it is made of wrappers.

    >>> _prefixes("module.backbone.blocks.0.norm1.weight")
    ['module.', 'module.backbone.']
    """
    found, prefix = [], ""
    for part in key.split(".")[:-1]:
        if part not in _WRAPPERS:
            break
        prefix += f"{part}."
        found.append(prefix)
    return found


def _fitted(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors as the model names and cuts them, by the filter that timm keeps beside the model's
    class.
    """
    fit = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return dict(fit(tensors, model)) if fit else tensors


def _classifiers(model: nn.Module) -> list[str]:
    said: Any = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    return [str(name).partition(".")[0] for name in ([said] if isinstance(said, str) else said)]


def _counted(names: list[str], what: str) -> str:
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:_NAMED])}{more})" if names else ""
