"""What is kept on disk between stages: tensors, arrays, numbers, strings and containers of them, never
pickled objects.

`state_of` gathers what a strategy set on itself; objects with `state_dict` and `load_state_dict` (modules,
optimisers) are asked for it, and a continued cell puts it back into those that `setup` made. `kept_state`
says, while a state is set aside, what could not be put back. A file begins with the SHA-256 of what follows;
it is written whole, checked before it is read, and read with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError, shortage

Place = tuple[Any, ...]
"""Where something lies: the name of an attribute, then the keys and indices that lead to it."""

_log = logging.getLogger(__name__)
_DIGEST = hashlib.sha256().digest_size
_MAPPINGS = (dict, OrderedDict, Counter)


class CannotKeep(UserError):
    """What a strategy set on itself could not be put back into a fresh one."""


class Damaged(Exception):
    """A kept file is not what was written, or cannot be read here."""


class StateDict(dict[Any, Any]):
    """What `state_dict` gave, told apart from a dictionary of the strategy's own."""

    def __init__(self, content: Mapping[Any, Any]) -> None:
        super().__init__(content)
        vars(self).update(getattr(content, "__dict__", {}))  # torch notes the versions of modules there

    def __reduce__(self) -> tuple[Any, ...]:
        content = OrderedDict(self)
        vars(content).update(vars(self))
        return StateDict, (content,)


def state_of(owner: object, *, skip: Collection[str] = ()) -> dict[str, Any]:
    """Return the attributes of `owner` but those named in `skip`.

    Raises:
        CannotKeep: an attribute that is neither plain data nor has a `state_dict`; such an owner overrides
        `state`.
    """
    return {name: _plain(value, (name,), []) for name, value in vars(owner).items() if name not in skip}


def restore(owner: object, state: Mapping[str, Any]) -> None:
    """Set what `state_of` gathered on a fresh `owner`.

    Raises:
        CannotKeep: what `load_state_dict` should be given has nothing to be given to.
    """
    for name, value in state.items():
        setattr(owner, name, _restored(getattr(owner, name, None), value, (name,)))


def kept_state(state: Mapping[str, Any], *, fits: Collection[Place] | None = None) -> dict[str, Any]:
    """Return `state`, fit for `save`: numpy's scalars as plain numbers.

    Args:
        state: what `Strategy.state` returned.
        fits: where a fresh owner has objects with `load_state_dict`; None where its `load_state` may make
            what it needs.

    Raises:
        CannotKeep: it holds what no file keeps, or a state dict that `fits` has no place for.
    """
    parts: list[Place] = []
    kept = {name: _plain(value, (name,), parts) for name, value in state.items()}
    if fits is not None:
        for place in parts:
            if place not in fits:
                raise _made_in_learn(place)
    return kept


