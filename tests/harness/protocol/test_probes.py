"""Probes as they are asked for: names of figures, what their identity depends on, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from watched import HERE

from harness.errors import UserError
from harness.protocol.cells import Suite, read_suite
from harness.protocol.probes import looks_of


def names(text: str) -> set[str]:
    looks = looks_of([text])
    assert looks is not None
    return {name for asked in looks.probes for name in asked.names(asked.made()).values()}


def test_figures_say_the_parameters_that_are_not_the_defaults_and_the_items() -> None:
    assert names("accuracy") == {"probe/accuracy@asked", "probe/accuracy_given@asked"}
    assert names("accuracy[of=train,items=64]") == {
        "probe/accuracy items-64@train",
        "probe/accuracy_given items-64@train",
    }
    assert names(f"{HERE}:Counts[factor=[1,2]]") == {
        f"probe/{name}{said}@asked" for name in ("n", "n_true", "n_given") for said in ("", " factor-2.0")
    }


def test_the_identity_follows_from_parameters_and_code_and_not_from_words(tmp_path: Path) -> None:
    def identities(*texts: str) -> list[str]:
        looks = looks_of(texts)
        assert looks is not None
        return [asked.identity for asked in looks.probes]

    assert len(identities("accuracy", "accuracy[of=asked]", "accuracy[items=512]")) == 1
    assert len({*identities("accuracy", "accuracy[of=train]", "accuracy[items=511]")}) == 3
    file = tmp_path / "mine.py"
    text = Path(HERE).read_text(encoding="utf-8")
    found = []
    for change in (
        ("", ""),
        ("# of both", "# of all"),
        ("items there are", "items are there"),
        ("* float", "+ float"),
    ):
        file.write_text(text.replace(*change) if change[0] else text, encoding="utf-8")
        found += identities(f"{file}:Counts")
    assert found[0] == found[1] == found[2] != found[3]


@pytest.mark.parametrize(
    ("texts", "at", "said"),
    [
        (["neural-colapse"], "", "did you mean 'neural-collapse'"),
        (["accuracy[item=3]"], "", "did you mean 'items'"),
        (["accuracy[of=trian]"], "", "of should be"),
        ([f"{HERE}:Shows"], "", "is no probe"),
        (["accuracy"], "epochs", "way to say when"),
        ([], "epochs=1", "name one with --probe"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(texts: list[str], at: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        looks_of(texts, at)


def test_nothing_is_looked_at_where_no_probe_is_named() -> None:
    assert looks_of([]) is None


def test_a_suite_may_name_probes_and_one_without_is_written_as_before(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        "scenarios: [smoke]\nstrategies: [replay]\nprobes: [accuracy, 'dse[of=train]']\nprobe_at: epochs=1,2\n"
    )
    suite = read_suite(tmp_path / "suite.yaml")
    assert (suite.probes, suite.probe_at) == (("accuracy", "dse[of=train]"), "epochs=1,2")
    plain = Suite(scenarios=("smoke",), strategies=("replay",))
    assert not {"probes", "probe_at"} & plain.model_dump(mode="json").keys()
