"""`--compile`: the same answers from compiled networks, every one of them really compiled, and a sentence
where that cannot be.
"""

from __future__ import annotations

import copy
import json
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from checkout import SUPPORT
from fakes import FakeContext
from runs import BLOBS, Owb
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.func import functional_call, vmap

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.contracts import Context, StoredPrediction
from harness.errors import UserError
from harness.execution.environment import environment
from harness.execution.machine import Machine
from harness.processes.compiler import uncompiled
from harness.selection import configured
from harness.store.mlflow_store import Store
from strategies.anomaly.encoders.by_name import encoder
from strategies.ncd.network import NovelNetwork
from strategies.toolkit.networks import backbone
from strategies.toolkit.networks.compiling import compiled

COMPILED = f"{SUPPORT / 'compile_worlds.py'}:Compiled"
SMALL = "mlp[width=16,depth=1]"
SCENARIO = f"{BLOBS}[backbone={SMALL}]"
NOWHERE = "/nowhere/g++"
NO_COMPILER = (
    f"--compile needs a C++ compiler, and '{NOWHERE}' is not there: install g++, name another in "
    "CXX, or leave --compile out"
)

needs_compiler = pytest.mark.skipif(
    not shutil.which(shlex.split(os.environ.get("CXX") or "g++")[0]),
    reason="torch compiles with a C++ compiler, and there is none",
)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """Let torch trace what it compiles, and run it without making code; return what it counts."""
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **options: whole(call, backend="eager", **options))
    counters.clear()
    return counters["stats"]


def _context(backbone: str = SMALL, *, asked: bool = True) -> Context:
    return cast(Context, FakeContext(backbone=backbone, compile=asked))


def _deep(layers: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), *[nn.ReLU() for _ in range(layers)])


def _answers(
    asked: bool, scratch: Path, keep: Path | None = None, stages: int | None = None
) -> list[StoredPrediction]:
    """Return the answers of the first stages of joint training on blobs."""
    scenario = configured("scenario", SCENARIO)
    settings = CellSettings(root_seed=learner_seed(0), budget=scenario.budget(), compile=asked)
    results = run_cell(
        configured("strategy", "joint"),
        build(scenario, 0).episodes[:stages],
        settings,
        scratch=scratch,
        keep=keep,
    )
    return [answer for result in results for answer in result.answers]


def _agree(mine: list[StoredPrediction], theirs: list[StoredPrediction]) -> None:
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        assert (one.arrays["classes"] == other.arrays["classes"]).mean() > 0.95


# --- compiled for real --------------------------------------------------------------------------------------


@needs_compiler
def test_a_compiled_run_answers_the_same_and_its_record_says_so(
    call_owb: Owb, tmp_path: Path, warm_ray: None
) -> None:
    store = Store(str(tmp_path / "store"))
    words = ["-s", SCENARIO, "-n", "1", "--no-bounds", "--workers", "1", "--store", str(store.folder)]
    assert call_owb("run", COMPILED, *words, "--compile").code == 0
    (record,) = store.records()
    assert json.loads(store.file(record, "cell.json").read_text(encoding="utf-8"))[
        "environment"
    ] == environment(Machine(compile=True))
    _agree(store.answers(record), _answers(False, tmp_path))


@needs_compiler
def test_compiled_weights_go_on_where_plain_ones_stopped(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    assert len(_answers(False, tmp_path, tmp_path / "keep", stages=1)) == 1
    continued = _answers(True, tmp_path, tmp_path / "keep")
    assert len(continued) == 3
    _agree(continued, _answers(False, tmp_path))


@needs_compiler
def test_compiled_code_computes_what_the_network_does_for_any_number_of_rows() -> None:
    network, twin = (backbone(_context(asked=asked), (5,)) for asked in (True, False))
    assert list(network.state_dict()) == list(twin.state_dict())
    for rows in (7, 3, 1):
        inputs = torch.randn(rows, 5, generator=torch.Generator().manual_seed(rows))
        for each in (network, twin):
            each.zero_grad()
            each(inputs).square().sum().backward()
        torch.testing.assert_close(network(inputs), twin(inputs))
        for (name, mine), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, msg=name)
    network.load_state_dict({name: 2 * values for name, values in twin.state_dict().items()})
    twin.load_state_dict(network.state_dict())
    torch.testing.assert_close(network(inputs), twin(inputs))


# --- what is compiled ---------------------------------------------------------------------------------------


def test_nothing_is_compiled_unless_it_is_asked_for(traced: Mapping[str, Any]) -> None:
    network = _deep(1)
    assert compiled(network, _context(asked=False)) is network
    network(torch.ones(2, 6))
    assert not traced["unique_graphs"]


def test_every_network_of_a_process_is_compiled_however_many_there_are(traced: Mapping[str, Any]) -> None:
    """Torch gives up on a function after eight variants, and `Module.compile` has one function for all
    modules.
    """
    networks = [compiled(_deep(layers), _context()) for layers in range(12)]
    for network in networks:
        network(torch.ones(2, 6))
    assert traced["unique_graphs"] == 12