def parts_of(owner: object) -> frozenset[Place]:
    """Return where `owner` holds objects with `load_state_dict`, in containers too."""
    return frozenset(place for name, value in vars(owner).items() for place in _parts(value, (name,)))


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` whole: a reader finds the old file or the new one, never half of it."""
    import torch

    temporary = path.with_suffix(f".tmp{os.getpid()}")
    try:
        with temporary.open("w+b") as file:
            file.write(bytes(_DIGEST))
            torch.save(dict(content), file)
            file.seek(_DIGEST)
            digest = hashlib.file_digest(file, "sha256").digest()
            file.seek(0)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote; admits tensors, numpy arrays and plain data only.

    Raises:
        Damaged: the file is not there, not what was written, or cannot be read on this machine.
    """
    import torch

    rebuild = np.zeros(0).__reduce__()[0]  # numpy's own function for rebuilding an array
    kinds = {type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"}
    admitted: list[Any] = [rebuild, np.ndarray, np.dtype, bytes, StateDict, *kinds]
    try:
        with path.open("rb") as file, torch.serialization.safe_globals(admitted):
            said = file.read(_DIGEST)
            if hashlib.file_digest(file, "sha256").digest() != said:
                raise Damaged(f"{path.name} is not what was written")
            file.seek(_DIGEST)
            content: dict[str, Any] = torch.load(file, weights_only=True)
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read: {error.strerror or error}") from None
    except Exception as error:
        if isinstance(error, Damaged) or shortage(error):
            raise
        raise Damaged(
            f"{path.name} cannot be read here: {type(error).__name__}"
        ) from None  # not torch's advice to switch safety off
    return content


def drop(paths: Iterable[Path], error: Exception, *, instead: str) -> None:
    """Remove kept files that could not be used, and say so in one line; raise `error` again where memory was
    short, not the file bad.
    """
    if shortage(error):
        raise error
    for path in paths:
        path.unlink(missing_ok=True)
    said = " ".join(str(error).split())
    _log.warning(
        "%s; %s",
        said
        if isinstance(error, Damaged)
        else f"the kept state cannot be loaded ({type(error).__name__}: {said})",
        instead,
    )


def _plain(value: Any, place: Place, parts: list[Place]) -> Any:
    """Return `value` as it is kept; add the places of what `load_state_dict` will take to `parts`."""
    import torch

    if isinstance(value, StateDict) or (hasattr(value, "state_dict") and not isinstance(value, type)):
        parts.append(place)
        content = value if isinstance(value, StateDict) else value.state_dict()
        kept = StateDict(
            {_plain(key, place, parts): _plain(item, (*place, key), []) for key, item in content.items()}
        )
        vars(kept).update(getattr(content, "__dict__", {}))
        return kept
    if isinstance(value, np.generic):
        value = value.item()
    elif type(value) is np.memmap:
        value = np.array(value)
    if type(value) in _MAPPINGS:
        return type(value)(
            {_plain(key, place, parts): _plain(item, (*place, key), parts) for key, item in value.items()}
        )
    if type(value) in (list, tuple):
        return type(value)(_plain(item, (*place, index), parts) for index, item in enumerate(value))
    if type(value) is np.ndarray and value.dtype.kind not in "OVT":
        return value
    if value is None or type(value) in (
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        torch.Tensor,
        torch.nn.Parameter,
        torch.Size,
        torch.dtype,
        torch.device,
    ):
        return value
    if isinstance(value, torch.Tensor) and type(value).__reduce_ex__ is not torch.Tensor.__reduce_ex__:
        return value  # it says itself how it is saved
    kind = f"an array of {value.dtype}" if type(value) is np.ndarray else f"a {type(value).__name__}"
    raise CannotKeep(
        f"{_place_text(place)} is {kind}, which cannot be kept between stages: override state() and load_state()"
    )


def _restored(current: Any, value: Any, place: Place) -> Any:
    """Return what a fresh strategy, which has `current` there, is to have for the kept `value`."""
    if isinstance(value, StateDict) and not hasattr(current, "load_state_dict"):
        raise _made_in_learn(place)
    if isinstance(value, Mapping) and hasattr(current, "load_state_dict"):
        current.load_state_dict(value)
        return current
    if type(value) in _MAPPINGS:
        own = current if isinstance(current, Mapping) else {}
        return type(value)({key: _restored(own.get(key), item, (*place, key)) for key, item in value.items()})
    if type(value) in (list, tuple):
        beside = [*current] if isinstance(current, (list, tuple)) else []
        beside += [None] * (len(value) - len(beside))
        return type(value)(
            _restored(*both, (*place, index)) for index, both in enumerate(zip(beside, value, strict=False))
        )
    return value


def _parts(value: Any, place: Place) -> Iterator[Place]:
    if hasattr(value, "load_state_dict") and not isinstance(value, type):
        yield place
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _parts(item, (*place, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _parts(item, (*place, index))


def _made_in_learn(place: Place) -> CannotKeep:
    return CannotKeep(
        f"{_place_text(place)} was made in learn, so a continued cell would not have it: make it in setup, or "
        "override state() and "
        "load_state()"
    )


def _place_text(place: Place) -> str:
    """Return a place as one writes it, such as attribute 'heads[1]'."""
    return "attribute " + repr(str(place[0]) + "".join(f"[{key!r}]" for key in place[1:]))
