"""Content addresses: equal things have equal keys, and whatever can change a result changes the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import BLOBS, world

from harness import fingerprint
from harness.errors import UserError
from harness.protocol import Suite, cells, contenders, protocols, read_suite


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
    """Two scenario files with the same name and configuration that deal different items do not share a hash."""
    hashes = []
    for shift in ("0", "1e-3"):
        folder = tmp_path / shift
        folder.mkdir()
        (folder / "mine.py").write_text(
            f"from dataclasses import replace\nimport worlds\nclass Mine(worlds.Blobs):\n"
            f"    def deal(self, seed):\n        deal = super().deal(seed)\n        return replace(deal, inputs=deal.inputs + {shift})\n"
        )
        hashes.append(protocols([f"{folder}/mine.py:Mine"])[0].hash)
    assert hashes[0] != hashes[1]


def test_code_digests_ignore_words_and_notice_deeds(tmp_path: Path) -> None:
    base = "from worlds import Means\nclass Mine(Means):\n    '''Say.'''\n    def learn(self, stage):\n        x = 1\n"
    words = base.replace("'''Say.'''", "'''Say it better.'''  # and with a comment")
    deeds = base.replace("x = 1", "x = 2")
    assert fingerprint.of_code("", base) == fingerprint.of_code("", words)
    assert fingerprint.of_code("", base) != fingerprint.of_code("", deeds)


def test_code_digests_follow_imports() -> None:
    """A strategy's digest covers the toolkit it trains with and the engine that runs it."""
    texts: list[str] = []
    original = fingerprint.of_value
    try:
        fingerprint.of_value = lambda value: texts.extend(value) or "" if isinstance(value, dict) else original(value)  # type: ignore[assignment,func-returns-value]
        fingerprint.of_code("strategies.baselines.replay")
    finally:
        fingerprint.of_value = original
    assert {
        "strategies.baselines.replay",
        "strategies.toolkit.training",
        "strategies.toolkit.buffer",
        "harness.run",
        "harness.seeds",
    } <= set(texts)
    assert "strategies.baselines.ewc" not in texts


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
    suites = sorted((Path(__file__).parents[1] / "leaderboards" / "suites").glob("*.yaml"))
    assert suites
    for path in suites:
        suite = read_suite(path)
        assert isinstance(suite, Suite)
        assert contenders(suite.strategies)


def test_a_strategy_by_path_is_addressed_by_its_code_not_its_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text("from worlds import Means\nclass Mine(Means):\n    '''M.'''\n")
    assert _key(f"{tmp_path}/one/mine.py:Mine") == _key(f"{tmp_path}/two/mine.py:Mine")
    assert _key(world("Means")) != _key(f"{tmp_path}/one/mine.py:Mine")
