"""Claims that a component alone is held against, on components that break one each."""

from __future__ import annotations

from pathlib import Path

from harness.checks.components import check_component, with_components
from harness.plugins import find
from harness.selection import configured

BROKEN = """
from harness.contracts import param
from harness.errors import Diverged
from strategies.components.contract import Component


class Loud(Component):
    size: float = param(2.0, "factor on the inputs")
    neutral = {"size": 1.0}

    def change(self, network, batch):
        if len(network.components.parts) > 1:
            raise Diverged("too loud in company")
        return batch._replace(inputs=batch.inputs * (self.size + 4))


class Narrow(Component):
    def term(self, network, batch, seen):
        if seen.logits.dtype != __import__("torch").float32:
            raise RuntimeError("half precision")
"""


def test_what_is_not_neutral_or_takes_no_half_precision_is_said_and_the_rest_holds(tmp_path: Path) -> None:
    file, learner = tmp_path / "broken.py", with_components("cross-entropy")
    file.write_text(BROKEN)
    scenario = configured("scenario", "class-incremental[stages=1]")
    found = {}
    for name in ("Loud", "Narrow"):
        plugin = find("component", f"{file}:{name}")
        found[name] = check_component(plugin.name, plugin, learner, scenario)
    assert [finding.holds for finding in found["Loud"]] == [False, True, True, True]
    assert "differ" in found["Loud"][0].detail
    assert found["Loud"][2].detail.startswith("not beside aggregate (")
    assert "crrelu (too loud in company)" in found["Loud"][2].detail
    assert [finding.holds for finding in found["Narrow"]] == [True, False, True, True]
    assert found["Narrow"][0].detail == "names no neutral parameters"
    assert "half precision" in found["Narrow"][1].detail
    assert "times the processor time" in found["Loud"][3].detail
