"""The gate lets honest submissions through and refuses every forgery with a sentence that names it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forgeries
import numpy as np
import pytest
import yaml
from asking import APP, Verify
from checkout import ROOT
from forgeries import (
    World,
    change_answers,
    copies,
    lines,
    predictions,
    problems_of,
    rescore,
    stages_that_refuse,
    with_attack,
    with_source,
)
from typer.testing import CliRunner

from harness import sandbox
from harness.cell.sealing import build
from harness.contracts import Metric, Status, StoredPrediction
from harness.sandbox import launch
from harness.sandbox.scan import scan
from harness.selection import configured
from harness.store.predictions import read_answers
from leaderboards.gate.by_heart import by_heart
from leaderboards.gate.examine import examine
from leaderboards.gate.form import form
from leaderboards.gate.plausibility import same_figures
from leaderboards.gate.regression import regression, verdict
from leaderboards.gate.renaming import mapped_back, new_names, renamed
from leaderboards.gate.report import text_of
from leaderboards.gate.rerun import Drawn, drawn, rerun
from leaderboards.gate.schema import schema
from leaderboards.publishing.board import BoardCell, read_board
from leaderboards.publishing.check import check_board
from leaderboards.publishing.submission import submit

UNSEEN = 'hidden = getattr(np, "__buil" + "tins__")["__imp" + "ort__"]'
"""How a forger gets at any module without a word that the scan of the source knows."""


# --- honest ones --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", forgeries.EXAMPLES)
def test_an_honest_submission_passes_every_stage(made: World, gate: Verify, name: str) -> None:
    said = gate(made.submissions[name], "--cells", "1", "--salt", "a commit")
    assert list(problems_of(said.report)) == []
    assert said.code == 0
    assert [stage["verdict"] for stage in said.report["stages"]] == ["fine"] * 10
    (stands,) = said.report["stages"][9]["notes"]
    assert re.search(r"average accuracy \d+.* over 3 of 3 seeds; place .* of 2 contenders", stands)


def test_a_submission_with_failed_cells_passes_with_them_as_rows(made: World, gate: Verify) -> None:
    said = gate(made.submissions["clumsy"], "--no-rerun")
    assert (said.code, list(problems_of(said.report))) == (0, [])
    assert {stage["skipped"] for stage in said.report["stages"][7:]} == {"stopped before it, as asked"}


def test_the_report_is_the_same_wherever_the_folder_lies_and_names_no_path(
    made: World, gate: Verify, folder: Path
) -> None:
    here = gate(made.submissions["first"], "--no-rerun", "--salt", "x")
    there = gate(folder, "--no-rerun", "--salt", "x")
    assert here.text == there.text
    forgeries.edited_metric(folder)
    assert str(folder.parent) not in gate(folder, "--no-rerun").text


def test_which_cells_run_again_depends_on_the_salt_and_on_the_submission(made: World) -> None:
    def order(name: str, salt: str) -> list[int]:
        path = made.submissions[name]
        case = schema(path, made.boards, form(path).sound).case
        assert case is not None
        return [cell.seed for cell in drawn(case, salt, 3).done]

    assert order("first", "a") == order("first", "a")
    assert (
        len({tuple(order("first", str(salt))) for salt in range(200)}) == 6
    )  # every order of three cells; 20 leave one out at times
    assert any(order("first", str(salt)) != order("second", str(salt)) for salt in range(20))


# --- what was handed in gives it away -----------------------------------------------------------------------

PAPER = [
    (
        forgeries.edited_metric,
        "metrics",
        r"seed 0: average_accuracy is stated as 0\.999, recomputed as 0\.88",
    ),
    (
        forgeries.edited_prediction,
        "integrity",
        "seed 0: the digest of its predictions is not the one stated: they were edited",
    ),
    (forgeries.swapped_seeds, "plausibility", "seed 0: answers the items of seed 1: the seeds were swapped"),
    (forgeries.stale_protocol, "integrity", "its protocol hash .* is stale: board 'tiny' has"),
    (forgeries.duplicate, "plausibility", "is a duplicate of the board's entry 'replay': 3 of 3 cells"),
    (forgeries.identical_across_seeds, "plausibility", "seeds 0, 1 have identical predictions"),
    (
        forgeries.other_configuration,
        "integrity",
        "seed 0: its key is not that of the board's protocol, configuration",
    ),
    (forgeries.traversal_in_files, "schema", r"files\.\.\./\.\./\.bashrc.*string should match"),
    (forgeries.traversal_in_archive, "form", r"array name '\.\./\.\./evil\.npy' leads out of the archive"),
    (
        forgeries.traversal_in_strategy,
        "schema",
        r"strategy '\.\./\.\./evil\.py:First' is neither a name nor FILE\.py:Class",
    ),
    (forgeries.traversal_in_board, "schema", "board: string should match"),
    (forgeries.symlink, "form", r"'predictions/passwords\.npz' is a symbolic link"),
    (forgeries.zip_bomb, "form", r"would unpack to 300 MiB, more than 128 \(a zip bomb\?\)"),
    (
        forgeries.oversized_array,
        "form",
        r"says shape \(1000000000000,\) of float64, which is not what its 64 bytes hold",
    ),
    (forgeries.object_array, "form", "holds Python objects, which would have to be unpickled"),
    (
        forgeries.yaml_tag,
        "form",
        r"entry\.yaml: line \d+ has the YAML tag 'tag:yaml\.org,2002:python/object/apply:os\.system'",
    ),
    (forgeries.yaml_aliases, "form", r"submission\.yaml: line 1 has a YAML anchor or alias"),
    (forgeries.yaml_depth, "form", r"submission\.yaml: line 1 is nested more than 12 deep"),
    (forgeries.nan_figure, "schema", r"cells\.0\.metrics\.average_accuracy: input should be a finite number"),
    (forgeries.nan_in_predictions, "plausibility", "seed 0: scores in stage 0 holds NaN or infinity"),
    (forgeries.infinity_in_predictions, "plausibility", "seed 0: scores in stage 0 holds NaN or infinity"),
    (forgeries.not_utf8, "form", r"strategy\.py is not UTF-8"),
    (forgeries.many_files, "form", "more than 1000 files"),
    (forgeries.large_file, "form", r"strategy\.py takes 301 KiB, more than 256"),
]


@pytest.mark.parametrize(("forge", "stage", "sentence"), PAPER, ids=[forge.__name__ for forge, _, _ in PAPER])
def test_a_forgery_is_refused_with_its_name(
    gate: Verify, folder: Path, forge: Callable[[Path], None], stage: str, sentence: str
) -> None:
    forge(folder)
    said = gate(folder)
    assert said.code == 3
    assert stage in stages_that_refuse(said.report)
    assert any(re.search(sentence, problem) for problem in problems_of(said.report)), list(
        problems_of(said.report)
    )
    assert {stage["verdict"] for stage in said.report["stages"][7:]} == {"not run"}


def test_a_component_in_a_file_is_refused_wherever_it_is_said(
    made: World, gate: Verify, tmp_path: Path
) -> None:
    by_name = submit("replay", made.board, forgeries.METADATA, made.store, tmp_path / "by-name")
    in_source = copies(made.submissions["first"], tmp_path / "in-source")
    for folder in (by_name, in_source):
        forgeries.edit(
            folder / "entry.yaml", lambda entry: entry["params"].update(components="rate+calm.py:Calm")
        )
        forgeries.sign(folder)
        said = gate(folder)
        assert (said.code, "integrity" in stages_that_refuse(said.report)) == (3, True)
        assert any(
            "names a component in a file, which nobody else has" in each for each in problems_of(said.report)
        )


def test_a_failed_cell_that_is_left_out_is_missed(made: World, gate: Verify, tmp_path: Path) -> None:
    folder = copies(made.submissions["clumsy"], tmp_path / "submission")
    forgeries.missing_failed_cell(folder)
    said = gate(folder)
    assert (said.code, stages_that_refuse(said.report)) == (3, ["completeness"])
    assert any(
        "is missing; a cell that failed belongs there with its status" in problem
        for problem in problems_of(said.report)
    )


def test_all_problems_come_at_once(gate: Verify, folder: Path) -> None:
    forgeries.edited_metric(folder)
    forgeries.other_configuration(folder)
    forgeries.stale_protocol(folder)
    (folder / "strategy.py").write_text((folder / "strategy.py").read_text() + "\nimport socket\n")
    said = gate(folder)
    assert stages_that_refuse(said.report) == ["integrity", "metrics", "source"]
    assert (
        len(list(problems_of(said.report))) == 3 + 1 + 2 + 1 + 1
    )  # keys, hash, file and code, figure, import


def test_a_folder_without_files_and_one_that_is_not_there(gate: Verify, tmp_path: Path) -> None:
    said = gate(tmp_path)
    assert said.code == 3
    assert list(problems_of(said.report)) == ["submission.yaml is missing", "entry.yaml is missing"]
    missing = CliRunner().invoke(APP, [str(tmp_path / "none")])
    assert "there is no folder" in str(missing.exception)


def test_what_a_stranger_wrote_cannot_steer_a_terminal(gate: Verify, folder: Path) -> None:
    forgeries.edit(folder / "entry.yaml", lambda entry: entry.update(strategy="\x1b[2Jevil"))
    text = gate(folder, "--no-rerun").report["stages"][1]["problems"][0]
    assert "\x1b" not in text


def test_the_boards_own_entry_handed_in_again_is_a_duplicate(
    made: World, gate: Verify, tmp_path: Path
) -> None:
    folder = submit("replay", made.board, forgeries.METADATA, made.store, tmp_path / "again")
    said = gate(folder)
    assert (said.code, stages_that_refuse(said.report)) == (3, ["plausibility"])
    assert "is a duplicate of the board's entry 'replay'" in said.text


def test_always_the_same_class_under_every_seed_is_dull_but_honest(gate: Verify, folder: Path) -> None:
    for seed in range(forgeries.SEEDS):
        change_answers(folder, seed, lambda answer: {"classes": np.zeros(len(answer.ids), dtype=np.int64)})
    rescore(folder)
    assert gate(folder, "--no-rerun").code == 0


def test_the_same_figures_under_every_seed_are_refused_where_the_answers_differ() -> None:
    def cell(seed: int, accuracy: float) -> BoardCell:
        figures = {"accuracy": accuracy, "forgetting": 0.1, "transfer": 0.0}
        return BoardCell(
            scenario="s", seed=seed, status=Status.DONE, key=str(seed), metrics=figures, environment=0
        )

    assert list(same_figures([cell(0, 0.5), cell(1, 0.5), cell(2, 0.5)])) == [
        "s: all 3 seeds have the same figures, so nothing varies over seeds"
    ]
    assert list(same_figures([cell(0, 0.5), cell(1, 0.5), cell(2, 0.6)])) == []
    assert list(same_figures([cell(0, 0.5), cell(1, 0.5)])) == []  # two may agree by chance


# --- its source gives it away -------------------------------------------------------------------------------

SOURCES = [
    (
        "from scenarios.class_incremental.scenario import ClassIncremental",
        "imports scenarios.class_incremental.scenario.ClassIncremental, which holds or leads",
    ),
    (
        "from harness.cell.sealing import Truth",
        "imports harness.cell.sealing.Truth, which holds or leads to the truth",
    ),
    (
        "import harness.store.mlflow_store",
        "imports harness.store.mlflow_store, which holds or leads to the truth",
    ),
    (
        "from sklearn.datasets import load_digits",
        "imports sklearn.datasets.load_digits, which ships data sets with their labels",
    ),
    ("frame = np.__builtins__", "uses .__builtins__, which reaches objects of others"),
    ("self.stolen = stage._getframe().f_back.f_locals", "uses .f_locals, which reads stack frames"),
    ("getattr(np, '_getframe')", "names '_getframe', which reads stack frames"),
    ("import gc", "imports gc, which reaches objects and stack frames of others"),
    ("if self.context.backbone == 'digits': pass", "treats 'digits' as a case of its own"),
    ("known = {'class-incremental[dataset=digits]': 1}", "treats 'class-incremental' as a case of its own"),
    ("import socket", "imports socket, which opens the network"),
    ("import subprocess", "imports subprocess, which starts or signals processes"),
    ("from os import fork", "imports os.fork, which reaches files, processes and the environment"),
    ("np.save('/tmp/labels.npy', stage.labels)", r"writes a file outside its scratch folder \(save\)"),
    ("open('../notes', 'w').write('x')", r"opens a file outside its scratch folder \(open\)"),
    ("exec('pass')", "uses exec, which runs code built at run time"),
    (f"table = [{'1, ' * 500}]", "holds a table of 500 constants, which could be labels or weights"),
    (f"text = '{'x' * 5000}'", "holds a literal of 5000 characters"),
]


@pytest.mark.parametrize(("attack", "sentence"), SOURCES, ids=[attack[:40] for attack, _ in SOURCES])
def test_a_source_that_says_what_it_does_is_refused_with_the_line(
    gate: Verify, folder: Path, attack: str, sentence: str
) -> None:
    with_attack(folder, attack)
    line = next(
        number
        for number, text in enumerate((folder / "strategy.py").read_text().splitlines(), 1)
        if attack in text
    )
    said = gate(folder)
    assert (said.code, stages_that_refuse(said.report)) == (3, ["source"])
    assert any(
        re.fullmatch(f"strategy.py, line {line}: {sentence}.*", problem)
        for problem in problems_of(said.report)
    )


def test_an_honest_source_may_use_its_scratch_folder_and_presets_by_name() -> None:
    text = """
