"""What may be shown of text that somebody else wrote: a terminal or a page acts on no letter of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode's categories of letters that steer and are not seen: control, format (with those that turn the
direction of writing), surrogates, private and unassigned ones, separators of lines and paragraphs.
"""
_KEPT = "\n\t"


def printable(text: str) -> str:
    """Return `text` with a question mark for every letter that steers; new lines and tabs stay.

    >>> printable("a\\x1b[2Jb\\u202ec")
    'a?[2Jb?c'
    """
    return "".join("?" if hides(letter) else letter for letter in text)


def unprintable(content: Any, where: str = "") -> Iterator[str]:
    """Say where nested mappings, sequences and texts hold a letter that steers, a sentence each.

    >>> list(unprintable({"name": "a\\u202eb"}))
    ['name: holds the character U+202E, which steers what shows it']
    """
    if isinstance(content, str):
        if letter := next(filter(hides, content), ""):
            yield f"{where or 'content'}: holds the character U+{ord(letter):04X}, which steers what shows it"
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from unprintable(key, f"a key of {where}" if where else "a key")
            yield from unprintable(value, f"{where}.{key}".lstrip("."))
    elif isinstance(content, Sequence):
        for place, value in enumerate(content):
            yield from unprintable(value, f"{where}.{place}".lstrip("."))


def hides(letter: str) -> bool:
    """Return whether a letter steers what shows it, or is not seen."""
    return letter not in _KEPT and unicodedata.category(letter) in _HIDDEN


__all__ = ["hides", "printable", "unprintable"]
