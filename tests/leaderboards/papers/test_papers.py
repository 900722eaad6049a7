"""Published tables as presets: their figures are those of the tables, everything they name exists, and each
can be planned and tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import anomaly_formats
import disk_formats as formats
import numpy as np
import pytest
import yaml
from checkout import ROOT
from runs import BLOBS, Owb, Run, world

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.checks.scenarios import check_scenario
from harness.cli.cost import measured
from harness.errors import UserError
from harness.execution.cost import cost_of
from harness.networks import maker
from harness.plugins import registered
from harness.protocol.cells import Cell, Suite, cells, contenders, protocols
from harness.selection import configured, single
from harness.store.mlflow_store import Store
from leaderboards.papers import beside, page
from leaderboards.papers import preset as presets
from leaderboards.papers.preset import Paper, Row, StandIn, names, preset, read, tried, without_weights
from scenarios.shared.smoke import Smoke, first_of_each

NAMES = names()
needs_smoke = pytest.mark.skipif(
    "smoke" not in registered("scenario"), reason="the scenario smoke is not installed"
)

SMALL: Mapping[str, Mapping[str, Any]] = {
    **{name: {"dataset": f"{name}[resize=24,crop=0]"} for name in ("cub", "cars", "aircraft")},
    "imagenet": {"dataset": "imagenet[subset=drawn100-0,resize=24,crop=0]"},
    "clothing1m": {
        "over": "class-incremental[dataset=clothing1m[validation=true,per_class=1,resize=24,crop=0],stages=1,"
        "class_order=natural,test_fraction=0]"
    },
    **{name: {"resize": 56, "crop": 0, "resolution": 32} for name in ("mvtec", "visa", "realiad")},
}
"""Pictures as small as the tests need them."""


def _figures(name: str) -> dict[tuple[int, str], float]:
    return {
        (row.scenario, metric): value
        for row in preset(name).published
        for metric, value in row.figures.items()
    }


# --- what they say ------------------------------------------------------------------------------------------


def test_there_is_a_preset_for_every_published_table() -> None:
    kinds = {
        "happy": [
            "aircraft",
            "cars",
            "cifar100",
            "cifar100-10",
            "cub",
            "imagenet100",
            "tinyimagenet",
            "tinyimagenet-10",
        ],
        "cr-kd": ["aircraft", "cars", "cifar100-20", "cifar100-50", "cub"],
        "elr": ["cifar10", "cifar10-asymmetric", "cifar100", "cifar100-asymmetric", "clothing1m"],
        "elr-plus": ["cifar10", "cifar10-asymmetric", "cifar100", "clothing1m"],
        "nested-co-teaching": ["animal10n", "cifar10", "cifar100", "clothing1m"],
        "inp-former": ["mvtec", "realiad", "visa"],
    }
    assert sorted(NAMES) == sorted(f"paper/{kind}-{data}" for kind, sets in kinds.items() for data in sets)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_names_what_there_is(name: str) -> None:
    paper = preset(name)
    assert paper.suite.name == name.replace("/", "-")
    assert sum(row.cell != "" for row in paper.published) == len(paper.published)
    for text in paper.suite.strategies:
        configured("strategy", text)
    for text in without_weights(paper).scenarios:
        scenario = configured("scenario", text)
        maker("encoder" if scenario.frozen_encoder else "backbone", scenario.budget().backbone)
        assert paper.data in str(scenario.model_dump())
    for row in paper.published:
        metrics = {
            metric.name for metric in configured("scenario", paper.suite.scenarios[row.scenario]).metrics
        }
        assert {*row.figures} <= metrics
    if paper.weights:
        backbone = single(str(single(paper.suite.scenarios[0]).params["backbone"]))
        assert backbone.name in ("dino", single(paper.weights.drawn).name)
        assert backbone.params["weights"] == f"weights/{paper.weights.file}"
        assert "weights" not in without_weights(paper).scenarios[0]


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        # Happy, Table 1 (S0, S5), Table 5 row g, Table 3
        (
            "happy-cifar100",
            {
                "first": 90.36,
                "last_all": 59.99,
                "last_old": 60.96,
                "last_new": 51.30,
                "mean_all": 69.00,
                "mean_old": 71.82,
                "mean_new": 51.36,
                "forgetting_initial": 11.22,
            },
        ),
        ("happy-tinyimagenet", {"first": 85.86, "last_all": 54.56, "forgetting_initial": 9.75}),
        ("happy-cub", {"first": 90.26, "last_new": 49.52, "mean_all": 68.88}),
        ("happy-imagenet100", {"first": 96.20, "last_old": 79.11}),
        # Happy, Table 11; Tables 9 and 10
        ("happy-cars", {"mean_all": 62.79, "mean_old": 63.68, "mean_new": 57.34}),
        ("happy-aircraft", {"mean_all": 53.10, "mean_old": 53.81, "mean_new": 48.71}),
        ("happy-cifar100-10", {"last_all": 57.81}),
        ("happy-tinyimagenet-10", {"last_all": 50.69}),
        # Cr-KD, task-aware on novel training images
        ("cr-kd-cifar100-20", {"novel_train": 91.2}),
        ("cr-kd-cifar100-50", {"novel_train": 65.3}),
        ("cr-kd-cars", {"novel_train": 53.5}),
        ("cr-kd-cub", {"novel_train": 65.7}),
        ("cr-kd-aircraft", {"novel_train": 55.8}),
        # Clothing1M and ANIMAL-10N
        ("elr-clothing1m", {"chosen_accuracy": 72.9}),
        ("elr-plus-clothing1m", {"chosen_accuracy": 74.8}),
        ("nested-co-teaching-clothing1m", {"chosen_accuracy": 74.9}),
        ("nested-co-teaching-animal10n", {"chosen_accuracy": 84.1}),
        # INP-Former, Table 2
        (
            "inp-former-mvtec",
            {
                "image_auroc": 99.7,
                "image_ap": 99.9,
                "image_f1_max": 99.2,
                "pixel_auroc": 98.5,
                "pixel_ap": 71.0,
                "pixel_f1_max": 69.7,
                "aupro": 94.9,
            },
        ),
        ("inp-former-visa", {"image_auroc": 98.9, "pixel_ap": 51.2, "aupro": 94.4}),
        ("inp-former-realiad", {"image_auroc": 90.5, "image_f1_max": 81.5, "pixel_ap": 47.5, "aupro": 95.0}),
    ],
)
def test_figures_are_those_of_the_tables(name: str, figures: dict[str, float]) -> None:
    found = {metric: value for (_, metric), value in _figures(f"paper/{name}").items()}
    assert {metric: found[metric] for metric in figures} == figures


@pytest.mark.parametrize(
    ("name", "metric", "figures"),
    [
        # README of ELR/, cosine annealing, symmetric 20 to 80 %; asymmetric 40 %; then by its step schedule,
        # where its milestones are known
        ("elr-cifar10", "chosen_accuracy", [91.12, 91.43, 88.87, 80.69]),
        ("elr-cifar10-asymmetric", "chosen_accuracy", [90.35, 90.12]),
        ("elr-cifar100", "chosen_accuracy", [74.68, 68.43, 60.05, 30.27, 74.21, 68.28, 59.28, 29.78]),
        ("elr-cifar100-asymmetric", "chosen_accuracy", [73.96, 73.71]),
        # ELR+, peak accuracy, symmetric 20, 50, 80 and 90 %; asymmetric 40 %
        ("elr-plus-cifar10", "best_accuracy", [95.8, 94.8, 93.3, 78.7]),
        ("elr-plus-cifar10-asymmetric", "best_accuracy", [93.0]),
        ("elr-plus-cifar100", "best_accuracy", [77.6, 73.6, 60.8, 33.4]),
        # nested co-teaching, project page: symmetric 20, 50, 80 and 90 %, then asymmetric 40 %; then with
        # dropout in the place of nested
        (
            "nested-co-teaching-cifar10",
            "chosen_accuracy",
            [95.3, 91.9, 78.8, 55.0, 93.0, 95.0, 90.2, 78.8, 56.0, 92.9],
        ),
        ("nested-co-teaching-cifar100", "chosen_accuracy", [77.5, 66.7, 43.0, 14.2, 76.7, 67.0, 44.1, 18.4]),
    ],
)
def test_rates_of_noise_stand_beside_their_figures(name: str, metric: str, figures: list[float]) -> None:
    paper = preset(f"paper/{name}")
    rows = sorted(
        (row for row in paper.published if metric in row.figures),
        key=lambda row: (row.strategy, row.scenario),
    )
    places = [(row.strategy, row.scenario) for row in rows]
    assert [row.figures[metric] for row in rows] == figures
    assert places == [
        (method, rate)
        for method in range(len(paper.suite.strategies))
        for rate in range(len(paper.suite.scenarios))
    ]
    for row in paper.published:
        kind, per_cent = row.case.split()[:2]
        scenario = configured("scenario", paper.suite.scenarios[row.scenario])
        noise = configured_noise(scenario.noise)
        classes = 10 if paper.data == "cifar10" else 100
        keeps_none = "nested" in name or kind == "asymmetric"
        assert noise["rate"] == pytest.approx(
            int(per_cent) / 100 * (1 if keeps_none else (classes - 1) / classes)
        )
        assert noise.get("include_self", False) is not keeps_none


def configured_noise(text: str) -> dict[str, Any]:
    return {**single(text).params}


def test_derived_means_follow_from_the_stages_of_the_tables() -> None:
    """Happy, Table 1 (ImageNet-100, TinyImageNet; All, Old, New of S1 to S5) and Tables 9 and 10 (All of S1
    to S10).
    """
    stages = {
        "happy-imagenet100": {
            "mean_all": [91.20, 87.83, 85.22, 81.93, 78.58],
            "mean_old": [95.36, 90.83, 86.40, 83.00, 79.11],
            "mean_new": [70.40, 69.80, 77.00, 73.40, 73.80],
        },
        "happy-tinyimagenet": {
            "mean_all": [78.85, 71.34, 64.68, 58.49, 54.56],
            "mean_old": [82.40, 76.18, 68.70, 60.64, 56.66],
            "mean_new": [61.10, 42.30, 36.50, 41.30, 35.70],
        },
        "happy-cifar100": {
            "mean_all": [80.40, 74.13, 68.23, 62.26, 59.99],
            "mean_old": [85.26, 78.27, 70.86, 63.75, 60.96],
            "mean_new": [56.10, 49.30, 49.80, 50.30, 51.30],
        },
        "happy-cifar100-10": {
            "mean_all": [85.62, 81.88, 79.82, 74.01, 71.81, 68.46, 64.05, 62.14, 61.38, 57.81]
        },
        "happy-tinyimagenet-10": {
            "mean_all": [80.75, 76.92, 73.34, 69.77, 66.33, 62.75, 57.56, 54.73, 53.02, 50.69]
        },
    }
    for name, each in stages.items():
        for metric, values in each.items():
            assert _figures(f"paper/{name}")[0, metric] == pytest.approx(fmean(values), abs=0.0051)


def test_what_is_not_read_in_a_paper_is_marked() -> None:
    marks = {name: {row.certainty for row in preset(name).published} for name in NAMES}
    assert all(found == {"note"} for name, found in marks.items() if "cr-kd" in name)
    assert all("recalled" in found for name, found in marks.items() if "elr-plus-cifar" in name)
    assert marks["paper/happy-imagenet100"] == {"paper", "derived"}
    assert marks["paper/elr-clothing1m"] == {"page"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"published": [{"scenario": 3, "cell": "x", "certainty": "paper", "figures": {"a": 1}}]},
            "which the suite has not",
        ),
        (
            {"published": [{"cell": "x", "certainty": "paper", "figures": {"a": 1}, "tolerance": {"b": 1}}]},
            "has no figure b",
        ),
        (
            {"published": [{"cell": "x", "certainty": "guessed", "figures": {"a": 1}}]},
            "published.0.certainty",
        ),
        ({"stray": 1}, "stray: extra inputs"),
    ],
)
def test_a_file_that_is_no_preset_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = yaml.safe_load((presets.FOLDER / "happy-cub.yaml").read_text())
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(UserError, match=message):
        read(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("title: [")
    with pytest.raises(UserError, match="is not YAML"):
        read(tmp_path / "bad.yaml")


def test_the_documentation_claims_what_the_files_say() -> None:
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert page.table() in text
    for weights in {preset(name).weights for name in NAMES} - {None}:
        assert weights.file in text


# --- on tiny sets in their true formats ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write every data set that a preset names, as small as its classes allow, and say where they are."""
    root = tmp_path_factory.mktemp("disk")
    formats.cifar10(root, each=8)
    formats.cifar100(root, train=60, test=1)
    formats.tinyimagenet(root, train=2)
    formats.cub(root, classes=200)
    formats.cars(root, classes=196)
    formats.aircraft(root, variants=[f"variant {n}" for n in range(100)])
    formats.animal10n(root, train=20)
    formats.clothing1m(root)
    formats.imagenet(
        root / "imagenet", labels=np.random.RandomState(0).choice(1000, 100, replace=False).tolist()
    )
    for part in ("train", "val"):
        for wnid in formats.WNIDS:
            (root / "imagenet" / part / wnid).mkdir(exist_ok=True)
    anomaly_formats.mvtec(root)
    anomaly_formats.visa(root)
    anomaly_formats.realiad(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OWB_DATA", str(root))
        patch.setenv("OWB_CACHE", str(root / "cache"))
        yield root


def _small(paper: Paper) -> Paper:
    stand_in = StandIn(
        **{**paper.smoke.model_dump(), "scenario": {**paper.smoke.scenario, **SMALL.get(paper.data, {})}}
    )
    return paper.model_copy(update={"smoke": stand_in})


@needs_smoke
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_can_be_planned_and_its_cost_told(name: str, disk: Path) -> None:
    paper = _small(preset(name))
    suite = without_weights(paper)
    told = {**single(suite.scenarios[0]).params, **paper.smoke.scenario}
    scenario = (
        f"{single(suite.scenarios[0]).name}[{','.join(f'{key}={value}' for key, value in told.items())}]"
    )
    todo = cells(protocols([scenario]), contenders(suite.strategies), suite.seeds)
    assert len({cell.key for cell in todo}) == suite.seeds * len(suite.strategies)
    cost = cost_of(todo[0].protocol, measured)
    assert cost.network is not None
    assert cost.network.parameters > 10_000_000
    assert cost.flops


@needs_smoke
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_takes_two_steps_a_stage_on_a_tiny_set(name: str, disk: Path, tmp_path: Path) -> None:
    """The first case of each by every one of its methods, as a worker runs the cell; from disk to the figures
    that were published.
    """
    suite = tried(_small(preset(name)), small=True)
    of_first = cells(protocols(suite.scenarios[:1]), contenders(suite.strategies), suite.seeds)
    assert len(of_first) == len(preset(name).suite.strategies)
    for cell in of_first:
        _two_steps(cell, name, tmp_path)


def _two_steps(cell: Cell, name: str, tmp_path: Path) -> None:
    scenario = cell.protocol.scenario
    steps: list[tuple[int, int, int]] = []
    settings = CellSettings(
        root_seed=learner_seed(0),
        budget=scenario.budget(),
        needed=scenario.answers,
        probed=scenario.probed,
        kept=scenario.kept,
    )
    sealed = build(scenario, 0)
    strategy = cell.contender.plugin.cls(**cell.contender.params)
    done = [
        *run_cell(
            strategy,
            sealed.episodes,
            settings,
            scratch=tmp_path,
            on_progress=lambda *said: steps.append(said[:3]),
        )
    ]
    if "nested" not in name:  # which counts passes
        assert {total for _, _, total in steps} == {2}
    assert {stage for stage, _, _ in steps} == {*range(len(sealed.episodes))}
    final = scenario.score(sealed.truth, [answer for result in done for answer in result.answers]).final
    for row in preset(name).published:
        assert all(
            0 <= final[metric] <= 1
            for metric in row.figures
            if row.scenario == 0 and metric != "forgetting_initial"
        )


@needs_smoke
def test_a_smoke_run_is_recorded_apart_and_no_board_takes_it(
    disk: Path, call_owb: Owb, tmp_path: Path, warm_ray: None
) -> None:
    words = ("run", "--preset", "paper/happy-cifar100", "--smoke", "--workers", "1", "--store", str(tmp_path))
    said = call_owb(*words)
    assert said.code == 0, said.err
    assert (
        "OWB_DATA/weights/dino_vitbase16_pretrain.pth (DINO ViT-B/16, backbone only) is not there: a small network"
        in said.err
    )
    assert "what it scored means nothing" in said.out
    assert "mean_all" not in said.out
    assert Store(str(tmp_path)).experiments() == ["paper-happy-cifar100-smoke"]
    assert [row["status"] for row in call_owb(*words, "--json").json] == ["done"]
    (protocol,) = protocols(tried(preset("paper/happy-cifar100"), small=True).scenarios)
    assert "measures nothing" in protocol.scenario.board_exclusion_reason()


def test_a_plan_goes_on_without_weights_and_says_so(disk: Path, call_owb: Owb, tmp_path: Path) -> None:
    words = ("run", "--preset", "paper/inp-former-visa", "--plan", "--store", str(tmp_path))
    said = call_owb(*words)
    assert said.code == 0, said.err
    assert (
        "dinov2_vitb14_reg4_pretrain.pth (DINOv2 ViT-B/14 with registers, backbone only) is not there: "
        "planned without it"
    ) in said.err
    assert "Get it from github.com/facebookresearch/dinov2" in said.err
    assert "3 of 3 cells would run" in said.out
    cost = call_owb(*words, "--json").json[0]["cost"]
    assert (cost["encoded"], cost["asked"], cost["backward"]) == (24, 24, 0)
    assert cost["network"]["grid"] == 28 * 28  # patches of 14 in 392 pixels


def test_without_its_data_a_preset_says_what_is_missing(
    call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWB_DATA", str(tmp_path))
    said = call_owb("run", "--preset", "paper/cr-kd-cifar100-50", "--plan")
    assert said.code == 2
    assert "'cifar100' has to be read from your disk" in said.err


def test_weights_are_looked_for_where_the_data_are(
    disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paper = preset("paper/happy-cub")
    assert paper.missing == paper.weights
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "dino_vitbase16_pretrain.pth").write_bytes(b"anything")
    monkeypatch.setenv("OWB_DATA", str(tmp_path))
    assert paper.missing is None


# --- the command line ---------------------------------------------------------------------------------------


def test_presets_are_listed_with_what_is_on_this_disk(disk: Path, call_owb: Owb) -> None:
    content = call_owb("run", "--preset", "list", "--json").json
    assert [*content] == [*NAMES]
    assert all(entry["data_found"] for entry in content.values())
    assert content["paper/happy-cub"]["weights"] == "dino_vitbase16_pretrain.pth"
    assert not any(entry["weights_found"] for entry in content.values())
    line = next(
        line
        for line in call_owb("run", "--preset", "list").out.splitlines()
        if line.startswith("paper/elr-cifar10 ")
    )
    assert line.split()[-3:] == ["cifar10", "yes", "none"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--preset", "paper/hapy-cub"),
            "unknown preset 'paper/hapy-cub'; did you mean 'paper/happy-cub'? (all: owb run --preset list)",
        ),
        (("replay", "--preset", "paper/happy-cub"), "give it alone"),
        ((), "name a strategy, a suite file, or a published table with --preset"),
    ],
)
def test_mistakes_are_told_in_a_sentence(words: tuple[str, ...], message: str, call_owb: Owb) -> None:
    said = call_owb("run", *words)
    assert said.code == 2
    assert message in said.err


