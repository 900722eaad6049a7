"""A scenario over another one has what that one has, unless it says otherwise itself."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.selection import configured

INHERITED = ("prediction", "answers", "probed", "kept", "lower_bound", "upper_bound", "frozen_encoder")


@pytest.mark.parametrize("beneath", ["cgcd[preset=digits]", "grokking", "anomaly[categories=brick]"])
def test_what_is_not_said_is_that_of_the_scenario_beneath(beneath: str) -> None:
    over, base = configured("scenario", f"smoke[over={beneath}]"), configured("scenario", beneath)
    assert over.base == base
    assert over.metrics == base.metrics
    assert [getattr(over, name) for name in INHERITED] == [getattr(base, name) for name in INHERITED]
    assert over.data_digests() == base.data_digests()


@pytest.mark.parametrize(
    ("name", "named_by"), [("smoke", "over"), ("noisy-labels", "over"), ("held-out", "of")]
)
def test_none_lies_over_itself(name: str, named_by: str) -> None:
    message = f"{name} needs a scenario of another kind in `{named_by}`, not itself"
    with pytest.raises(UserError, match=message):
        configured("scenario", f"{name}[{named_by}={name}]")


def test_noisy_labels_keep_every_field_that_the_scenario_beneath_may_answer() -> None:
    """It scores fields that the base scenario has no use for, such as `suspicion`."""
    over = configured("scenario", "noisy-labels[over=held-out]")
    assert over.answers == over.base.answers
    assert {"classes", "suspicion", "kept"} <= set(over.kept)
    assert over.base.kept == ("classes",)
