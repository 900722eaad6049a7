"""Several things of a kind whose states are kept together: the networks of a pair, their tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Together(list[T]):
    """A list of things with `state_dict` and `load_state_dict`; as many have to be there when a state is
    loaded.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each."""
        return {"each": [thing.state_dict() for thing in self]}  # type: ignore[attr-defined]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` was taken from."""
        for thing, own in zip(self, state["each"], strict=True):
            thing.load_state_dict(own)  # type: ignore[attr-defined]