# --- published and ours -------------------------------------------------------------------------------------


def _of_blobs(published: float, tolerance: float) -> Paper:
    """Return a preset over blobs; of its second strategy nothing is run."""
    rows = (
        Row(
            cell="Table 1",
            certainty="paper",
            figures={"average_accuracy": published},
            tolerance={"average_accuracy": tolerance},
        ),
        Row(strategy=1, cell="Table 1", certainty="recalled", figures={"average_accuracy": 12.0}),
    )
    suite = Suite(name="paper-blobs", scenarios=(BLOBS,), strategies=(world("Means"), "replay"), seeds=2)
    base = preset("paper/happy-cub")
    return base.model_copy(update={"suite": suite, "published": rows, "data": "digits", "weights": None})


def test_ours_is_the_mean_over_seeds_and_its_distance_is_held_against_the_tolerance(tiny_run: Run) -> None:
    records = tiny_run([world("Means")], seeds=2)
    mean = 100 * fmean(record.metrics["average_accuracy"] for record in records)
    for off, within in ((0.4, True), (-0.6, False)):
        line, untold = beside.lines(_of_blobs(mean - off, 0.5), records)
        assert (line.ours, line.seeds, line.within) == (pytest.approx(mean), 2, within)
        assert line.difference == pytest.approx(off)
        assert (untold.ours, untold.difference, untold.within, untold.seeds) == (None, None, None, 0)
        assert untold.tolerance == preset("paper/happy-cub").tolerance.points
        assert beside.table([line, untold])[1][3:7] == ["-", "-", "2", "-"]


