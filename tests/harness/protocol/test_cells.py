"""Content addresses: equal things have equal keys, and whatever can change a result changes the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT
from runs import BLOBS, world

from harness.errors import UserError
from harness.protocol import fingerprint
from harness.protocol.cells import Suite, cells, contenders, protocols, read_suite


def _key(strategy: str, scenario: str = BLOBS) -> str:
    (cell,) = cells(protocols([scenario]), contenders([strategy]), 1)
    return cell.key


def test_defaults_said_or_unsaid_make_one_cell() -> None:
    assert _key("replay") == _key("replay[memory=200]")
    assert len(cells(protocols([BLOBS]), contenders(["replay", "replay[memory=200]"]), 2)) == 2


def test_every_part_of_a_cell_is_in_its_key() -> None:
    keys = {
        _key("replay"),
        _key("replay[memory=100]"),
        _key("ewc"),
        _key("replay", f"{BLOBS}[items=21]"),
        _key("replay", f"{BLOBS}[epochs=3]"),
    }
    keys |= {cell.key for cell in cells(protocols([BLOBS]), contenders(["replay"]), 3)}
    assert len(keys) == 7


def test_a_protocol_hash_follows_what_is_dealt(tmp_path: Path) -> None:
    """Also where neither name, configuration nor code say so."""
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom pathlib import Path\nimport worlds\nclass Mine(worlds.Blobs):\n"
        "    def deal(self, seed):\n        deal, shift = super().deal(seed), "
        f"float(Path({str(tmp_path / 'shift')!r}).read_text())\n"
        "        return replace(deal, inputs=deal.inputs + shift)\n"
    )
    hashes = []
    for shift in ("0", "1e-3"):
        (tmp_path / "shift").write_text(shift)
        hashes.append(protocols([f"{tmp_path}/mine.py:Mine"])[0].hash)
    assert hashes[0] != hashes[1]


LOADER = """
import numpy as np
from dataclasses import replace
import worlds
class Loader:
    def __init__(self, items):
        self.items, self.shape = items, items.shape
    def __len__(self):
        return len(self.items)
    def __getitem__(self, index):
        assert 0 < len(index) * 8 < len(self.items), "all at once"
        return np.load("ITEMS")[index]
class Mine(worlds.Blobs):
    def deal(self, seed):
        deal = super().deal(seed)
        return replace(deal, inputs=Loader(np.load("ITEMS")), facts={**deal.facts, "masks": Loader(deal.labels)})
    def data_digests(self):
        return STATED
"""


@pytest.mark.parametrize("stated", [{}, {"items": ""}, {"items": "", "more": "abc"}])
def test_what_a_loader_holds_counts_where_no_digest_is_stated(
    stated: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "READ_AT_ONCE", 256)  # eight items of 32 bytes
    path = tmp_path / "mine.py"
    items = np.random.default_rng(0).normal(size=(240, 8)).astype(np.float32)

    def content(items: np.ndarray[Any, Any], stated: dict[str, str]) -> tuple[str, dict[str, str]]:
        np.save(tmp_path / "items.npy", items)
        path.write_text(LOADER.replace("ITEMS", str(tmp_path / "items.npy")).replace("STATED", repr(stated)))
        (protocol,) = protocols([f"{path}:Mine"])
        return protocol.hash, protocol.content["data"]

    changed = items.copy()
    changed[-1, -1] += 1
    hashes = [content(items, stated)[0], content(changed, stated)[0], content(items, stated)[0]]
    assert hashes[0] == hashes[2] != hashes[1]
    assert content(items, stated)[1].keys() == {*stated, "inputs", "facts.masks"}
    assert content(items, {"items": "stated"})[1] == {"items": "stated"}  # nothing is read, whatever it holds


SCORING = """
import worlds
from dataclasses import replace
FACTOR = {factor}
class Mine(worlds.Blobs):
    def score(self, truth, answers):
        import scoring
        return scoring.scaled(super().score(truth, answers), FACTOR)
"""


@pytest.mark.parametrize(
    "beneath", ["{path}:Mine", "smoke[over={path}:Mine]", "smoke[over={path}:Mine[items=30]]"]
)
def test_how_a_scenario_by_path_scores_is_part_of_its_protocol(beneath: str, tmp_path: Path) -> None:
    def written(factor: int, scale: int, words: str = "") -> str:
        (tmp_path / "mine.py").write_text(words + SCORING.format(factor=factor))
        (tmp_path / "scoring.py").write_text(
            f"def scaled(scores, factor):\n    return scores if factor * {scale} else None\n"
        )
        (protocol,) = protocols([beneath.format(path=tmp_path / "mine.py")])
        return protocol.hash

    first = written(1, 1)
    assert written(1, 1, "# reworded\n") == first
    assert len({first, written(2, 1), written(1, 2)}) == 3


def test_protocols_of_what_is_shipped_say_nothing_of_code() -> None:
    """It is under version control, and boards are scored again by every check."""
    for text in ("class-incremental", "two-gaussians", "smoke"):
        (protocol,) = protocols([text])
        assert "code" not in protocol.content


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("scenarios: [a]\nstrategies: [b]\nseed: 3\n", "seed: extra inputs are not permitted"),
        ("scenarios: [a]\n", "strategies: field required"),
        ("scenarios: [a]\nstrategies: [b]\nseeds: 0\n", "seeds: input should be greater than or equal to 1"),
        ("scenarios: [a\n", "is not YAML"),
        ("- a\n- b\n", "should hold keys such as scenarios"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not YAML"),
    ],
)
def test_a_malformed_suite_gets_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_suite(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_suite_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read suite .*: No such file"):
        read_suite(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read suite"):
        read_suite(tmp_path / "binary.yaml")


def test_every_shipped_suite_is_valid() -> None:
    suites = sorted((ROOT / "leaderboards" / "suites").glob("*.yaml"))
    assert suites
    for path in suites:
        suite = read_suite(path)
        assert isinstance(suite, Suite)
        assert contenders(suite.strategies)


def test_a_strategy_by_path_is_addressed_by_its_code_not_its_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(
            "from worlds import Means\nclass Mine(Means):\n    '''M.'''\n"
        )
    assert _key(f"{tmp_path}/one/mine.py:Mine") == _key(f"{tmp_path}/two/mine.py:Mine")
    assert _key(world("Means")) != _key(f"{tmp_path}/one/mine.py:Mine")
