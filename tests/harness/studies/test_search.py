"""Searches: settings are tried under seeds that no board reports, by figures that a judge gives; a search
that ends early goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import BLOBS, Owb, world
from search_worlds import HERE
from worlds import Means

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.cli.searching import chosen_of, how_chosen, show_report
from harness.contracts import Prediction, Query
from harness.errors import UserError
from harness.execution.machine import Machine
from harness.protocol import fingerprint
from harness.protocol.cells import Cell, HowSelected, Suite, contenders, protocols, read_suite
from harness.selection import configured
from harness.store.mlflow_store import Store
from harness.studies.search.lock import locked
from harness.studies.search.proposers import asha, default_of, drawn
from harness.studies.search.search import FIRST_SEED, Search, wanted
from harness.studies.search.trial_worker import Looks, watched
from harness.studies.search.trials import Chosen, Trial, best_first, read_trials, write_trials
from harness.studies.search.tune_runner import run, still_to_try
from harness.studies.space import read_space
from leaderboards.publishing.board import read_board
from leaderboards.publishing.publish import publish
from leaderboards.publishing.readme import page
from leaderboards.site.pages import files_of
from leaderboards.site.report import report_of_board

KNOB = f"{HERE}:Knob"
ONE_STAGE = f"{HERE}:Chosen[stages=1,items=25]"
TWO_STAGES = f"{HERE}:Chosen[stages=2,items=25,epochs=2]"
Try = Callable[..., Chosen]


def _search(
    space: str = f"{KNOB}[x=0..1]", scenario: str = TWO_STAGES, *, method: str = "random", **options: Any
) -> Search:
    return wanted(read_space("strategy", space), scenario, method=method, trials=1, **options)


@pytest.fixture
def tried(tmp_path: Path, warm_ray: None) -> Try:
    """Return a function that searches in a folder of the test; the trials are told one by one to `told`."""

    def search(
        asked: Search, trials: int, *, workers: int = 1, told: list[Trial] | None = None, **limits: float
    ) -> Chosen:
        heard = told if told is not None else []
        return run(
            asked,
            trials,
            tmp_path / "searches",
            machine=Machine(workers=workers),
            listen=heard.append,
            **limits,
        )  # type: ignore[arg-type]

    return search


def _plain(trials: Any) -> list[dict[str, Any]]:
    """Return trials without their times."""
    return [json.loads(json.dumps({**asdict(trial), "seconds": 0})) for trial in trials]


# --- what is asked ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"scenario": BLOBS},
            "declares nothing to choose settings on but its test, and no setting is chosen by that",
        ),
        ({"scenario": "anomaly"}, "anomaly declares nothing to choose settings on"),
        (
            {"criterion": "accuracy"},
            "accuracy is counted on test items of .*, and no setting is chosen by those",
        ),
        (
            {"criterion": "held_out_acuracy"},
            "unknown criterion 'held_out_acuracy'; did you mean 'held_out_accuracy'?",
        ),
        ({"method": "grid"}, "unknown search method 'grid'"),
        ({"space": KNOB}, "has nothing to search"),
        ({"space": f"{KNOB}[x=0.5]"}, "has nothing to search"),
        ({"scenario": "class-incremental[stages=[2,5]]"}, "stands for 2 scenarios"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_sentence(changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")) as caught:
        _search(**changes)
    assert "\n" not in str(caught.value)


def test_more_trials_than_settings_are_refused() -> None:
    with pytest.raises(UserError, match="has 2 settings"):
        wanted(read_space("strategy", f"{KNOB}[side=[left,right]]"), TWO_STAGES, method="optuna", trials=3)


def test_a_scenario_has_no_settings_to_choose() -> None:
    with pytest.raises(
        UserError, match="chooses settings of a strategy, and class-incremental is a scenario"
    ):
        wanted(
            read_space("scenario", "class-incremental[stages=[2,5]]"), TWO_STAGES, method="random", trials=1
        )


def test_seeds_of_trials_are_none_that_a_board_reports() -> None:
    most = Suite.model_fields["seeds"].metadata
    assert [rule.le for rule in most if hasattr(rule, "le")] == [FIRST_SEED]  # seeds count from 0
    assert _search(n_seeds=3).seeds == (1000, 1001, 1002)


def test_a_search_is_named_by_what_is_asked_and_not_by_how_many() -> None:
    keys = {
        _search().key,
        _search(method="asha").key,
        _search(f"{KNOB}[x=0..0.5]").key,
        _search(scenario=ONE_STAGE).key,
        _search(criterion="final_held_out_accuracy").key,
        _search(n_seeds=1).key,
    }
    assert len(keys) == 6
    assert _search(criterion="held_out_accuracy").key == _search().key


@pytest.mark.parametrize(
    ("scenario", "looks"),
    [
        (TWO_STAGES, Looks(per_seed=2, every_stage=True)),
        (f"{ONE_STAGE[:-1]},epochs=7]", Looks(per_seed=7, epochs=1)),
        (f"{ONE_STAGE[:-1]},epochs=25]", Looks(per_seed=13, epochs=2)),  # 2, 4 .. 24, and the end
        (f"{ONE_STAGE[:-1]},epochs=1]", Looks(per_seed=1, epochs=1)),
        (
            "grokking[modulus=11,backbone=quadratic[width=8],steps=45]",
            Looks(per_seed=12, steps=4),
        ),  # 4, 8 .. 44, and the end
    ],
)
def test_trials_that_may_be_stopped_are_looked_at_in_between(scenario: str, looks: Looks) -> None:
    assert _search(scenario=scenario, method="asha").looks == looks
    assert _search(scenario=scenario).looks == Looks()


def test_more_settings_begin_with_those_that_fewer_were() -> None:
    space = read_space("strategy", f"{KNOB}[x=0..1,side=[left,right]]")
    assert drawn(space, 9)[:4] == drawn(space, 4)
    assert len({repr(setting) for setting in drawn(space, 9)}) == 9
    assert len(drawn(read_space("strategy", f"{KNOB}[side=[left,right]]"), 5)) == 2


def test_the_default_is_tried_first_where_it_lies_in_the_space() -> None:
    def first(text: str) -> Any:
        space = read_space("strategy", text)
        return default_of(space), drawn(space, 3)[0] == default_of(space)

    assert first(f"{KNOB}[x=0..1,side=[left,right]]") == ({"x": 0.5, "side": "left"}, True)
    assert first(f"{KNOB}[x=0..0.4]") == (None, False)
    assert first(f"{KNOB}[side=[right,left],x=0.1]") == ({"side": "left"}, True)
    assert first("elr[preset=[cifar10,cifar100],lr=0.01..1]")[0] is None


# --- what is remembered -------------------------------------------------------------------------------------


def _trial(index: int, status: str = "done", figure: float | None = 0.5, looks: Any = ()) -> Trial:
    return Trial(
        index=index,
        label=f"s{index}",
        values={"x": 0.1},
        drawn={"x": 0.1000001},
        status=status,
        figure=figure,  # type: ignore[arg-type]
        figures=[0.4, 0.6],
        looks=looks,
    )


def test_trials_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    trials = [_trial(1, looks=[(1, 0.25), (2, 0.1 + 0.2)]), _trial(0, "failed", None)]
    write_trials(tmp_path, trials)
    assert list(read_trials(tmp_path)) == [0, 1]
    assert _plain(read_trials(tmp_path).values()) == _plain([trials[1], trials[0]])
    assert read_trials(tmp_path)[1].looks == [(1, 0.25), (2, 0.30000000000000004)]
    (tmp_path / "trials.jsonl").write_text('{"index": 1}\n')
    with pytest.raises(UserError, match="cannot read the trials"):
        read_trials(tmp_path)


def test_of_equal_trials_the_earlier_is_chosen_and_stopped_ones_never_are() -> None:
    """A stopped trial's figure is of part of the way, so it stands behind every whole one, however high it
    is.
    """
    trials = [
        _trial(0, "failed", None),
        _trial(1, "stopped", 0.9, [(1, 0.9)]),
        _trial(2, "stopped", 0.1, [(3, 0.1)]),
        _trial(3),
        _trial(4),
        _trial(5, figure=0.4),
    ]
    assert [trial.index for trial in best_first(trials, "higher")] == [3, 4, 5, 2, 1, 0]
    assert [trial.index for trial in best_first(trials, "lower")] == [5, 3, 4, 2, 1, 0]


def test_asha_remembers_the_rungs_of_earlier_trials() -> None:
    """A rung at look 1 holds 0.9, 0.8 and 0.7; of four trials the best third goes on, which is above the
    percentile 66.7 of these: 0.83.
    """
    from types import SimpleNamespace

    earlier = [_trial(index, looks=[(1, figure)]) for index, figure in enumerate([0.9, 0.8, 0.7])]
    for figure, verdict in [(0.84, "CONTINUE"), (0.82, "STOP")]:
        scheduler = asha("max", 9, earlier)
        fresh = SimpleNamespace(trial_id="new")
        scheduler.on_trial_add(None, fresh)
        assert scheduler.on_trial_result(None, fresh, {"looks": 1, "figure": figure}) == verdict


# --- what is tried ------------------------------------------------------------------------------------------


def _alone(asked: Search, label: str, folder: Path) -> list[float]:
    """Return what a setting comes to under every seed as a cell of its own, in this process and without
    looks.
    """
    figures = []
    for seed in asked.seeds:
        scenario, sealed = asked.choosing.scenario, build(asked.choosing.scenario, seed)
        settings = CellSettings(root_seed=learner_seed(seed), budget=scenario.budget())
        results = list(run_cell(configured("strategy", label), sealed.episodes, settings, scratch=folder))
        figures.append(
            scenario.score(sealed.truth, [result.answers[-1] for result in results]).final[
                asked.criterion.name
            ]
        )
    return figures


def test_random_trials_are_the_same_one_by_one_or_two_at_a_time_and_the_best_is_chosen(
    tried: Try, tmp_path: Path
) -> None:
    """Nearest means are right on all of these blobs, so a setting x has 1 - |x - 0.3|, up to the rounding of
    a share of the items.
    """
    asked = _search(f"{KNOB}[x=0..1,side=[left,right]]")
    told: list[Trial] = []
    few = tried(asked, 3, told=told)
    assert [trial.index for trial in told] == [0, 1, 2]
    assert still_to_try(asked, 6, tmp_path / "searches") == 3
    more = tried(asked, 6, told=told, workers=2)
    assert sorted(trial.index for trial in told) == [0, 1, 2, 3, 4, 5]  # none twice
    assert [trial.drawn for trial in more.trials] == drawn(asked.space, 6)
    assert _plain(more.trials[:3]) == _plain(few.trials)
    assert _plain(tried(asked, 3, told=told).trials) == _plain(few.trials)
    assert len(told) == 6
    assert all(list(trial.figures) == _alone(asked, trial.label, tmp_path) for trial in more.trials)
    assert all(trial.figure == np.mean(trial.figures) for trial in more.trials)
    distance = {trial.label: abs(trial.values["x"] - 0.3) for trial in more.trials}
    assert more.selection == min(distance, key=lambda label: distance[label])
    assert more.figure == pytest.approx(1 - distance[more.selection], abs=0.06)
    assert (more.run, more.stopped, more.failed, more.seeds) == (6, 0, 0, (1000, 1001))
    assert sorted(path.name for path in (tmp_path / "searches" / asked.key).iterdir()) == [
        "run.lock",
        "trials.jsonl",
    ]


def test_two_searches_of_one_question_do_not_write_to_one_folder(tmp_path: Path) -> None:
    asked = _search()
    with locked(tmp_path / asked.key), pytest.raises(UserError, match="another search of the same question"):
        run(asked, 1, tmp_path, machine=Machine())


def test_optuna_continues_as_if_it_had_never_ended(tried: Try, tmp_path: Path) -> None:
    """Ten trials, the last two of which the estimator proposes, at once or in two calls; a killed one loses
    the trial in flight.
    """
    asked = _search(method="optuna", n_seeds=1)
    whole = tried(asked, 10)
    own = tmp_path / "searches" / asked.key / "trials.jsonl"
    lines = own.read_text().splitlines()
    own.write_text("".join(f"{line}\n" for line in lines[:9]))
    told: list[Trial] = []
    again = tried(asked, 10, told=told)
    assert [trial.index for trial in told] == [9]
    assert _plain(again.trials) == _plain(whole.trials)
    assert all(
        0.0 <= trial.values["x"] <= 1.0 and trial.values["x"] == float(f"{trial.values['x']:.4g}")
        for trial in whole.trials
    )
    assert any(trial.values != trial.drawn for trial in whole.trials)
    assert (whole.trials[0].label, whole.trials[0].values) == (KNOB, {"x": 0.5})  # the default


def test_a_setting_that_is_proposed_again_is_not_learned_again(tried: Try) -> None:
    """Two choices and one that fails: the estimator has nothing else to propose than what it has tried."""
    asked = replace(_search(f"{KNOB}[side=[left,right]]", method="optuna", n_seeds=1))
    chosen = tried(asked, 5)
    repeats = [trial for trial in chosen.trials if trial.repeats is not None]
    assert len(repeats) == 3
    for trial in repeats:
        first = chosen.trials[trial.repeats or 0]
        assert (trial.label, trial.figure, trial.figures, trial.seconds) == (
            first.label,
            first.figure,
            first.figures,
            0.0,
        )


def test_asha_stops_what_is_behind(tried: Try, tmp_path: Path) -> None:
    """One stage of ten epochs: the first look is at 0.82 - |x - 0.3|; the first trial always goes on, later
    ones if they are in the top third of those seen at a rung.
    """
    asked = _search(scenario=f"{ONE_STAGE[:-1]},epochs=10]", method="asha")
    assert asked.looks.per_seed == 10
    chosen = tried(asked, 8)
    first = chosen.trials[0]
    assert first.status == "done"
    assert [look for look, _ in first.looks] == list(range(1, 21))
    assert first.looks[0][1] == pytest.approx(0.82 - abs(first.values["x"] - 0.3), abs=0.11)
    assert first.looks[-1][1] == first.figure == np.mean(first.figures)
    assert list(first.figures) == _alone(asked, first.label, tmp_path)
    stopped = [trial for trial in chosen.trials if trial.status == "stopped"]
    assert len(stopped) == chosen.stopped > 0
    for trial in stopped:
        earlier = [other.looks for other in chosen.trials if other.index < trial.index]
        look, figure = trial.looks[-1]
        seen = [dict(looks)[look] for looks in earlier if look in dict(looks)]
        assert look in (1, 3, 9)
        assert figure < np.percentile(seen, 200 / 3)


def test_whatever_happens_is_a_trial_with_a_reason(tried: Try) -> None:
    ways = ["well", "diverged", "raises", "unsuitable", "hangs", "dies", "looks for the truth"]
    chosen = tried(_search(f"{HERE}:Fate[way=[{','.join([*ways, 'well'])}]]"), len(ways), timeout_s=6.0)
    ended = {trial.values["way"]: (trial.status, trial.reason) for trial in chosen.trials}
    (line,) = (
        number
        for number, text in enumerate(Path(HERE).read_text().splitlines(), 1)
        if "does not add up" in text
    )
    assert ended == {
        "well": ("done", ""),
        "looks for the truth": ("done", ""),
        "diverged": ("diverged", "the loss is not finite"),
        "raises": ("failed", f"ValueError: it does not add up (search_worlds.py:{line})"),
        "unsuitable": ("skipped", "it wants pictures"),
        "hangs": ("timeout", "over its time limit of 6 s"),
        "dies": ("failed", "its process ended with exit code 3"),
    }
    assert (chosen.run, chosen.stopped, chosen.failed) == (7, 0, 5)


def test_where_nothing_ends_well_nothing_is_chosen(tried: Try, tmp_path: Path) -> None:
    asked = _search(f"{HERE}:Fate[way=[diverged,raises]]")
    (tmp_path / "searches" / asked.key).mkdir(parents=True)
    write_trials(
        tmp_path / "searches" / asked.key,
        [replace(_trial(index, "diverged", None), reason="too far") for index in (0, 1)],
    )
    with pytest.raises(
        UserError, match=r"none of 2 trials ran to the end, so nothing is chosen \(diverged: too far\)"
    ):
        tried(asked, 2)


def test_looking_in_between_changes_nothing(tmp_path: Path) -> None:
    """A learner that is looked at tells of its answers in mid-stage alone, and answers the same in the end."""
    scenario = configured("scenario", f"held-out[of={ONE_STAGE}]")
    (episode,) = build(scenario, 1000).episodes
    seen: list[Prediction] = []
    probed = replace(scenario.budget(), probe_epochs=3)
    settings = CellSettings(root_seed=learner_seed(1000), budget=probed)
    cls = configured("strategy", KNOB).__class__

    def hear(query: Query, prediction: Prediction) -> None:
        seen.append(prediction)

    (looked,) = run_cell(watched(cls, hear)(), [episode], settings, scratch=tmp_path)
    (alone,) = run_cell(cls(), [episode], settings, scratch=tmp_path)
    assert len(seen) == 3  # epochs 3, 6 and 9 of 10
    assert [answer.step for answer in looked.answers] == [3, 6, 9, None]
    for one, other in zip(looked.answers, alone.answers, strict=True):
        assert fingerprint.of_arrays(dict(one.arrays)) == fingerprint.of_arrays(dict(other.arrays))
    assert issubclass(watched(Means, hear), Means)


# --- the command line, and what a board says ----------------------------------------------------------------


def test_the_command_chooses_runs_and_keeps_how(call_owb: Owb, tmp_path: Path, warm_ray: None) -> None:
    words = [
        "sweep",
        f"{KNOB}[x=0..1]",
        "-s",
        TWO_STAGES,
        "--search",
        "random",
        "--trials",
        "3",
        "--seeds",
        "2",
        "--workers",
        "1",
        "--store",
        str(tmp_path),
        "--name",
        "mine",
    ]
    planned = call_owb(*words, "--plan", "--json").json
    assert [
        (row["trials"], row["trials_to_run"], row["trial_cells"], row["test_cells"]) for row in planned
    ] == [(3, 3, 6, 8)]
    assert not (tmp_path / "searches").exists()
    (found,) = call_owb(*words, "--json").json["searches"]
    chosen = chosen_of(found)
    assert chosen.run == 3
    (ranking,) = found["rankings"]
    assert {row["strategy"] for row in ranking["rows"]} == {chosen.selection, KNOB, "fine-tune", "joint"}
    assert found["suite"]["chosen"] == {chosen.selection: how_chosen(chosen).model_dump(mode="json")}
    assert call_owb(*words, "--plan", "--json").json[0]["trials_to_run"] == 0
    said = call_owb("show", "mine", "--store", str(tmp_path))
    assert f"chosen: {chosen.selection}" in said.out
    assert "no test item among them" in said.out
    assert f"{chosen.selection} and {KNOB}" in said.out
    assert (
        call_owb("show", "mine", "--store", str(tmp_path), "--json").json["searches"][0]["chosen"][
            "selection"
        ]
        == chosen.selection
    )


def test_a_criterion_on_the_test_is_refused_by_the_command(call_owb: Owb, tmp_path: Path) -> None:
    said = call_owb("sweep", f"{KNOB}[x=0..1]", "-s", BLOBS, "--search", "asha", "--store", str(tmp_path))
    assert said.code == 2
    assert "declares nothing to choose settings on but its test" in said.err
    assert "Traceback" not in said.err


def test_a_board_says_how_an_entry_was_chosen(tiny_run: Any, tmp_path: Path) -> None:
    how = HowSelected(
        method="asha",
        trials=40,
        criterion="held-out accuracy on held-out[of=blobs]",
        space="ewc[lr=log:0.01..1]",
        seeds=(1000,),
    )
    assert {record.status for record in tiny_run([world("Means")], seeds=2)} == {"done"}
    label = world("Means")
    suite = Suite(name="mine", scenarios=(BLOBS,), strategies=(label,), seeds=2, chosen={label: how})
    todo = [
        Cell(protocol=protocol, contender=contender, seed=seed)
        for protocol in protocols([BLOBS])
        for seed in range(2)
        for contender in contenders(suite.strategies)
    ]
    board = read_board(publish("mine", suite, todo, Store(str(tmp_path / "store")), tmp_path))
    assert board.header.suite == suite
    assert read_suite(tmp_path / "mine" / "protocol.yaml") == suite
    sentence = "chosen among 40 trials (asha) by held-out accuracy on held-out[of=blobs]; space"
    assert f"- `{label}`: {sentence} `ewc[lr=log:0.01..1]`." in page(board)
    assert sentence in files_of(report_of_board(tmp_path / "mine"))["index.html"]


def test_a_suite_without_choices_is_written_as_before() -> None:
    suite = Suite(scenarios=("a",), strategies=("b",))
    assert "chosen" not in suite.model_dump(mode="json")


def test_a_chosen_default_is_compared_with_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = Chosen(
        selection="replay",
        figure=0.5,
        run=1,
        stopped=0,
        failed=0,
        method="random",
        space="replay[memory=[200,50]]",
        criterion="held_out_accuracy",
        better="higher",
        choosing="held-out",
        choosing_hash="",
        seeds=(1000, 1001),
        trials=[_trial(0)],
    )
    show_report({"scenario": "class-incremental", "default": "replay", "chosen": asdict(chosen)}, [])
    assert "against default" not in capsys.readouterr().out