def test_a_run_shows_the_published_figures_beside_ours(
    call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_ray: None
) -> None:
    content = _of_blobs(50, 1).model_dump(mode="json", exclude_none=True)
    content["suite"]["seeds"] = 1
    (tmp_path / "blobs.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    words = ("run", "--preset", "paper/blobs", "--workers", "1", "--store", str(tmp_path / "store"))
    said = call_owb(*words)
    assert said.code == 0, said.err
    assert "published (Ma et al., NeurIPS 2024" in said.out
    line = next(line for line in said.out.splitlines() if "average_accuracy" in line and "50.00" in line)
    assert line.split()[-1] == "paper"
    assert "not as published: the last epoch of a stage counts" in said.out
    found = call_owb(*words, "--json").json
    assert {*found} == {"rankings", "aggregate", "published"}
    assert [row["published"] for row in found["published"]] == [50, 12]
    assert found["published"][0]["difference"] == pytest.approx(found["published"][0]["ours"] - 50)
    assert found["published"][0]["unit"] == "%"


# --- the scenario of a smoke run ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "over",
    [
        "ncd[preset=digits]",
        "cgcd[preset=digits]",
        "noisy-labels[validation=noisy]",
        "anomaly[categories=brick+rock]",
    ],
)
def test_a_smoke_scenario_conforms_whatever_is_beneath(over: str) -> None:
    assert [finding for finding in check_scenario(Smoke(over=over)) if not finding.holds] == []


