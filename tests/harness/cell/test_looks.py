"""Looks at a learner: when they are taken, at which items, what travels, and that nothing changes by them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeContext
from watched import HERE, Shows, Speechless
from worlds import Blobs, Guess, NoisyBlobs, NovelBlobs

from harness.cell.looks import MOST_FEATURES, Looks, Moments, Shown, Watcher, moments, projection
from harness.cell.probe_scorer import ProbeScorer, with_curves
from harness.cell.run import CellSettings, StageResult, run_cell
from harness.cell.sealing import Episode, Sealed, build
from harness.contracts import HIDDEN, Scenario, Scores, Strategy, TrainingBudget
from harness.errors import UserError
from harness.protocol.probes import looks_of
from harness.store.predictions import digest

SETTINGS = CellSettings(root_seed=1, budget=TrainingBudget(backbone="mlp", epochs=2, batch_size=4))
"""Of blobs, 40 items a stage: 20 steps, as many as `Shows` takes."""


def probe(name: str, **params: Any) -> str:
    said = ",".join(f"{key}={value}" for key, value in params.items())
    return f"{HERE}:{name}[{said}]" if said else f"{HERE}:{name}"


def asked(*texts: str, at: str = "every=5", share: float = 1e9) -> Looks:
    looks = looks_of(texts, at, share=share)
    assert looks is not None
    return looks


def learned(
    looks: Looks | None, scratch: Path, strategy: Strategy | None = None, scenario: Scenario | None = None
) -> tuple[list[StageResult], Sealed]:
    sealed = build(scenario or Blobs(), 0)
    watcher = None if looks is None else Watcher(looks, root_seed=SETTINGS.root_seed)
    own = strategy or Shows()
    return list(run_cell(own, sealed.episodes, SETTINGS, scratch=scratch, watcher=watcher)), sealed


def figures(looks: Looks, results: Sequence[StageResult], sealed: Sealed) -> dict[str, list[Any]]:
    scorer = ProbeScorer(looks, sealed.truth, 0)
    for result in results:
        scorer.add(result)
    return {name: rows for own in scorer.figures.values() for name, rows in own.items()}


# --- when ---------------------------------------------------------------------------------------------------


def test_looks_are_due_where_the_text_says() -> None:
    def steps(text: str, total: int) -> list[int]:
        when = moments(text)
        return [at for at in range(1, total + 1) if when.due(at, total)]

    assert steps("geometric[n=4]", 1000) == [1, 10, 100, 1000]
    assert steps("geometric[n=3]", 64) == [1, 8, 64]
    assert steps("geometric", 1) == [1]
    assert steps("every=3", 10) == [3, 6, 9]
    assert steps("epochs=1, 2,5", 6) == [1, 2, 5]
    assert (moments("epochs=4").unit, moments("every=4").unit, moments("geometric").spread) == (
        "epoch",
        "step",
        12,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("evry=3", "did you mean 'every'"),
        ("epochs=", "whole numbers from 1"),
        ("every=1,2", "one whole number"),
        ("geometric[m=2]", "n, the number of looks"),
        ("geometric[n=1]", "from 2 to 1000"),
    ],
)
def test_moments_that_are_none_are_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        moments(text)


def test_a_cell_is_looked_at_before_the_first_step_when_it_is_due_and_after_every_stage(
    tmp_path: Path,
) -> None:
    looks = asked(probe("Counts"), at="every=8")
    results, sealed = learned(looks, tmp_path)
    rows = figures(looks, results, sealed)["probe/n@asked"]
    assert [row[:2] for row in rows] == [(stage, step) for stage in range(3) for step in (0, 8, 16, 20)]


def test_a_look_at_the_last_step_is_that_after_the_stage(tmp_path: Path) -> None:
    looks = asked(probe("Counts"), at="every=10")
    results, _ = learned(looks, tmp_path, scenario=Blobs(stages=1))
    assert [one["step"] for one in results[0].shown] == [0, 10, 20]


def test_steps_count_on_where_a_learner_counts_anew_and_epochs_too() -> None:
    watcher, episode = Watcher(asked(probe("Counts"), at="every=3"), root_seed=0), _episode()
    watcher.begin(*episode, FakeContext())
    offered = [0, 1, 2, 3, 0, 1, 2, 3, 4]
    due = [0, 3, 7]  # places in `offered`: before the first step, after three, and after six
    assert [place for place, at in enumerate(offered) if watcher.is_due("step", at)] == due
    assert watcher.last == 7
    epochs = Watcher(asked(probe("Counts"), at="epochs=1,3"), root_seed=0)
    epochs.begin(*episode, FakeContext(epochs=4))
    assert [epochs.is_due("epoch", at) for at in (1, 2, 1, 2)] == [True, False, True, False]


def _episode() -> Episode:
    return build(Blobs(), 0).episodes[0]


def test_looks_beyond_their_share_of_time_are_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    time = 0.0
    watcher = Watcher(asked(probe("Counts"), at="every=1", share=0.5), root_seed=0, clock=lambda: time)
    watcher.begin(*_episode(), FakeContext())
    watcher.seconds = 30.0
    time = 30.0 + 30.0  # 30 s of learning allow 15 s of looks, beside the 10 that are free
    assert not watcher.is_due("step", 1)
    time = 30.0 + 50.0
    assert watcher.is_due("step", 2)
    with caplog.at_level(logging.WARNING):
        assert watcher.at_end()
    assert "1 looks of stage 0 were left out" in caplog.text


# --- at which items -----------------------------------------------------------------------------------------


def test_every_look_and_every_strategy_shows_the_same_items_each_class_in_its_share(tmp_path: Path) -> None:
    looks = asked(probe("Counts", of="train", items=16), probe("Counts", items=24))
    shown = [one for result in learned(looks, tmp_path)[0] for one in result.shown]
    others = [one for result in learned(looks, tmp_path, Other())[0] for one in result.shown]
    ids: dict[tuple[Any, ...], list[list[int]]] = {}
    for one in [*shown, *others]:
        ids.setdefault((one["stage"], one["group"], one["items"]), []).append(one["ids"].tolist())
    assert {key[1:] for key in ids} == {("train", 16), ("asked", 24)}
    assert all(len(each) > 2 and each.count(each[0]) == len(each) for each in ids.values())
    for one in shown:
        assert len(set(one["ids"].tolist())) == one["items"]
        if one["group"] == "train":
            assert np.bincount(one["given"] - 2 * one["stage"]).tolist() == [8, 8]
        else:
            assert (one["given"] == HIDDEN).all()


class Other(Shows):
    """Trains from other weights."""

    def setup(self) -> None:
        super().setup()
        self.layer.weight.data.zero_()


def test_items_asked_that_had_been_handed_over_are_watched_with_the_labels_of_then(tmp_path: Path) -> None:
    looks = asked(*(probe("Counts", of=of, items=200) for of in ("watched", "asked")))
    scenario = NoisyBlobs()
    results, sealed = learned(looks, tmp_path, scenario=scenario)
    given = {
        int(one): int(label)
        for stage, _ in sealed.episodes
        for one, label in zip(stage.ids, stage.labels, strict=True)
    }
    wrong = 0
    for one in (one for result in results for one in result.shown):
        handed = [int(at) in given for at in one["ids"]]
        assert all(handed) if one["group"] == "watched" else not any(handed)
        if one["group"] == "watched":
            assert one["given"].tolist() == [given[int(at)] for at in one["ids"]]
            wrong += int((one["given"] != sealed.truth.labels[one["ids"]]).sum())
    assert wrong


def test_the_scorer_tells_known_classes_from_novel_ones_and_knows_the_labels(tmp_path: Path) -> None:
    looks = asked(*(probe("Counts", of=of, items=500) for of in ("asked", "known", "novel", "train")))
    results, sealed = learned(looks, tmp_path, Fearless(), NovelBlobs())
    found = figures(looks, results, sealed)
    ends = {name: rows[-1][2] for name, rows in found.items()}
    labels = sealed.truth.labels[sealed.episodes[1].query.ids]
    assert ends["probe/n items-500@known"] == ends["probe/n_true items-500@known"] == (labels < 2).sum()
    assert ends["probe/n items-500@novel"] == (labels >= 2).sum()
    stage = sealed.episodes[1].stage
    assert ends["probe/n_true items-500@train"] == len(stage.ids)
    assert ends["probe/n_given items-500@train"] == (stage.labels != HIDDEN).sum()


class Fearless(Shows):
    """Learns from what has a label."""

    def learn(self, stage: Any) -> None:
        self.context.probe(0)

    def predict(self, query: Any) -> Any:
        return Guess.predict(self, query)  # type: ignore[arg-type]


# --- what travels -------------------------------------------------------------------------------------------


def test_more_than_256_features_travel_projected_so_that_squared_distances_hold_on_average() -> None:
    whole = projection(1000)
    assert whole.shape == (1000, MOST_FEATURES)
    np.testing.assert_allclose(whole.T @ whole, np.eye(MOST_FEATURES) * 1000 / MOST_FEATURES, atol=1e-9)
    x = np.random.default_rng(0).normal(size=(400, 1000))
    assert np.square(x @ whole).sum() / np.square(x).sum() == pytest.approx(1, abs=0.02)


class Wide(Shows):
    """Shows features of many axes, too large for half precision, and a head of theirs."""

    def observed(self, inputs: Any) -> Any:
        seen = super().observed(inputs)
        features = np.tile(np.asarray(inputs)[:, :, None], (1, 1, 50)) * 1e6
        return type(seen)(features=features, head=np.ones((6, 400), dtype=np.float32))


def test_features_of_several_axes_travel_flat_and_what_half_precision_does_not_hold_in_float32(
    tmp_path: Path,
) -> None:
    results, _ = learned(asked(probe("Counts", items=16)), tmp_path, Wide(), Blobs(stages=1))
    one = results[0].shown[0]
    assert (one["features"].shape, one["features"].dtype, one["dimensions"]) == ((16, 256), np.float32, 400)
    assert (one["head"].shape, one["head"].dtype, one["logits"]) == ((6, 256), np.float16, None)


def test_a_probe_of_the_surface_is_worked_out_in_the_worker_and_sends_no_features(tmp_path: Path) -> None:
    looks = asked(probe("Loss", items=40), at="every=20")
    results, sealed = learned(looks, tmp_path, scenario=Blobs(stages=1))
    assert all(one["features"] is None for one in results[0].shown)
    rows = figures(looks, results, sealed)["probe/loss items-40@train"]
    assert [row[1] for row in rows] == [0, 20]
    assert rows[0][2] > rows[1][2] > 0


def test_a_learner_that_shows_nothing_has_no_figure_and_ends_as_ever(tmp_path: Path) -> None:
    looks = asked(probe("Counts"), probe("Loss"))
    results, sealed = learned(looks, tmp_path, Guess())
    assert [result.shown for result in results] == [(), (), ()]
    assert figures(looks, results, sealed) == {}


def test_what_raises_is_a_line_in_the_log_and_nan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    looks = asked(probe("Fails"), at="every=20")
    with caplog.at_level(logging.WARNING):
        results, sealed = learned(looks, tmp_path, scenario=Blobs(stages=1))
        rows = figures(looks, results, sealed)["probe/n@asked"]
        assert all(math.isnan(row[2]) for row in rows) and len(rows) == 2
        assert caplog.text.count("Fails failed at step") == 2
        results, _ = learned(looks, tmp_path, Speechless(), Blobs(stages=1))
    assert results[0].shown == () and "could not look at step 0: " in caplog.text
    assert "not now" in caplog.text
    assert with_curves(Scores(final={}), [{"probe/n@asked": rows}]).probes == {}


# --- what stays ---------------------------------------------------------------------------------------------


def test_predictions_are_the_same_bytes_and_looks_count_as_no_learning(tmp_path: Path) -> None:
    plain, _ = learned(None, tmp_path)
    watched, _ = learned(asked(probe("Counts"), probe("Loss"), probe("Unseeded"), at="every=1"), tmp_path)
    assert (
        len({digest([answer for one in results for answer in one.answers]) for results in (plain, watched)})
        == 1
    )
    assert [one.probe_s for one in plain] == [0, 0, 0]
    assert all(one.probe_s > 0 and one.shown for one in watched)


def test_what_was_shown_comes_back_with_the_stages_of_an_interrupted_cell(tmp_path: Path) -> None:
    keep, looks, sealed = tmp_path / "keep", asked(probe("Counts")), build(Blobs(), 0)
    keep.mkdir()
    for episodes in (sealed.episodes[:2], sealed.episodes):
        watcher = Watcher(looks, root_seed=SETTINGS.root_seed)
        results = list(run_cell(Shows(), episodes, SETTINGS, scratch=tmp_path, keep=keep, watcher=watcher))
    whole, _ = learned(looks, tmp_path)
    assert figures(looks, results, sealed) == figures(looks, whole, sealed)
    assert results[0].borrowed_s and Shown(**results[0].shown[0]).features is not None


def test_moments_are_values() -> None:
    assert moments("every=5") == Moments(every=5)
