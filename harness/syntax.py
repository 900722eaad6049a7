"""The selection syntax: `name[param=value, other=[1, 2]]`. A list stands for alternatives, each a selection
of its own.

A value is a number where it is written as one, true, false, null, or text; nothing of it is a comment, a date
or an octal number. Text with commas or brackets in it stands in quotes, of either kind. What a parameter that is
text makes of it is what was said (`Selection.with_texts`): `1e3` is no number there, nor is `null` nothing.

>>> [str(selection) for selection in expand("replay[memory=[50, 200], lr=0.1]")]
['replay[memory=50,lr=0.1]', 'replay[memory=200,lr=0.1]']
"""

from __future__ import annotations

import inspect
import itertools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.errors import UserError, unknown

_NUMBER = re.compile(
    r"[-+]?(?:(?P<whole>0|[1-9]\d*)|(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|\.?(?:inf|infinity|nan))",
    re.ASCII | re.I,
)
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Selection:
    """A plugin's name and the parameters that were said; defaults are not filled in.

    spelled: the words of those values that are printed otherwise than they were said, such as `1e-3` for
    0.001.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    spelled: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        return _written(self.name, {name: _text(value) for name, value in self.params.items()})

    @property
    def as_written(self) -> str:
        """The selection in the words it was said in; `str` is its label, in which equal values look alike."""
        return _written(self.name, {name: self.text(name) for name in self.params})

    def text(self, name: str) -> str:
        """Return the words of one parameter, empty where it was not said."""
        return self.spelled.get(name) or (_text(self.params[name]) if name in self.params else "")

    def changed(self, **values: Any) -> Selection:
        """Return the selection with further or other values."""
        return Selection(
            self.name,
            {**self.params, **values},
            {name: words for name, words in self.spelled.items() if name not in values},
        )

    def with_texts(self, names: Collection[str]) -> Selection:
        """Return the selection with those of its parameters that are text as they were said."""
        texts = {name: self.text(name) for name in self.params if name in names}
        return self.changed(**texts) if texts else self


def expand(text: str) -> list[Selection]:
    """Return every alternative that `text` stands for.

    Raises:
        UserError: unbalanced brackets, a part without `=`, or a parameter said twice.
    """
    text = text.strip()
    name, bracket, rest = text.partition("[")
    if not bracket:
        return [Selection(name)]
    if not rest.endswith("]") or not name:
        raise UserError(f"cannot read {text!r}: expected name[param=value,other=value]")
    params: dict[str, list[tuple[Any, str]]] = {}
    for part in split_outside(rest[:-1], ","):
        key, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"cannot read {part.strip()!r} in {text!r}: expected param=value")
        if key.strip() in params:
            raise UserError(f"{key.strip()!r} is said twice in {text!r}")
        params[key.strip()] = _alternatives(value)
    return [
        _selection(name, dict(zip(params, values, strict=True)))
        for values in itertools.product(*params.values())
    ]


def single(text: str) -> Selection:
    """Return the one selection that `text` stands for; raise `UserError` where it stands for several."""
    selections = expand(text)
    if len(selections) != 1:
        raise UserError(f"{text!r} stands for {len(selections)} alternatives where one is needed")
    return selections[0]


def chosen(
    kind: str, text: str, makers: Mapping[str, Callable[..., Any]], *, given: Sequence[str] = ()
) -> Callable[..., Any]:
    """Return the one of `makers` that `text` selects, with the parameters said; those in `given` are left for
    the call.

    Raises:
        UserError: no `kind` of that name, or a parameter it does not have.
    """
    selection = single(text)
    if selection.name not in makers:
        raise unknown(kind, selection.name, makers, ", ".join(makers))
    make = makers[selection.name]
    declared = inspect.signature(make).parameters
    return with_parameters(
        kind, make, selection, [option for name, option in declared.items() if name not in given]
    )


def with_parameters(
    kind: str, make: Callable[..., Any], selection: Selection, known: Sequence[inspect.Parameter]
) -> partial[Any]:
    """Return `make` with the parameters that were said, those that are text in the words they were said in.

    Args:
        kind: what `make` makes, for errors.
        make: to be called.
        selection: its name and parameters.
        known: those of its parameters that can be said; `**options` among them stands for any.

    Raises:
        UserError: a parameter it does not have.
    """
    names = [option.name for option in known if option.kind is not option.VAR_KEYWORD]
    for option in selection.params:
        if option not in names and len(names) == len(known):
            raise unknown(f"parameter of {kind} {selection.name}", option, names, ", ".join(names) or "none")
    texts = [option.name for option in known if option.annotation in (str, "str")]
    return partial(make, **selection.with_texts(texts).params)


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a letter outside brackets and quotes; parts without content are left out.

    A quote counts where a value begins, and ends where a value may end: the one in `Tom's` is a letter.
    """
    parts, depth, place = [""], 0, 0
    while place < len(text):
        letter = text[place]
        if letter in "'\"" and parts[-1].rstrip()[-1:] in ("", "=", "[", ","):
            end = _end_of_quote(text, place)
            parts[-1] += text[place:end]
            place = end
            continue
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
        place += 1
    if depth:
        raise UserError(f"cannot read {text!r}: brackets do not match")
    return [part for part in parts if part.strip()]


def _end_of_quote(text: str, start: int) -> int:
    """Return the place after a quotation that begins at `start`; after its first letter where none ends."""
    ended = re.compile(rf"{text[start]}(?=\s*(?:[],+]|$))").search(text, start + 1)
    return ended.end() if ended else start + 1


def _selection(name: str, values: Mapping[str, tuple[Any, str]]) -> Selection:
    spelled = {parameter: words for parameter, (value, words) in values.items() if _text(value) != words}
    return Selection(name, {parameter: value for parameter, (value, _) in values.items()}, spelled)


def _alternatives(text: str) -> list[tuple[Any, str]]:
    """Return the values that a text stands for, each with its words."""
    text = text.strip()
    parts = split_outside(text[1:-1], ",") if text.startswith("[") else [text]
    return [(_value(words), words) for words in map(_unquoted, parts)]


def _unquoted(text: str) -> str:
    """Return the words of a value without the quotes around them."""
    text = text.strip()
    quoted = len(text) > 1 and text[0] in "'\"" and text.find(text[0], 1) == len(text) - 1
    return text[1:-1] if quoted else text


def _value(words: str) -> Any:
    """Read a scalar; what is no number, truth value or null is text, a nested selection too."""
    if words.lower() in _WORDS:
        return _WORDS[words.lower()]
    number = _NUMBER.fullmatch(words)
    if number is None:
        return words
    return int(words) if number["whole"] else float(words.replace(".", "") if words[-1].isalpha() else words)


def _written(name: str, texts: Mapping[str, str]) -> str:
    arguments = ",".join(f"{parameter}={_quoted(words)}" for parameter, words in texts.items())
    return f"{name}[{arguments}]" if arguments else name


def _quoted(words: str) -> str:
    """Return the words of a value in quotes where they would be read otherwise without."""
    try:
        if split_outside(words, ",") in ([words], []):
            return words
    except UserError:  # brackets that do not match
        pass
    quote = '"' if '"' not in words else "'"
    return f"{quote}{words}{quote}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