def test_a_smoke_scenario_keeps_a_few_items_of_every_class_and_lends_a_few_steps() -> None:
    scenario = Smoke(over="noisy-labels[validation=noisy,probe_epochs=1]", items=3, backbone="cnn")
    budget = scenario.budget()
    assert (budget.gradient_steps, budget.batch_size) == (2, 8)
    assert (budget.backbone, budget.probe_epochs) == ("cnn", 1)
    deal = scenario.deal(0)
    (stage,) = deal.stages
    for rows in (stage.rows, stage.validation, stage.query):
        np.testing.assert_array_equal(np.bincount(deal.labels[rows]), np.full(10, 3))
    assert {*stage.monitored.tolist()} <= {*stage.rows.tolist(), *stage.validation.tolist()}
    assert Smoke(over="cgcd[preset=digits]").budget().first_epochs is None


def test_both_kinds_of_images_of_a_category_are_asked() -> None:
    deal = Smoke(over="anomaly[categories=brick+rock]", items=2).deal(0)
    anomalous = deal.facts["anomalous"][deal.stages[0].query]
    assert (len(anomalous), int(anomalous.sum())) == (8, 4)


def test_smoke_of_smoke_is_refused() -> None:
    if "smoke" in registered("scenario"):
        with pytest.raises(UserError, match="not itself"):
            configured("scenario", "smoke[over=smoke]")


def test_the_first_of_each_group_are_found_in_their_order() -> None:
    groups = np.array([5, 5, 2, 5, 2, 9])
    assert first_of_each(groups, 1).tolist() == [0, 2, 5]
    assert first_of_each(groups, 2).tolist() == [0, 1, 2, 4, 5]
    assert first_of_each(groups[:0], 2).tolist() == []
