"""A context that trains what is not the learner itself."""

from __future__ import annotations

from typing import Any, cast

from harness.contracts import Context


def unheard(context: Context) -> Context:
    """Return `context` without ears: training under it reports no progress and offers no probe."""
    return cast(Context, _Unheard(context))


class _Unheard:
    def __init__(self, context: Context) -> None:
        self.context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self.context, name)

    def progress(self, step: int, total: int, **values: float) -> None:
        """Say nothing."""

    def probe(self, step: int) -> None:
        """Offer nothing."""

    def epoch_ended(self, epoch: int) -> None:
        """Offer nothing."""
