"""Answers that a source brings along, or goes to fetch from beside its scratch folder, are refused with their line.

Every forgery here has the predictions of the honest source and fits in every digest, so nothing but the source
tells.
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from asking import Verify
from checkout import ROOT
from forgeries import World, copies, lines, problems_of, stages_that_refuse, with_attack, with_source

from harness.sandbox.scan import scan
from harness.selection import configured
from leaderboards.gate.surroundings import hidden

OUT = {
    "a file beside": (
        "np.load(self.context.scratch / '..' / '..' / 'labels.npy')",
        r"names '\.\.', which leads out",
    ),
    "a file far beside": (
        "np.load(self.context.scratch / '../../labels.npy')",
        r"names '\.\./\.\./labels\.npy', which leads",
    ),
    "a way in pieces": (
        lines("up = '..'", "np.load(self.context.scratch / up / up / 'labels.npy')"),
        r"names '\.\.', which",
    ),
    "a way in bytes": (
        "np.load(self.context.scratch / b'../labels.npy'.decode())",
        r"names '\.\./labels\.npy', which leads",
    ),
    "a way of Windows": (
        "np.load(self.context.scratch / 'a\\\\..\\\\..\\\\labels.npy')",
        r"names 'a.*labels\.npy', which leads",
    ),
    "a formatted way": (
        "np.load(self.context.scratch / f'{stage.index}/../../labels.npy')",
        r"names '/\.\./\.\./labels\.npy', which",
    ),
    "the folder above": (
        "np.load(self.context.scratch.parent / 'labels.npy')",
        r"uses \.parent, which leads out",
    ),
    "folders above": (
        lines("place = self.context.scratch", "np.load(place.parents[3] / 'labels.npy')"),
        r"uses \.parents, which leads out",
    ),
    "a whole path": (
        "np.load(self.context.scratch / '/srv/labels.npy')",
        r"names '/srv/labels\.npy', which is not in",
    ),
    "a whole path, joined": (
        "np.load(self.context.scratch.joinpath('/srv/labels.npy'))",
        r"names '/srv/labels\.npy', which is not in",
    ),
    "the home folder": (
        "np.load((self.context.scratch / '~/labels.npy').expanduser())",
        r"names '~/labels\.npy', which is not",
    ),
    "a text that is no code": (
        "np.frombuffer(type(self).__doc__.encode(), dtype=np.uint8)",
        r"uses \.__doc__, which reads texts",
    ),
}


@pytest.mark.parametrize("name", OUT)
def test_a_way_out_of_the_scratch_folder_is_refused_with_its_line(
    gate: Verify, folder: Path, name: str
) -> None:
    attack, sentence = OUT[name]
    with_attack(folder, attack)
    said = gate(folder, "--no-rerun")
    assert (said.code, stages_that_refuse(said.report)) == (3, ["source"])
    assert any(
        re.match(rf"strategy\.py, line \d+: {sentence}", problem) for problem in problems_of(said.report)
    ), said.text


def _centres() -> list[str]:
    """Return the mean image of every class over all data of MNIST's excerpt, a byte a pixel, as text in pieces."""
    deal = configured("scenario", "class-incremental[dataset=mnist5k]").deal(0)
    inputs, labels = np.asarray(deal.inputs), deal.labels
    means = np.stack([inputs[labels == label].mean(axis=0) for label in range(10)])
    text = base64.b85encode(np.rint(means).astype(np.uint8).tobytes()).decode().replace("\\", "_")
    return [text[start : start + 300] for start in range(0, len(text), 300)]


PIECES = {
    "texts": [f"T{at} = '{'0123456789' * 30}'" for at in range(20)],
    "bytes": [f"T{at} = b'{'0123456789' * 30}'" for at in range(20)],
    "lists": [f"T{at} = {list(range(1000, 1090))}" for at in range(20)],
    "numbers": [f"T{at} = {10**290 + at}" for at in range(20)],
    "fractions": [f"T{at} = {[0.123456 + i for i in range(30)]}" for at in range(25)],
    "truth values": [f"T{at} = [{'True, False, ' * 150}]" for at in range(20)],
    "names of arguments": [f"def f{at}(a='{'x' * 300}'): ..." for at in range(20)],
    "centres of all data": [f"C{at} = '{piece}'" for at, piece in enumerate(_centres())],
}


