"""A scenario over another one: what it does not say itself is that of the base scenario."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

from pydantic import field_validator

from harness.contracts import Metric, Prediction, Scenario
from harness.errors import UserError
from harness.selection import configured, single


class Wrapper(Scenario):
    """Base of scenarios that change what another one deals; a subclass has the parameter `over` or `of`,
    which names that one.
    """

    named_by: ClassVar[str] = "over"
    """The parameter that names the base scenario."""

    @field_validator("over", "of", check_fields=False)
    @classmethod
    def _not_itself(cls, text: str) -> str:
        if isinstance(configured("scenario", text), cls):
            raise UserError(
                f"{single(text).name} needs a scenario of another kind in `{cls.named_by}`, not itself"
            )
        return text

    @cached_property
    def base(self) -> Scenario:
        """The base scenario."""
        scenario: Scenario = configured("scenario", getattr(self, self.named_by))
        return scenario

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """Those of the base scenario."""
        return self.base.metrics

    @property
    def prediction(self) -> type[Prediction]:  # type: ignore[override]
        """What the base scenario asks for."""
        return self.base.prediction

    @property
    def answers(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the base scenario needs."""
        return self.base.answers

    @property
    def probed(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the base scenario keeps of a probe."""
        return self.base.probed

    @property
    def kept(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the base scenario keeps of an answer."""
        return self.base.kept

    @property
    def lower_bound(self) -> str:  # type: ignore[override]
        """That of the base scenario."""
        return self.base.lower_bound

    @property
    def upper_bound(self) -> str:  # type: ignore[override]
        """That of the base scenario."""
        return self.base.upper_bound

    @property
    def frozen_encoder(self) -> bool:  # type: ignore[override]
        """Whether the base scenario has an encoder that nobody trains."""
        return self.base.frozen_encoder

    def board_exclusion_reason(self) -> str:
        """Refuse what the base scenario refuses."""
        return self.base.board_exclusion_reason()

    def data_digests(self) -> Mapping[str, str]:
        """Return those of the base scenario."""
        return self.base.data_digests()


__all__ = ["Wrapper"]
