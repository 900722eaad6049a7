"""Reading pickles of numpy arrays without running anything that a pickle may ask for.

A pickle is a program that names functions to call. Here the only names it may use are those by which numpy
arrays, their dtypes, numpy numbers and (in pickles of protocol 2 that Python 3 wrote) bytes are written, and
not even these lead to numpy: each stands for a small record that keeps what it is given. When the pickle has
been read, records become arrays of numbers of a size that their bytes fill. Everything else is refused by
name.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts import AnyArray
from harness.errors import UserError
from scenarios.datasets.on_disk.contents import content_of


def unpickled(path: Path, expected: str) -> Mapping[str, Any]:
    """Return the dictionary in a pickle; keys and strings as text.

    Raises:
        UserError: the file is missing, truncated, something else, or asks for anything but arrays,
        containers, strings and numbers.
    """
    content = content_of(path, expected)
    try:
        found = _plain(_Restricted(io.BytesIO(content), encoding="bytes").load())
    except _Refused as error:
        raise UserError(
            f"{path} asks for {error}, and only arrays, containers, strings and numbers are read from a pickle; "
            f"{expected} was expected"
        ) from None
    except EOFError:
        raise UserError(f"{path} is truncated: {expected} was expected") from None
    except Exception as error:  # damaged bytes make the reader fail anywhere
        raise UserError(
            f"cannot read {path}: truncated or damaged, {expected} was expected ({error})"
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}: {expected} was expected")
    return found


class _Refused(Exception):
    """Names what a pickle asks for and does not get."""


class _Record:
    """What stands for a thing of numpy's until all is read. Nothing is set on it but by its own rule."""

    def __setstate__(self, state: Any) -> None:
        raise _Refused(f"a changed {type(self).__name__.strip('_').lower()}")


class _Call(_Record):
    """A name that a pickle may call, and nothing else."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)


class _Dtype(_Record):
    def __init__(self, code: bytes | str, *_: Any) -> None:
        self.code, self.order = _text(code), ""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])

    def dtype(self) -> np.dtype[Any]:
        dtype = np.dtype(self.code)
        if dtype.kind not in "buif":
            raise ValueError(f"an array of {dtype} is not one of numbers")
        return dtype.newbyteorder(self.order) if self.order in ("<", ">") else dtype  # type: ignore[arg-type]


class _Array(_Record):
    def __init__(self) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> AnyArray:
        _, shape, dtype, by_column, content = self.state
        return _filled(content, dtype.dtype(), shape, "F" if by_column else "C")


class _Buffer(_Record):
    """An array as protocol 5 writes it."""

    def __init__(self, content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        self.content, self.dtype, self.shape, self.order = content, dtype, shape, order

    def array(self) -> AnyArray:
        return _filled(self.content, self.dtype.dtype(), self.shape, _text(self.order))


class _Number(_Record):
    def __init__(self, dtype: _Dtype, content: bytes) -> None:
        self.dtype, self.content = dtype, content

    def array(self) -> Any:
        return _filled(self.content, self.dtype.dtype(), (), "C").item()


def _filled(content: bytes | bytearray, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> AnyArray:
    if not isinstance(content, bytes | bytearray) or len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array of shape {shape} is not filled by its bytes")
    array: AnyArray = np.frombuffer(content, dtype).reshape(shape, order="F" if order == "F" else "C")
    return array


def _reconstruct(cls: object, *_: Any) -> _Array:
    if cls is not _ADMITTED["numpy", "ndarray"]:
        raise _Refused("an array of a class of its own")
    return _Array()


def _encoded(text: str | bytes, encoding: str | bytes) -> bytes:
    if _text(encoding) not in ("latin1", "latin-1"):
        raise _Refused(f"the encoding {_text(encoding)!r}")
    return text.encode("latin1") if isinstance(text, str) else text


_ADMITTED: Mapping[tuple[str, str], _Call] = {
    ("numpy", "ndarray"): _Call(_Array),
    ("numpy", "dtype"): _Call(_Dtype),
    ("_codecs", "encode"): _Call(_encoded),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Call(_reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Call(_Number) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Call(_Buffer) for core in ("core", "_core")},
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise _Refused(f"{module}.{name}")
        return _ADMITTED[module, name]


def _plain(value: Any) -> Any:
    """Turn records into arrays and names into text, all the way down."""
    if isinstance(value, _Array | _Buffer | _Number):
        return value.array()
    if isinstance(value, dict):
        return {
            _text(key) if isinstance(key, bytes | str) else key: _plain(item) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return _text(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise _Refused(f"a {type(value).__name__}")


def _text(value: bytes | str) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value