import numpy as np
import torch
from harness.contracts import Preset, Strategy
from strategies.toolkit.losses import cross_entropy

class Mine(Strategy):
    presets = {"digits": Preset(values={"lr": 0.1}, source="here")}

    def learn(self, stage):
        place = self.context.scratch / "memory.npy"
        np.save(place, stage.labels)
        arrays = {"table": np.load(place), "folder": place}
        if self.context.backbone == "mlp":
            torch.save({}, self.context.scratch / "net.pt")
"""
    assert scan(text, "strategy.py") == []


def test_every_installed_strategy_keeps_to_what_a_submission_may_import() -> None:
    """The rules are not stricter than our own methods can live with, but for what the toolkit does for them."""
    root = ROOT / "strategies"
    for name in ("replay", "fine_tune", "ewc", "lwf", "der"):
        assert scan((root / "class_incremental" / f"{name}.py").read_text(), "strategy.py") == [], name
    assert scan((root / "cgcd" / "nearest_prototype.py").read_text(), "strategy.py") == []


# --- only running it gives it away --------------------------------------------------------------------------


def test_predictions_that_the_code_does_not_give_are_found_by_running_it_again(
    gate: Verify, folder: Path
) -> None:
    """A careful forger: better predictions, and every digest, key and figure made to fit them."""
    for seed in range(forgeries.SEEDS):
        change_answers(folder, seed, forgeries.true_classes(folder, seed))
    rescore(folder)
    paper = gate(folder, "--no-rerun")
    assert (paper.code, list(problems_of(paper.report))) == (0, [])
    said = gate(folder, "--cells", "1")
    assert (said.code, stages_that_refuse(said.report)) == (3, ["re-run"])
    sentence = (
        r"average_accuracy is 1 in the submission and 0\.\d+ run again: its predictions are not "
        r"what this code and configuration give"
    )
    assert any(re.search(sentence, problem) for problem in problems_of(said.report))


def test_a_configuration_that_did_not_run_is_found_by_running_it_again(gate: Verify, folder: Path) -> None:
    """The keys are made to fit the other configuration."""
    forgeries.edit(folder / "entry.yaml", lambda entry: entry["params"].update(power=0.01))
    forgeries.rekey(folder)
    said = gate(folder, "--cells", "1")
    assert (said.code, stages_that_refuse(said.report)) == (3, ["re-run"])


def _rerun(made: World, folder: Path, seed: int = 0) -> list[str]:
    case = schema(folder, made.boards, form(folder).sound).case
    assert case is not None
    chosen = [cell for cell in case.readable if cell.seed == seed]
    return list(rerun(case, Drawn([], chosen), 1, lambda _: None))


def test_labels_read_through_an_import_of_the_scenario_are_refused_by_the_sandbox(
    gate: Verify, folder: Path
) -> None:
    """The scan of the source does not see it; in the sandbox it is told wherever the code runs."""
    with_attack(
        folder,
        lines(
            UNSEEN,
            'hidden("scenarios.class_incremental.scenario").class_incremental.scenario.ClassIncremental(stages=2).deal(0).labels',
        ),
    )
    said = gate(folder, "--cells", "1")
    assert (said.code, stages_that_refuse(said.report)) == (3, ["conformance", "re-run"])
    assert any("the strategy imports scenarios" in problem for problem in problems_of(said.report))


def test_reading_ahead_to_future_stages_finds_nothing_in_the_sandbox(gate: Verify, folder: Path) -> None:
    """Predictions made with what it would have found are not those of the code where stages come one by one."""
    with_attack(folder, lines(UNSEEN, AHEAD))
    for seed in range(forgeries.SEEDS):
        change_answers(folder, seed, forgeries.true_classes(folder, seed))
    rescore(folder)
    said = gate(folder, "--cells", "1")
    assert (said.code, stages_that_refuse(said.report)) == (3, ["re-run"])
    sentence = r"average_accuracy is 1 in the submission and 0\.\d+ run again"
    assert any(re.search(sentence, problem) for problem in problems_of(said.report))


def test_labels_known_by_heart_are_given_away_by_renaming_classes(made: World, folder: Path) -> None:
    """A table from inputs to classes in small pieces, with the predictions it gives."""
    episode = build(configured("scenario", forgeries.SCENARIO), 0).episodes[0]
    truth = forgeries.true_classes(folder, 0)
    (last,) = (answer for answer in read_answers(predictions(folder)) if answer.stage == 1)
    known = dict(zip(last.ids.tolist(), truth(last)["classes"].tolist(), strict=True))
    table = [
        (round(float((item.ravel() * np.sqrt(np.arange(1, 65))).sum()), 6), known[item_id])
        for item, item_id in zip(np.asarray(episode.query.inputs), episode.query.ids.tolist(), strict=True)
    ]
    pieces = "\n".join(f"PIECE_{at} = {dict(table[at : at + 150])}" for at in range(0, len(table), 150))
    everything = " | ".join(f"PIECE_{at}" for at in range(0, len(table), 150))
    text = (folder / "strategy.py").read_text()
    answer = f"""
        known = {everything}
        keys = [round(float((item.ravel() * np.sqrt(np.arange(1, 65))).sum()), 6) for item in query.inputs[np.arange(len(query.ids))]]
        return Prediction(classes=np.array([known.get(key, 0) for key in keys]))