def test_a_variant_serves_any_number_of_rows(traced: Mapping[str, Any]) -> None:
    network = compiled(_deep(1), _context())
    for rows in (2, 9, 512):
        network(torch.ones(rows, 6))
    assert traced["unique_graphs"] == 1
    with torch.no_grad():
        network(torch.ones(4, 6))
    assert traced["unique_graphs"] == 2


def test_gradients_of_single_items_leave_the_network_compiled(traced: Mapping[str, Any]) -> None:
    network = compiled(_deep(1), _context())
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    items = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    single = vmap(lambda item: functional_call(network, weights, (item[None],)))(items)
    assert not traced["unique_graphs"]
    torch.testing.assert_close(network(items), single[:, 0])
    assert traced["unique_graphs"] == 1


def test_parts_are_compiled_one_by_one_and_so_are_those_of_a_previous_self(traced: Mapping[str, Any]) -> None:
    plain, mine = (
        NovelNetwork(_context("mlp[width=8,depth=2]", asked=asked)).build((5,), 2).freeze("last")
        for asked in (False, True)
    )
    assert list(plain.state_dict()) == list(mine.state_dict())
    inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    expected = plain(inputs)
    assert not traced["unique_graphs"]
    torch.testing.assert_close(mine(inputs), expected)
    assert traced["unique_graphs"] == len(mine.parts) > 1
    teacher, twin = mine.teacher(), plain.teacher()
    hidden = mine.hidden(inputs)
    torch.testing.assert_close(teacher(hidden), twin(hidden))
    assert traced["unique_graphs"] == 2 * len(mine.parts) - mine.frozen


def test_a_copy_has_weights_of_its_own() -> None:
    network = compiled(_deep(1), _context())
    other = copy.deepcopy(network)
    nn.init.zeros_(other[0].weight)  # type: ignore[arg-type]
    nn.init.ones_(other[0].bias)  # type: ignore[arg-type]
    torch.testing.assert_close(other(torch.randn(3, 6)), torch.ones(3, 5))


def test_a_frozen_encoder_is_compiled(traced: Mapping[str, Any]) -> None:
    images = np.random.default_rng(0).random((5, 1, 32, 32), dtype=np.float32)
    tokens: list[Tensor] = []
    for asked in (False, True):
        tokens.append(
            encoder(_context("vit-tiny[depth=2]", asked=asked), (1, 32, 32)).encode(images, chunk=3)
        )
        assert bool(traced["unique_graphs"]) is asked
    torch.testing.assert_close(tokens[1], tokens[0])


# --- where it is said, and where not ------------------------------------------------------------------------


def test_keys_do_not_depend_on_it(call_owb: Owb, tmp_path: Path) -> None:
    words = ["run", "joint", "--plan", "--json", "--store", str(tmp_path / "store")]
    assert call_owb(*words, "--compile").json == call_owb(*words).json


def test_what_a_record_says_of_the_machine_grows_only_by_what_is_unusual() -> None:
    assert not {"compile", "device", "precision"} & set(environment(Machine()))
    assert environment(Machine(compile=True)) == {**environment(Machine()), "compile": True}
    assert environment(Machine(device="cuda", precision="bfloat16")) == {
        **environment(Machine()),
        "device": "cuda",
        "precision": "bfloat16",
    }


# --- where it cannot be -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["run", "joint", "--plan"],
        ["ablate", "replay", "-s", "class-incremental", "--plan"],
        ["sweep", "replay[memory=[20,50]]", "--plan"],
        ["sweep", "replay[lr=log:1e-3..1]", "--search", "random"],
    ],
    ids=lambda words: " ".join(words[:1] + words[2:]),
)
def test_without_a_compiler_nothing_begins(
    words: list[str], call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", NOWHERE)
    said = call_owb(*words, "--store", str(tmp_path / "store"), "--compile")
    assert (said.code, said.err) == (2, f"error: {NO_COMPILER}\n")


def test_a_worker_without_a_compiler_says_so_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", NOWHERE)
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, NOWHERE), "force_disable_caches": True}),
        pytest.raises(Exception) as raised,
    ):
        torch.compile(lambda values: values.sin() + 1)(torch.ones(3))
    assert uncompiled(raised.value) == NO_COMPILER


def test_other_failures_of_torch_are_told_in_one_sentence() -> None:
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._inductor.exc import CppCompileError, TritonMissing

    def failed(error: Exception) -> str:
        return uncompiled(BackendCompilerFailed("inductor", error, None))

    output = "In file included from main.cpp:2:\nfatal error: torch/csrc/x.h: No such file\n"
    said = failed(CppCompileError(["g++", "main.cpp"], output))
    assert (
        said
        == "torch could not compile the network: fatal error: torch/csrc/x.h: No such file; leave --compile out"
    )
    assert failed(TritonMissing(None)) == (
        "--compile needs Triton on a GPU, and torch finds none that works: install triton, or leave --compile out"
    )
    assert uncompiled(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == ""


def test_grokking_learners_refuse() -> None:
    with pytest.raises(UserError, match=r"--compile does not reach this learner: .*; leave it out"):
        configured("strategy", "grok-adamw").start(_context("quadratic"))