@pytest.mark.parametrize("name", PIECES)
def test_a_table_in_pieces_is_a_table(gate: Verify, folder: Path, name: str) -> None:
    with_source(folder, "\n".join([(folder / "strategy.py").read_text(), *PIECES[name]]) + "\n")
    said = gate(folder, "--no-rerun")
    assert (said.code, stages_that_refuse(said.report)) == (3, ["source"])
    (problem,) = problems_of(said.report)
    assert re.fullmatch(
        r"strategy\.py: its literals hold \d{4,5} characters in all, more than 4000: they could be labels or weights",
        problem,
    )


def test_docstrings_take_nothing_from_the_budget() -> None:
    assert scan(f'"""{"A long story. " * 250}"""\n' * 3, "strategy.py") == []


# --- what the honest write ----------------------------------------------------------------------------------

HONEST = """
import io
import numpy as np
import torch
from harness.contracts import Strategy

class Net(torch.nn.Module):
    def forward(self, input):
        vars = input.flatten(1)
        return [vars for compile in range(1)][0]

def keep(folder, arrays):
    np.savez(folder / "memory.npz", **arrays)

class Mine(Strategy):
    def learn(self, stage):
        keep(self.context.scratch, {"labels": stage.labels})
        self.hold(arrays={}, where=self.context.scratch / "second")
        buffer = io.BytesIO()
        torch.save(Net().state_dict(), buffer)
        torch.load(buffer, weights_only=True)
        ratio = 1 / 2

    def hold(self, where, arrays):
        where.mkdir()
        np.savez(where / "memory.npz", **arrays)
"""


def test_names_of_ones_own_helpers_and_buffers_in_memory_pass() -> None:
    assert scan(HONEST, "strategy.py") == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("vars = vars\nvars()", "vars"),
        ("def f(vars=vars): return vars()", "vars"),
        ("class A:\n    input = input", "input"),
        ("def f():\n    global exec\n    exec('x')", "exec"),
        ("def f():\n    return [eval for _ in (1,)]", "eval"),
        ("f = lambda: globals()", "globals"),
    ],
)
def test_a_name_that_only_looks_like_ones_own_is_refused(text: str, name: str) -> None:
    assert any(f"uses {name}, which" in problem for problem in scan(text, "strategy.py"))


def test_a_helper_that_gets_another_folder_is_refused() -> None:
    text = "import numpy as np\ndef keep(folder):\n    np.save(folder / 'x', [1])\nkeep('elsewhere')\n"
    assert scan(text, "strategy.py") == [
        "strategy.py, line 3: writes a file outside its scratch folder (save)"
    ]


# --- what lies around -----------------------------------------------------------------------------------


def test_the_whole_checkout_is_hidden_but_for_what_python_needs(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a store in the checkout would be hidden as well
    checkout = tmp_path / "submitted"
    folder = copies(made.submissions["first"], checkout / "submissions" / "first")
    (checkout / ".git").mkdir()
    places = hidden(folder, made.boards)
    assert checkout in places
    assert made.boards in places
    own = [p for p in places if p.is_relative_to(ROOT) and not p.is_relative_to(sys.prefix)]
    assert own == []
    beside = hidden(ROOT / "submissions" / "mine", ROOT / "leaderboards" / "boards")
    assert {ROOT / "tests", ROOT / "docs", ROOT / "leaderboards" / "boards", ROOT / "README.md"} <= {*beside}
    needed = [ROOT / name for name in ("harness", "scenarios", "strategies")] + [Path(sys.prefix)]
    assert not [place for place in beside for need in needed if need.is_relative_to(place) or place == need]
