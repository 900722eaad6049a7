"""The harness from Python: what `run` records is what the command line records, and `debug` learns the same
cell in this process.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from notebooks import Notebook
from runs import BLOBS, WORLDS, Owb, world
from worlds import Blobs, Guess, Means

import openworld
from harness.api.naming import selection_of
from harness.api.results import Results
from harness.api.running import debug, load, run
from harness.code import public
from harness.contracts import Prediction, Query, Stage, Strategy
from harness.errors import UserError
from harness.execution.machine import Machine
from harness.protocol.cells import Suite
from harness.protocol.smoke import smoke_of
from harness.sandbox.scan import scan

MEANS, TRAINS = world("Means"), world("Trains")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, warm_ray: None) -> Results:
    """Return two strategies on blobs under two seeds."""
    store = str(tmp_path_factory.mktemp("api") / "store")
    return run([MEANS, TRAINS], BLOBS, seeds=2, bounds=False, store=store, machine=Machine(workers=1))


def test_a_frame_has_a_row_a_cell_with_every_metric(results: Results) -> None:
    frame = results.frame()
    assert list(zip(frame["strategy"], frame["seed"], strict=True)) == [
        (MEANS, 0),
        (TRAINS, 0),
        (MEANS, 1),
        (TRAINS, 1),
    ]
    assert set(frame["status"]) == {"done"}
    assert {metric.name for metric in Blobs.metrics} <= set(frame.columns)
    for record, (_, row) in zip(results.records, frame.iterrows(), strict=True):
        assert row[Blobs.metrics[0].name] == record.metrics[Blobs.metrics[0].name]


def test_curves_have_a_row_a_stage_and_end_at_the_final_accuracy(results: Results) -> None:
    curves = results.curves()
    stages = len(Blobs().deal(0).stages)
    assert len(curves) == 4 * stages
    assert sorted(set(curves["stage"])) == list(range(stages))


def test_rankings_and_comparisons_are_those_of_the_records(results: Results) -> None:
    ranking = results.ranking()
    assert {row.strategy for row in ranking.rows} == {MEANS, TRAINS}
    (found,) = results.compare(MEANS, TRAINS)
    by_seed = results.frame().pivot(index="seed", columns="strategy", values=ranking.primary.name)
    assert found.difference == pytest.approx((by_seed[MEANS] - by_seed[TRAINS]).mean())
    with pytest.raises(UserError, match="Meanz"):
        results.compare(MEANS, "Meanz")


def test_a_notebook_shows_the_ranking_and_no_markup_of_a_name(results: Results) -> None:
    shown = results._repr_html_()
    assert shown.count("<table>") == 1
    assert repr(results) == "<Results of 4 cells: 4 done>"
    assert Blobs.metrics[0].name.replace("_", " ") in shown


def test_what_was_run_is_loaded_again_and_run_again_from_the_cache(results: Results) -> None:
    again = load(results.store.uri, "runs")
    assert {record.key for record in again.records} == {record.key for record in results.records}
    cached = run(Means, BLOBS, seeds=[1], bounds=False, store=results.store.uri)
    assert [record.digest for record in cached.records] == [
        record.digest for record in results.records if (record.strategy, record.seed) == (MEANS, 1)
    ]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_cell_in_this_process_has_the_figures_of_the_worker(results: Results, seed: int) -> None:
    (record,) = [each for each in results.records if (each.strategy, each.seed) == (TRAINS, seed)]
    assert debug(TRAINS, BLOBS, seed=seed) == dict(record.metrics)


def test_an_error_in_this_process_is_the_strategy_s_own() -> None:
    class Breaks(Strategy):
        """Divides by zero."""

        def learn(self, stage: Stage) -> None:
            self.share = 1 / 0

        def predict(self, query: Query) -> Prediction:
            raise NotImplementedError

    with pytest.raises(ZeroDivisionError) as caught:
        debug(Breaks, BLOBS)
    assert caught.traceback[-1].name == "learn"


def test_a_class_is_named_by_its_entry_point_or_its_file(tmp_path: Path) -> None:
    from strategies.class_incremental.replay import Replay

    class Nowhere(Means):
        """Lies in a function."""

    assert selection_of("strategy", Replay, tmp_path) == "replay"
    assert selection_of("scenario", Blobs(items=9), tmp_path).endswith("worlds.py:Blobs[items=9]")
    assert Path(selection_of("strategy", Means, tmp_path).rpartition(":")[0]).samefile(
        MEANS.rpartition(":")[0]
    )
    with pytest.raises(UserError, match="Nowhere lies in no file"):
        selection_of("strategy", Nowhere, tmp_path)


def test_a_class_of_a_notebook_runs_on_workers_and_is_there_for_the_command_line(
    results: Results, call_owb: Owb, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Notebook(monkeypatch)
    cell("import numpy as np\nfrom openworld import Prediction, Strategy, param")
    cell(inspect.getsource(Guess).replace("Strategy):", "Strategy):\n    answer: int = param(0)", 1))
    ran = run(cell["Guess"], BLOBS, seeds=[0], bounds=False, store=results.store.uri)
    (record,) = ran.records
    assert (record.status, record.metrics["average_accuracy"]) == ("done", pytest.approx(1 / 6, abs=0.2))
    path, _, name = record.strategy.rpartition(":")
    assert (Path(path).is_relative_to(results.store.folder), name) == (True, "Guess")
    again = ("run", record.strategy, "-s", BLOBS, "--seed", "0", "--no-bounds", "--store", results.store.uri)
    assert [(each["status"], each["key"]) for each in call_owb(*again, "--plan", "--json").json] == [
        ("cached", record.key)
    ]
    assert load(results.store.uri, "runs").compare(cell["Guess"], MEANS)[0].difference < 0


def test_the_command_line_runs_a_cell_in_its_own_process(
    call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: Results
) -> None:
    monkeypatch.chdir(tmp_path)
    (record,) = [each for each in results.records if (each.strategy, each.seed) == (MEANS, 1)]
    assert call_owb("run", MEANS, "-s", BLOBS, "--debug", "--seed", "1", "--json").json == dict(
        record.metrics
    )
    assert list(tmp_path.iterdir()) == []


def test_features_in_a_file_of_one_s_own_are_discovered(results: Results, tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 60)
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(600, 16)) + 6 * rng.normal(size=(10, 16))[labels]
    np.savez(tmp_path / "points.npz", inputs=inputs.astype(np.float32), labels=labels)
    sizes = "n_new=20,n_init=8,n_seen=8"
    of_file = f"cgcd[dataset=arrays[path={tmp_path / 'points.npz'}],{sizes}]"
    found = run("k-means", of_file, seeds=1, bounds=False, store=results.store.uri)
    assert found.frame()["status"].tolist() == ["done"]
    assert found.frame()["mean_all"][0] > 0.7
    assert found.curves()["stage"].tolist() == [*range(len(found.curves()))]
    assert found.frame()["scenario.n_init"].tolist() == [8]


def test_a_smoke_run_is_recorded_apart_and_says_that_it_measures_nothing(
    results: Results, call_owb: Owb
) -> None:
    before = {record.key for record in load(results.store.uri, "runs").records}
    tried = run(MEANS, f"{WORLDS}:Blobs[items=[20,30]]", bounds=False, smoke=True, store=results.store.uri)
    assert [(record.status, record.seed) for record in tried.records] == [("done", 0)] * 2
    assert tried._repr_html_().count("measures nothing") == 2
    assert len(load(results.store.uri, "runs-smoke").records) == 2
    assert {record.key for record in load(results.store.uri, "runs").records} == before
    words = ("run", MEANS, "-s", f"{WORLDS}:Blobs[items=30]", "--no-bounds", "--smoke")
    said = call_owb(*words, "--store", results.store.uri)
    assert "what it scored means nothing" in said.out
    assert "average" not in said.out
    (planned,) = call_owb(*words, "--store", results.store.uri, "--plan", "--json").json
    assert (planned["status"], planned["key"]) == ("cached", tried.records[1].key)


def test_a_smoke_run_of_a_suite_has_another_name_and_of_a_smoke_run_is_the_same() -> None:
    suite = Suite(name="mine", scenarios=("cgcd[dataset=[digits,glyphs]]", "ncd"), strategies=("k-means",))
    tried = smoke_of(suite, backbone="cnn[width=8]")
    assert tried.scenarios == (
        "smoke[over=cgcd[dataset=digits],backbone=cnn[width=8]]",
        "smoke[over=cgcd[dataset=glyphs],backbone=cnn[width=8]]",
        "smoke[over=ncd,backbone=cnn[width=8]]",
    )
    assert (tried.name, tried.seeds, tried.strategies) == ("mine-smoke", 1, suite.strategies)
    again = smoke_of(tried)
    assert (again.name, again.scenarios) == (tried.name, tried.scenarios)


# --- the public face ------------------------------------------------------------------------------------------


def test_every_public_name_is_where_it_is_said_to_be() -> None:
    assert set(openworld.__all__) == set(public.homes())
    assert all(getattr(openworld, name) is not None for name in openworld.__all__)
    assert openworld.Strategy is Strategy
    with pytest.raises(AttributeError, match="has no attribute 'Stratgy'"):
        openworld.Stratgy  # noqa: B018


def test_the_public_face_loads_nothing_heavy_by_itself() -> None:
    code = "import openworld, sys; print({'torch', 'ray', 'mlflow', 'pandas'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ended.stdout.strip() == "set()"


def test_the_gate_takes_the_contract_by_its_public_name_and_nothing_else_of_it() -> None:
    assert scan("from openworld import Strategy, param\n", "mine.py") == []
    for line in ("from openworld import run", "from openworld import Strategy, load", "import openworld"):
        assert any("mine.py, line 1: imports" in found for found in scan(f"{line}\n", "mine.py"))
