"""YAML files of ours that a person writes: keys said twice, and scalars that are no more than they look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import UserError
from harness.protocol.cells import read_suite
from harness.protocol.yaml_files import read_yaml
from leaderboards.papers import preset
from leaderboards.publishing.board import read_entry, read_header
from leaderboards.publishing.submission import read_metadata, read_submission

SUITE = "scenarios: [class-incremental]\nstrategies: [fine-tune]\n"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"{SUITE}seeds: 5\nseeds: 1\n", "says 'seeds' twice, in lines 3 and 4"),
        (f"{SUITE}seeds: 5\n'seeds': 5\n", "says 'seeds' twice, in lines 3 and 4"),
        (f"{SUITE}chosen: {{a: {{method: x, method: y}}}}\n", "says 'method' twice, in line 3"),
        (f"{SUITE}chosen:\n  a: 1\n  b: 2\n  a: 3\n", "says 'a' twice, in lines 4 and 6"),
        ("suite:\n  seeds: 1\n  seeds: 2\nsuite: {}\n", "says 'suite' twice, in lines 1 and 4"),
    ],
)
def test_a_suite_that_says_a_key_twice_is_refused(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_suite(path)
    assert str(caught.value) == f"suite {str(path)!r} {where}"


def test_every_file_that_a_person_writes_refuses_a_key_said_twice(tmp_path: Path) -> None:
    twice = "licence: MIT\nname: a\nlicence: GPL\n"
    readers = {
        "protocol.yaml": lambda path: read_header(path.parent),
        "entry.yaml": read_entry,
        "submission.yaml": lambda path: read_submission(path.parent),
        "mine.yaml": lambda path: read_metadata(path, {}),
        "preset.yaml": preset.read,
    }
    for name, read in readers.items():
        path = tmp_path / name
        path.write_text(twice)
        with pytest.raises(UserError, match=rf"{name}.* says 'licence' twice, in lines 1 and 3"):
            read(path)


def test_keys_of_different_mappings_and_merged_ones_are_no_repetition(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("base: &base {a: 1, b: 2}\nmine: {<<: *base, b: 3}\nb: 4\n")
    assert read_yaml(path, "x") == {"base": {"a": 1, "b": 2}, "mine": {"a": 1, "b": 3}, "b": 4}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        ("+1", "+1"),
        ("True", "True"),
        ("12", 12),
        ("-3", -3),
        ("0.5", 0.5),
        ("1.0e-05", 1e-5),
        ("-.inf", -float("inf")),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("'12'", "12"),
    ],
)
def test_a_scalar_is_what_it_looks_like(tmp_path: Path, text: str, value: Any) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"x: {text}\n")
    assert read_yaml(path, "x") == {"x": value}
    assert type(read_yaml(path, "x")["x"]) is type(value)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    words = [
        "yes",
        "1e3",
        "01",
        "1_0",
        "1:30",
        ".5",
        "5.",
        "+1",
        ".inf",
        "nan",
        "null",
        "~",
        "",
        "true",
        "True",
        "<<",
        "=",
        "1.0e5",
        "a #b",
    ]
    numbers = [1, -3, 0.1, 1e-7, 1e20, 1e300, -0.0, float("inf")]
    content = {"words": words, "numbers": numbers, "others": [None, True, False], **dict.fromkeys(words, 1)}
    path = tmp_path / "x.yaml"
    for style in (None, False, True):
        path.write_text(
            yaml.safe_dump(content, default_flow_style=style, allow_unicode=True), encoding="utf-8"
        )
        assert repr(read_yaml(path, "x")["words"]) == repr(words)
        assert read_yaml(path, "x") == content


def test_texts_of_a_suite_are_taken_as_said(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(f"name: 01\ntitle: 2024-01-01\n{SUITE}seeds: 3\ntimeout_s: 1.5\nablation:\n")
    suite = read_suite(path)
    assert (suite.name, suite.title, suite.seeds, suite.timeout_s, suite.ablation) == (
        "01",
        "2024-01-01",
        3,
        1.5,
        None,
    )
    path.write_text(f"{SUITE}seeds: yes\n")
    with pytest.raises(UserError, match="seeds: input should be a valid integer"):
        read_suite(path)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "a: b: c",
        "? [a]\n: 1",
        "a: !!python/name:os.system",
        "a: \x00",
        "[" * 5000,
        f"a: {'1' * 5000}",
    ],
)
def test_what_is_no_yaml_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"^x is not YAML: ") as caught:
        read_yaml(path, "x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