"""
    head, _, _ = text.partition("        inputs = query.inputs")
    with_source(folder, f"{pieces}\n{head}{answer}")
    change_answers(folder, 0, truth)
    rescore(folder)
    assert scan((folder / "strategy.py").read_text(), "strategy.py") == []
    assert _rerun(made, folder) == []
    case = schema(folder, made.boards, form(folder).sound).case
    assert case is not None
    chosen = [cell for cell in case.readable if cell.seed == 0]
    (problem,) = by_heart(case, chosen, "a salt", lambda _: None)
    assert re.match(
        re.escape(forgeries.SCENARIO)
        + r": average_accuracy falls by 0\.\d\d or more each of 10 times with classes renamed and",
        problem,
    )


AHEAD = """
frame, ahead = getattr(hidden("s" + "ys"), "_get" + "frame")(), False
while frame is not None:
    held = getattr(frame, "f_" + "locals").values()
    ahead = ahead or any(type(thing) is tuple and len(thing) > 1 and type(thing[-1]).__name__ == "Episode" for thing in held)
    frame = getattr(frame, "f_" + "back")
self.power = 500.0 if ahead else 2.0
"""
"""Search the frames for the tuple of all stages, and learn otherwise where it is found."""

OBFUSCATED = {
    "socket": ('hidden("sock" + "et").socket()', "the strategy opens the network"),
    "fork": ('getattr(hidden("o" + "s"), "fo" + "rk")()', "the strategy starts a process"),
    "write": (
        'getattr(hidden("i" + "o"), "op" + "en")("/".join(["." * 2, "." * 2, "outside"]), "w")',
        "the strategy writes outside its scratch folder",
    ),
    "silenced": (
        lines(
            'for thing in getattr(hidden("g" + "c"), "get_" + "objects")():',
            '    if getattr(thing, "__qual" + "name__", "") == "arm.<locals>.hook":',
            '        at = getattr(getattr(thing, "__co" + "de__"), "co_free" + "vars").index("busy")',
            '        getattr(getattr(thing, "__clo" + "sure__")[at], "cell_" + "contents").append(1)',
            'hidden("sock" + "et").socket()',
        ),
        r"the strategy opens the network \(socket\)",
    ),
}


@pytest.mark.parametrize("name", OBFUSCATED)
def test_what_the_scan_does_not_see_the_sandbox_refuses(made: World, folder: Path, name: str) -> None:
    attack, sentence = OBFUSCATED[name]
    with_attack(folder, lines(UNSEEN, attack))
    assert scan((folder / "strategy.py").read_text(), "strategy.py") == []
    assert any(re.search(f"seed 0: {sentence}", problem) for problem in _rerun(made, folder))


# --- renaming classes ---------------------------------------------------------------------------------------


def test_a_learner_of_labels_answers_the_same_under_other_names() -> None:
    """Names change places within a stage only, and an answer mapped back names the class that was meant."""
    episodes = build(configured("scenario", forgeries.SCENARIO), 0).episodes
    names = new_names(episodes)
    assert names is not None
    assert names.tolist() == [4, 0, 1, 2, 3, 9, 5, 6, 7, 8]
    stage, other = episodes[1].stage, renamed(episodes[1], names).stage
    assert np.array_equal(other.labels, names[stage.labels])
    ids = np.arange(len(stage.labels))
    scores = np.eye(10, dtype=np.float32)[other.labels]
    back = mapped_back(
        StoredPrediction(stage=1, step=None, ids=ids, arrays={"classes": other.labels, "scores": scores}),
        names,
    )
    assert np.array_equal(back.arrays["classes"], stage.labels)
    assert np.array_equal(back.arrays["scores"].argmax(axis=1), stage.labels)


# --- regression of committed boards -------------------------------------------------------------------------


def test_a_board_whose_cells_come_out_as_stated_holds(made: World) -> None:
    found = regression(made.board, cells=2)
    assert found.problems == ()
    assert [len(run.seeds) for run in found.reruns] == [forgeries.SEEDS]
    assert found.text().endswith("average_accuracy as stated\n    holds")


def test_a_board_that_the_present_code_does_not_reach_is_refused(made: World, tmp_path: Path) -> None:
    board = Path(shutil.copytree(made.board, tmp_path / "tiny"))
    for entry in (board / "entries").iterdir():
        forgeries.edit(
            entry / "entry.yaml",
            lambda content: [
                cell["metrics"].update(average_accuracy=cell["metrics"]["average_accuracy"] + 0.05)
                for cell in content["cells"]
            ],
        )
    result = CliRunner().invoke(APP, ["--boards", "tiny", "--root", str(tmp_path)])
    assert result.exit_code == 3
    assert re.search(r"average_accuracy worse by 0\.0500", result.stdout)


def test_the_margin_and_the_paired_test_both_have_to_agree() -> None:
    metric = Metric(name="accuracy")
    stated = [0.80, 0.82, 0.84]
    assert verdict(stated, stated, metric) == ("accuracy as stated", False)
    assert verdict(stated, [0.79, 0.81, 0.83], metric, margin=0.02)[1] is False  # below the margin
    assert verdict(stated, [0.70, 0.83, 0.83], metric)[1] is False  # above it, but one seed alone: p = 0.45
    assert (
        verdict(stated, [0.75, 0.76, 0.80], metric)[1] is True
    )  # 5, 6 and 4 points: t = 5 / (1 / sqrt(3)) = 8.7, p = 0.013
    assert verdict(stated, [0.85, 0.87, 0.89], metric)[1] is False  # better
    assert verdict(stated, [0.85, 0.87, 0.89], Metric(name="error", better="lower"))[1] is True
    assert verdict([0.8], [0.7], metric) == ("accuracy worse by 0.1000 (one pair, no test)", True)


# --- in CI --------------------------------------------------------------------------------------------------

WORKFLOWS = ROOT / ".github" / "workflows"


def _workflow(name: str) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load((WORKFLOWS / name).read_text())
    return content


def test_the_job_that_runs_submitted_code_can_only_read_and_the_one_that_writes_checks_nothing_out() -> None:
    workflow = _workflow("leaderboard.yml")
    gate, report = workflow["jobs"]["gate"], workflow["jobs"]["report"]
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in gate
    checkouts = [step["with"] for step in gate["steps"] if "checkout" in step.get("uses", "")]
    assert all(options["persist-credentials"] is False for options in checkouts)
    assert report["permissions"] == {"actions": "read", "pull-requests": "write", "statuses": "write"}
    assert [step["uses"].partition("@")[0] for step in report["steps"]] == [
        "actions/download-artifact",
        "actions/github-script",
    ]
    assert not any("run" in step for step in report["steps"])


def test_a_pull_request_starts_the_gate_and_cannot_change_it() -> None:
    """`workflow_run` takes the workflow from the default branch; every pull request starts it, with every path."""
    on = True  # YAML 1.1 reads `on` as true
    assert _workflow("submission.yml")[on] == "pull_request"
    assert _workflow("submission.yml")["permissions"] == {}
    workflow = _workflow("leaderboard.yml")
    assert workflow[on]["workflow_run"] == {"workflows": ["submission"], "types": ["completed"]}
    base, submitted = (
        step["with"] for step in workflow["jobs"]["gate"]["steps"] if "checkout" in step.get("uses", "")
    )
    assert (base["ref"], base["path"]) == ("${{ github.sha }}", "base")
    assert submitted["ref"] == "${{ github.event.workflow_run.head_sha }}"
    for step in workflow["jobs"]["gate"]["steps"]:
        assert "${{" not in step.get("run", ""), "what a pull request says reaches no shell as text"


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    used = re.findall(r"\buses: (\S+)", path.read_text())
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action) for action in used)


@pytest.mark.parametrize(
    ("changed", "some"),
    [
        ("submissions/mine/entry.yaml", "true"),
        ("leaderboards/boards/ncd/entries/mine/entry.yaml", "true"),
        ("leaderboards/suites/ncd.yaml", "true"),
        ("README.md", "false"),
    ],
)
def test_the_step_that_looks_at_paths_knows_submissions_boards_and_suites(
    changed: str, some: str, tmp_path: Path
) -> None:
    """The very lines of the workflow, over two repositories."""

    def git(*words: str, at: Path) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        done = subprocess.run(
            ["git", "-C", str(at), *who, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    base, submitted = tmp_path / "base", tmp_path / "submitted"
    base.mkdir()
    git("init", "-q", at=base)
    git("commit", "-q", "--allow-empty", "-m", "x", at=base)
    git("clone", "-q", str(base), str(submitted), at=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "later", at=base)
    path = submitted / changed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    git("add", "-A", at=submitted)
    git("commit", "-q", "-m", "y", at=submitted)
    (step,) = (
        step for step in _workflow("leaderboard.yml")["jobs"]["gate"]["steps"] if step.get("id") == "touched"
    )
    told = {
        **os.environ,
        "BASE": git("rev-parse", "HEAD", at=base),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }
    subprocess.run(["bash", "-e", "-c", step["run"]], env=told, cwd=tmp_path, check=True)
    assert (tmp_path / "output").read_text() == f"some={some}\n"


def test_a_machine_without_walls_is_named_and_a_strict_gate_judges_nothing_there(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "walls_here", lambda: launch.Walls(namespaces=False, filtered=False))
    kept = sandbox.lacking()
    assert ["namespaces" in kept[0], "filter" in kept[1]] == [True, True]
    folder = str(made.submissions["first"])
    strict = CliRunner().invoke(APP, [folder, "--root", str(made.boards), "--strict"])
    assert str(strict.exception) == f"nothing is judged here: {'; '.join(kept)}"
    assert strict.stdout == ""


def test_the_report_for_people_is_made_from_the_one_for_machines(made: World, gate: Verify) -> None:
    report = examine(made.submissions["first"], made.boards, rerun=False)
    assert text_of(gate(made.submissions["first"], "--no-rerun").report) == report.text()


def test_the_world_is_sound(made: World) -> None:
    assert check_board(made.board) == []
    assert [entry.label for entry in read_board(made.board).entries] == sorted(forgeries.RIVALS)
    report = examine(made.submissions["first"], made.boards, rerun=False)
    assert report.text().endswith(
        "Passed: nothing to object to, but not looked at: conformance, re-run, statistics."
    )
