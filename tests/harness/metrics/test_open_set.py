"""Open-set recognition: figures against scikit-learn, scores against scipy and second implementations, and
whole runs on real data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext
from numpy.typing import NDArray
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors
from torch import nn

from harness import checkpoint
from harness.cell.prediction_check import validate_prediction
from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.checks.conformance import check_strategy
from harness.checks.scenarios import check_scenario
from harness.contracts import Prediction, Query, Stage, StoredPrediction, Strategy, rules_of
from harness.errors import Diverged, UserError
from harness.metrics import open_set
from harness.plugins import find
from harness.protocol.cells import protocols
from harness.selection import configured
from harness.store import predictions
from scenarios.cgcd.scenario import CGCD
from scenarios.class_incremental.scenario import ClassIncremental
from scenarios.shared import open_set as reported
from strategies.ood_scores import SCORES, Detector, Seen, detector_of
from strategies.ood_scores.formulas import origin_of, whitening
from strategies.toolkit.classifier import Classifier

Vectors = NDArray[np.float64]
QUICK = [name if name != "envelope" else "envelope[steps=400,width=32]" for name in SCORES]
"""Every score, the one that is trained in few steps."""

# --- figures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_figures_agree_with_scikit_learn(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    novel = rng.random(137) < 0.4
    scores = rng.normal(size=137) + novel
    scores = np.round(scores) if ties else scores
    found = open_set.figures(scores, novel)
    assert found["open_set_auroc"] == pytest.approx(roc_auc_score(novel, scores))
    assert found["open_set_aupr_out"] == pytest.approx(average_precision_score(novel, scores))
    assert found["open_set_aupr_in"] == pytest.approx(average_precision_score(~novel, -scores))
    flagged, recall, _ = roc_curve(novel, scores, drop_intermediate=False)
    assert found["open_set_fpr95"] == pytest.approx(flagged[np.argmax(recall >= 0.95)])


@pytest.mark.parametrize("size", [1, 20, 60, 100, 140, 200])
def test_the_threshold_flags_no_more_novel_items_than_it_must(size: int) -> None:
    """Novel scores 1 to n, and a known item just below each: the flagged known ones count the novel ones
    above the threshold.
    """
    novel = np.arange(1, size + 1, dtype=float)
    scores = np.concatenate([novel, novel - 0.5])
    needed = next(count for count in range(1, size + 1) if count * 100 >= 95 * size)
    assert open_set.false_positives(scores, np.arange(2 * size) < size) == pytest.approx((needed - 1) / size)


def test_the_two_conventions_of_fpr_differ() -> None:
    """One novel item in ten hides among the known ones: 95 % recall of novel ones flags everything, 95 % of
    known ones passes few.
    """
    scores = np.concatenate([np.full(10, 0.0), np.full(9, 1.0), [-1.0]])
    novel = np.arange(20) >= 10
    assert open_set.false_positives(scores, novel) == 1.0
    assert open_set.false_positives(-scores, ~novel) == pytest.approx(0.1)


@pytest.mark.parametrize("novel", [np.ones(4, dtype=bool), np.zeros(4, dtype=bool)])
def test_one_side_alone_has_no_figure(novel: NDArray[np.bool_]) -> None:
    assert all(np.isnan(value) for value in open_set.figures(np.arange(4.0), novel).values())


# --- scores -------------------------------------------------------------------------------------------------


def _seen(
    items: int = 60, features: int = 6, classes: int = 3, seed: int = 0
) -> tuple[Seen, torch.Tensor, nn.Linear]:
    """Return items around class means, labels, and the linear head that made their logits."""
    torch.manual_seed(seed)
    labels = torch.arange(items) % classes
    spread = torch.randn(features, features, dtype=torch.float64)
    values = (
        3 * torch.randn(classes, features, dtype=torch.float64)[labels]
        + torch.randn(items, features, dtype=torch.float64) @ spread
    )
    head = nn.Linear(features, classes, dtype=torch.float64)
    return Seen(values, head(values).detach()), labels, head


def _fitted(text: str, **options: Any) -> tuple[Detector, Seen, Seen, torch.Tensor, nn.Linear]:
    known, labels, head = _seen(**options)
    asked, _, _ = _seen(items=25, seed=7)
    asked = Seen(asked.features, head(asked.features).detach())
    detector = detector_of(text)
    assert detector is not None
    detector.fit(known, labels, head)
    return detector, known, asked, labels, head


def _gaussian(values: Vectors, labels: Vectors) -> tuple[list[Vectors], Vectors]:
    """Return means and shared covariance by loops."""
    means = [values[labels == label].mean(axis=0) for label in np.unique(labels)]
    apart = [value - means[int(label)] for value, label in zip(values, labels, strict=True)]
    return means, np.asarray(sum(np.outer(each, each) for each in apart) / len(values))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_logit_scores_are_their_formulas(temperature: float) -> None:
    logits = torch.randn(40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 4
    seen = Seen(logits, logits)
    scores = {
        name: detector_of(name)
        for name in (f"msp[temperature={temperature}]", "max-logit", f"energy[temperature={temperature}]")
    }
    msp, largest, energy = (detector.score(seen) for detector in scores.values() if detector)
    np.testing.assert_allclose(msp, 1 - (logits / temperature).softmax(dim=1).amax(dim=1), rtol=1e-5)
    np.testing.assert_allclose(largest, -logits.amax(dim=1), rtol=1e-6)
    np.testing.assert_allclose(energy, -temperature * torch.logsumexp(logits / temperature, dim=1), rtol=1e-6)


def test_confident_items_are_still_told_apart() -> None:
    """In float32 every one of these softmax probabilities is exactly 1."""
    logits = torch.tensor([[40.0, 0.0], [60.0, 0.0], [80.0, 0.0]])
    detector = detector_of("msp")
    assert detector is not None
    assert (np.diff(detector.score(Seen(logits, logits))) < 0).all()


@pytest.mark.parametrize("ridge", [0.0, 0.01, 1.0])
def test_mahalanobis_is_scipys(ridge: float) -> None:
    detector, known, asked, labels, _ = _fitted(f"mahalanobis[ridge={ridge}]")
    means, covariance = _gaussian(known.features.numpy(), labels.numpy())
    inverse = np.linalg.inv(covariance + ridge * np.trace(covariance) / 6 * np.eye(6))
    expected = [
        min(scipy_mahalanobis(z, mean, inverse) ** 2 for mean in means) for z in asked.features.numpy()
    ]
    np.testing.assert_allclose(detector.score(asked), expected, rtol=1e-5)


def test_relative_mahalanobis_takes_off_one_gaussian_for_all_items() -> None:
    """Also with unequal class sizes: S and the spread of the means add up to the covariance of all items,
    divisor n.
    """
    known, labels, _ = _seen()
    rows = torch.cat([torch.nonzero(labels == label)[:size, 0] for label, size in enumerate((20, 7, 3))])
    known, labels = Seen(known.features[rows], known.logits[rows]), labels[rows]
    detector = detector_of("relative-mahalanobis[ridge=0]")
    assert detector is not None
    detector.fit(known, labels)
    means, covariance = _gaussian(known.features.numpy(), labels.numpy())
    everything = EmpiricalCovariance().fit(known.features.numpy())
    inverse = np.linalg.inv(covariance)
    asked, _, _ = _seen(items=25, seed=7)
    nearest = [
        min(scipy_mahalanobis(z, mean, inverse) ** 2 for mean in means) for z in asked.features.numpy()
    ]
    np.testing.assert_allclose(
        detector.score(asked), nearest - everything.mahalanobis(asked.features.numpy()), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("k", "normalised", "squared"), [(1, False, False), (5, True, False), (50, True, True), (9, False, True)]
)
def test_neighbours_are_scikit_learns(k: int, normalised: bool, squared: bool) -> None:
    detector, known, asked, _, _ = _fitted(f"knn[k={k},normalised={normalised},squared={squared},bank=0]")
    scaled = [
        values / np.linalg.norm(values, axis=1, keepdims=True) if normalised else values
        for values in (known.features.numpy(), asked.features.numpy())
    ]
    distances = NearestNeighbors(n_neighbors=k).fit(scaled[0]).kneighbors(scaled[1])[0][:, -1]
    np.testing.assert_allclose(detector.score(asked), distances**2 if squared else distances, rtol=1e-5)


def test_a_bank_keeps_the_first_items_of_every_class_and_the_last_neighbour_stands_in() -> None:
    detector, known, asked, labels, _ = _fitted("knn[k=99,bank=2,normalised=false]")
    kept = torch.cat([known.features[labels == label][:2] for label in range(3)])
    torch.testing.assert_close(detector.fitted["bank"], kept)
    np.testing.assert_allclose(
        detector.score(asked), torch.cdist(asked.features, kept).amax(dim=1), rtol=1e-6
    )


@pytest.mark.parametrize("dimensions", [0, 2, 5])
def test_vim_is_the_residual_of_a_second_implementation(dimensions: int) -> None:
    detector, known, asked, _, head = _fitted(f"vim[dimensions={dimensions}]")
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    origin = -np.linalg.pinv(weight) @ bias
    moment = EmpiricalCovariance(assume_centered=True).fit(known.features.numpy() - origin).covariance_
    values, vectors = np.linalg.eig(moment)
    principal = vectors[:, np.argsort(-values)[: dimensions or 3]].real

    def outside(features: Vectors) -> Vectors:
        centred = features - origin
        return np.asarray(np.linalg.norm(centred - centred @ principal @ principal.T, axis=1))

    scale = known.logits.numpy().max(axis=1).mean() / outside(known.features.numpy()).mean()
    expected = abs(scale) * outside(asked.features.numpy()) - torch.logsumexp(asked.logits, dim=1).numpy()
    np.testing.assert_allclose(detector.score(asked), expected, rtol=1e-4, atol=1e-4)


def test_the_origin_is_where_a_linear_head_says_nothing() -> None:
    head = nn.Linear(6, 3)
    torch.testing.assert_close(
        head.double()(origin_of(head)), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert not origin_of(nn.Linear(6, 3, bias=False)).any()


def test_directions_without_variance_do_not_count_unless_there_is_a_ridge() -> None:
    covariance = torch.diag(torch.tensor([4.0, 0.0, 1.0], dtype=torch.float64))
    white = whitening(covariance, 0.0)
    torch.testing.assert_close(white @ white.T, torch.linalg.pinv(covariance))
    white = whitening(covariance, 0.3)
    torch.testing.assert_close(
        white @ white.T, torch.linalg.inv(covariance + 0.5 * torch.eye(3, dtype=torch.float64))
    )
    assert not whitening(torch.zeros(3, 3, dtype=torch.float64), 0.01).any()


# --- over stages --------------------------------------------------------------------------------------------


def _two_stages(text: str, second: list[int]) -> tuple[Detector, Seen, Seen, torch.Tensor, torch.Tensor]:
    """Fit classes 0 to 2, then classes by the numbers in `second`."""
    detector, known, _, labels, head = _fitted(text)
    later, _, _ = _seen(items=40, seed=5)
    later_labels = torch.tensor(second)[torch.arange(40) % len(second)]
    detector.fit(later, later_labels, head)
    return detector, known, later, labels, later_labels


@pytest.mark.parametrize("covariance", ["every-stage", "first"])
def test_means_of_classes_that_are_gone_stay_and_the_covariance_is_a_choice(covariance: str) -> None:
    detector, known, later, labels, later_labels = _two_stages(
        f"mahalanobis[covariance={covariance}]", [2, 5]
    )
    for label in range(6):
        own = known.features[labels == label] if label < 2 else later.features[later_labels == label]
        assert detector.fitted["counts"][label] == len(own)
        torch.testing.assert_close(
            detector.fitted["means"][label],
            own.mean(dim=0) if len(own) else torch.zeros(6, dtype=torch.float64),
        )
    values, names = (known.features, labels) if covariance == "first" else (later.features, later_labels)
    ranked = np.unique(names.numpy(), return_inverse=True)[1]
    np.testing.assert_allclose(detector.fitted["covariance"], _gaussian(values.numpy(), ranked)[1], rtol=1e-6)


def test_classes_without_an_item_have_no_mean_to_be_near() -> None:
    """Classes 3 and 4 are named and never seen: an item at zero, where their rows stand, is as far as from
    the nearest real mean.
    """
    detector, *_ = _two_stages("mahalanobis", [5])
    real = detector.fitted["means"][[0, 1, 2, 5]] @ whitening(detector.fitted["covariance"], 0.01)
    zero = torch.zeros(1, 6, dtype=torch.float64)
    np.testing.assert_allclose(detector.score(Seen(zero, zero)), real.square().sum(dim=1).amin(), rtol=1e-5)


def test_a_bank_replaces_what_is_shown_anew_and_keeps_the_rest() -> None:
    detector, known, later, labels, later_labels = _two_stages("knn[bank=4]", [2, 5])
    assert detector.fitted["labels"].tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [5] * 4
    torch.testing.assert_close(detector.fitted["bank"][:4], known.features[labels == 0][:4])
    torch.testing.assert_close(detector.fitted["bank"][8:12], later.features[later_labels == 2][:4])


@pytest.mark.parametrize("name", QUICK)
def test_a_detector_comes_back_from_disk(name: str, tmp_path: Path) -> None:
    detector, _, asked, _, _ = _fitted(name)
    checkpoint.save(tmp_path / "state", {"detector": detector.state_dict()})
    again = detector_of(name)
    assert again is not None
    assert again.is_ready == (not again.needs_fit)
    again.load_state_dict(checkpoint.load(tmp_path / "state")["detector"])
    np.testing.assert_array_equal(again.score(asked), detector.score(asked))


@pytest.mark.parametrize("name", QUICK)
def test_an_item_far_from_all_classes_is_strange_and_does_not_depend_on_its_neighbours(name: str) -> None:
    detector, _, asked, _, _ = _fitted(name)
    whole = detector.score(asked)
    np.testing.assert_allclose(
        np.concatenate([detector.score(Seen(*(part[row : row + 1] for part in asked))) for row in range(25)]),
        whole,
        rtol=1e-6,
    )
    if detector.needs_fit and name not in ("vim", "knn"):
        far = Seen(asked.features + 100, asked.logits)
        assert detector.score(far).min() > whole.max()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fine-tune[ood_score=mahalanobi]", "did you mean 'mahalanobis'"),
        ("fine-tune[ood_score=knn[k=0]]", "k should be greater than or equal to 1, got 0"),
        ("fine-tune[ood_score=knn[neighbours=3]]", "unknown parameter of NearestNeighbour 'neighbours'"),
        ("happy[ood_score=energy[temperature=0]]", "temperature should be greater than 0"),
        ("happy[ood_score=mahalanobis[covariance=last]]", "covariance should be 'every-stage' or 'first'"),
    ],
)
def test_bad_scores_are_refused_in_one_sentence_before_anything_runs(text: str, said: str) -> None:
    with pytest.raises(UserError) as problem:
        configured("strategy", text)
    assert said in str(problem.value)


def test_what_cannot_be_fitted_is_told() -> None:
    known, labels, head = _seen()
    detectors = [detector_of("vim[dimensions=6]"), detector_of("msp")]
    assert all(detectors)
    with pytest.raises(UserError, match="the network has 6 features"):
        detectors[0].fit(known, labels, head)  # type: ignore[union-attr]
    with pytest.raises(Diverged):
        detectors[1].fit(Seen(known.features / 0, known.logits), labels, head)  # type: ignore[union-attr]


@pytest.mark.parametrize("scores", [[np.nan] * 4, [0.1, np.nan, 0.4, 0.9]])
def test_scores_that_are_nan_are_refused(scores: list[float]) -> None:
    """As numbers they stand nowhere: all-NaN scores had figures."""
    with pytest.raises(ValueError, match="NaN cannot be ranked"):
        open_set.figures(np.array(scores), np.array([False, False, True, True]))


@pytest.mark.parametrize("offset", [0.0, -1e4, 1e4])
@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e6])
def test_figures_do_not_depend_on_scale_and_offset(scale: float, offset: float) -> None:
    """From what a strategy answers, in double precision, to the figures."""
    rng = np.random.default_rng(0)
    novel = rng.random(400) < 0.4
    strange = rng.random(400) + 0.5 * novel
    query = Query(ids=np.arange(400), inputs=strange)
    kept = validate_prediction(
        Prediction(anomaly_scores=scale * strange + offset),
        query,
        rules=rules_of(Prediction),
        needed=(),
        stage=0,
        step=None,
    )
    found = reported.of_answer(kept, np.ones(400, dtype=bool), novel)
    assert found == pytest.approx(open_set.figures(strange, novel), abs=1e-12)


# --- learners -----------------------------------------------------------------------------------------------

FEW = "class-incremental[open_set=true,epochs=3]"
FOUND = "cgcd[preset=digits,open_set=true,epochs=3,first_epochs=10]"


def _run(
    strategy: str, scenario: str, folder: Path, *, keep: bool = False, stages: int | None = None
) -> list[StoredPrediction]:
    world, learner = configured("scenario", scenario), configured("strategy", strategy)
    episodes = build(world, 0, reveal=strategy.partition("[")[0] == world.upper_bound).episodes[:stages]
    settings = CellSettings(root_seed=learner_seed(0), budget=world.budget())
    results = run_cell(learner, episodes, settings, scratch=folder, keep=folder if keep else None)
    return [answer for result in results for answer in result.answers]


@pytest.mark.parametrize("name", ["fine-tune", "replay", "joint", "ewc", "lwf", "der"])
def test_without_a_score_nothing_changes_and_with_one_no_other_answer_does(name: str, tmp_path: Path) -> None:
    """The classes answered are the same bytes whether or not novelty is measured."""
    scenario = "class-incremental[epochs=1,stages=3]"
    plain, measured = (
        _run(f"{name}{said}", scenario, tmp_path) for said in ("", "[ood_score=relative-mahalanobis]")
    )
    assert all(set(answer.arrays) == {"classes"} for answer in plain)
    assert all(set(answer.arrays) == {"classes", "anomaly_scores"} for answer in measured)
    assert predictions.digest(plain) == predictions.digest([_only(answer, "classes") for answer in measured])


@pytest.mark.parametrize("name", ["happy", "simgcd", "frost", "joint-discovery"])
def test_category_discovery_answers_the_same_beside_its_scores(name: str, tmp_path: Path) -> None:
    scenario = "cgcd[preset=digits,epochs=1,first_epochs=1]"
    plain, measured = (_run(f"{name}{said}", scenario, tmp_path) for said in ("", "[ood_score=knn]"))
    assert all("anomaly_scores" in answer.arrays for answer in measured)
    assert predictions.digest(plain) == predictions.digest(
        [_only(answer, *plain[-1].arrays) for answer in measured]
    )


def _only(answer: StoredPrediction, *names: str) -> StoredPrediction:
    kept = {name: array for name, array in answer.arrays.items() if name in names}
    return StoredPrediction(stage=answer.stage, step=answer.step, ids=answer.ids, arrays=kept)


def test_a_classifiers_features_and_head_make_its_logits() -> None:
    model = Classifier(FakeContext()).grow(_stage(0, [0, 1, 2]))
    inputs = torch.randn(30, 5)
    seen = model.seen(inputs, chunk=7)
    torch.testing.assert_close(seen.logits, model.evaluated(inputs))
    torch.testing.assert_close(seen.features, model.backbone(inputs))


def _stage(index: int, labels: list[int]) -> Stage:
    inputs = np.random.default_rng(index).normal(size=(30, 5)).astype(np.float32)
    given = np.resize(np.array(labels), 30)
    return Stage(
        index=index,
        ids=np.arange(30),
        inputs=inputs,
        labels=given,
        named_classes=max(labels) + 1,
        new_classes=None,
    )


@pytest.mark.parametrize(
    ("name", "counts"),
    [("fine-tune", [15, 15, 10, 10, 10]), ("replay", [3, 3, 10, 10, 10]), ("joint", [15, 15, 10, 10, 10])],
)
def test_a_learner_measures_anew_what_it_still_holds(name: str, counts: list[int]) -> None:
    """After the second stage replay measures old classes by its memory of 6, joint by all their items,
    fine-tune not at all.
    """
    memory = ",memory=6" if name == "replay" else ""
    learner: Any = configured("strategy", f"{name}[ood_score=mahalanobis{memory}]")
    learner.start(FakeContext())
    learner.learn(_stage(0, [0, 1]))
    before = learner.detector.fitted["means"].clone()
    learner.learn(_stage(1, [2, 3, 4]))
    assert learner.detector.fitted["counts"].tolist() == counts
    assert torch.equal(learner.detector.fitted["means"][:2], before) == (name == "fine-tune")


def test_a_probe_before_anything_is_known_has_no_feature_scores(tmp_path: Path) -> None:
    scenario = "class-incremental[epochs=1,stages=2,probe_every=10]"
    for novelty, is_answered in (("knn", False), ("msp", True)):
        first = _run(f"fine-tune[ood_score={novelty}]", scenario, tmp_path)[0]
        assert first.step == 10
        assert ("anomaly_scores" in first.arrays) == is_answered


def test_strangeness_is_that_among_all_classes_also_where_the_stage_is_told(tmp_path: Path) -> None:
    """The same network under the same seed, asked with and without the stage: other classes win, nothing
    looks stranger.
    """
    free, told = (
        _run("fine-tune[ood_score=energy]", f"class-incremental[epochs=1,task_access={access}]", tmp_path)
        for access in ("train", "test")
    )
    np.testing.assert_array_equal(free[-1].arrays["anomaly_scores"], told[-1].arrays["anomaly_scores"])
    assert not np.array_equal(free[-1].arrays["classes"], told[-1].arrays["classes"])


@pytest.mark.parametrize(
    ("strategy", "scenario"),
    [
        ("replay[ood_score=relative-mahalanobis]", FEW),
        ("joint[ood_score=vim]", FEW),
        ("happy[ood_score=mahalanobis]", FOUND),
    ],
)
def test_a_killed_cell_continues_to_the_same_bytes(strategy: str, scenario: str, tmp_path: Path) -> None:
    whole = _run(strategy, scenario, tmp_path)
    kept = tmp_path / "kept"
    kept.mkdir()
    _run(strategy, scenario, kept, keep=True, stages=2)
    assert predictions.digest(_run(strategy, scenario, kept, keep=True)) == predictions.digest(whole)


@pytest.mark.parametrize(
    ("strategy", "scenario"),
    [
        ("fine-tune[ood_score=knn[k=3]]", "class-incremental[open_set=true]"),
        ("replay[ood_score=relative-mahalanobis]", "class-incremental[open_set=true]"),
        ("joint[ood_score=vim]", "class-incremental[open_set=true]"),
        ("happy[ood_score=mahalanobis]", "cgcd[preset=digits,open_set=true]"),
    ],
)
def test_learners_conform_with_a_score(strategy: str, scenario: str) -> None:
    def make() -> Strategy:
        learner: Strategy = configured("strategy", strategy)
        return learner

    findings = check_strategy(make, configured("scenario", scenario))
    assert {finding.claim: finding.detail for finding in findings if not finding.holds} == {}
    assert not any(finding.unsuitable for finding in findings)


# --- scenarios ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "metrics"), [("class-incremental", 5), ("cgcd", 19)])
def test_a_protocol_without_open_set_is_the_one_it_was(name: str, metrics: int) -> None:
    """No word of the switch in what the hash is taken over; boards of earlier days are checked whole in
    test_boards.
    """
    plain, said, switched = protocols([name, f"{name}[open_set=false]", f"{name}[open_set=true]"])
    assert "open_set" not in plain.content["config"]
    assert plain.hash == said.hash != switched.hash
    assert switched.content["config"]["open_set"] is True
    assert len(plain.scenario.metrics) == metrics
    assert switched.content["metrics"][metrics:] == [metric.name for metric in reported.METRICS]
    cls = find("scenario", name).cls
    assert cls(**switched.content["config"]) == switched.scenario


@pytest.mark.parametrize("scenario", ["class-incremental[open_set=true]", "cgcd[open_set=true]"])
def test_scenarios_conform_with_open_set(scenario: str) -> None:
    assert {
        each.claim: each.detail for each in check_scenario(configured("scenario", scenario)) if not each.holds
    } == {}


def test_classes_still_to_come_are_asked_and_no_accuracy_counts_them() -> None:
    plain, wide = (CGCD(open_set=said) for said in (False, True))
    deals = [scenario.deal(0) for scenario in (plain, wide)]
    for index, (narrow, asked) in enumerate(zip(*(deal.stages for deal in deals), strict=True)):
        assert set(deals[1].facts["stage"][asked.query]) == {0, 1, 2, 3}
        np.testing.assert_array_equal(
            asked.query[deals[1].facts["stage"][asked.query] <= index], narrow.query
        )
    own = CGCD(open_set=True, test_scope="stage").deal(0)
    assert [set(own.facts["stage"][stage.query]) for stage in own.stages] == [
        {0, 1, 2, 3},
        {1, 2, 3},
        {2, 3},
        {3},
    ]
    finals = []
    for scenario in (plain, wide):
        sealed = build(scenario, 0)
        given = [
            _answer(index, query, sealed.truth.labels // 2)
            for index, (_, query) in enumerate(sealed.episodes)
        ]
        finals.append(scenario.score(sealed.truth, given).final)
    shared = {name: finals[1][name] for name in finals[0]}
    np.testing.assert_equal(shared, dict(finals[0]))


def _answer(index: int, query: Query, classes: NDArray[np.int64], **further: Any) -> StoredPrediction:
    ids = np.sort(query.ids)
    return StoredPrediction(
        stage=index,
        step=None,
        ids=ids,
        arrays={"classes": classes[ids], **{name: each[ids] for name, each in further.items()}},
    )


@pytest.mark.parametrize("scenario", [ClassIncremental(open_set=True), CGCD(open_set=True)])
def test_who_knows_what_is_to_come_has_full_marks_and_who_says_nothing_has_none(
    scenario: ClassIncremental | CGCD,
) -> None:
    """Strangeness by stage of arrival finds all; after the last stage nothing is novel, so it does not count."""
    sealed = build(scenario, 0)
    arrival = sealed.truth.facts["stage"].astype(np.float32)
    for sign, worth in ((1, 1.0), (-1, 0.0)):
        given = [
            _answer(i, query, sealed.truth.labels, anomaly_scores=sign * arrival)
            for i, (_, query) in enumerate(sealed.episodes)
        ]
        scores = scenario.score(sealed.truth, given)
        assert scores.final["open_set_auroc"] == worth
        assert scores.final["open_set_fpr95"] == 1 - worth
        assert scores.per_stage["open_set_auroc"][:-1] == [worth] * (len(given) - 1)
        assert np.isnan(scores.per_stage["open_set_auroc"][-1])
    silent = scenario.score(
        sealed.truth, [_answer(i, query, sealed.truth.labels) for i, (_, query) in enumerate(sealed.episodes)]
    )
    assert not any(name.startswith("open_set") for name in silent.per_stage)
    assert all(np.isnan(silent.final[metric.name]) for metric in reported.METRICS)


def test_items_of_training_do_not_count_where_they_are_asked_too() -> None:
    scenario = CGCD(open_set=True, transductive=True)
    sealed = build(scenario, 0)
    strange = np.where(
        sealed.truth.facts["is_test"], sealed.truth.facts["stage"], 99 - sealed.truth.facts["stage"]
    )
    given = [
        _answer(i, query, sealed.truth.labels, anomaly_scores=strange)
        for i, (_, query) in enumerate(sealed.episodes)
    ]
    assert scenario.score(sealed.truth, given).final["open_set_auroc"] == 1.0


def test_without_the_switch_answers_about_strangeness_are_left_alone() -> None:
    scenario = ClassIncremental()
    sealed = build(scenario, 0)
    arrival = sealed.truth.facts["stage"]
    scores = scenario.score(
        sealed.truth,
        [
            _answer(i, q, sealed.truth.labels, anomaly_scores=arrival)
            for i, (_, q) in enumerate(sealed.episodes)
        ],
    )
    assert set(scores.final) == {metric.name for metric in scenario.metrics}
    assert set(scores.per_stage) == {"seen_accuracy"}


@pytest.mark.parametrize(
    ("strategy", "scenario"),
    [
        *((f"{name}[ood_score={score}]", FEW) for name in ("replay", "joint") for score in QUICK),
        *((f"happy[ood_score={score}]", FOUND) for score in ("msp", "relative-mahalanobis", "vim")),
    ],
)
def test_digits_still_to_come_look_stranger_than_known_ones(
    strategy: str, scenario: str, tmp_path: Path
) -> None:
    world = configured("scenario", scenario)
    scores = world.score(build(world, 0).truth, _run(strategy, scenario, tmp_path))
    assert scores.final["open_set_auroc"] > 0.5
    assert scores.per_stage["open_set_auroc"][0] > 0.5
