"""Scores of anomaly detection: every figure by category and then their mean, so that no category hides behind
another.

Image scores are those that a strategy answers itself, else made of its maps by the protocol; pixel figures
are of the evaluated maps, an image at a time. An anomaly without a mask counts for image figures alone,
normal images count in both. A figure that cannot be had (a category with one kind of image, a strategy
without maps) is NaN, and means are over the categories that have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.contracts import AnyArray, Axes, ClassCounts, IntArray, Metric, Scores, StoredPrediction, Truth
from harness.errors import UserError
from harness.metrics import anomaly as figures
from harness.metrics.detection import auroc, average_precision, f1_max, levels
from harness.metrics.discovery import mean_of_finite
from scenarios.anomaly.postprocess import PostProcess, ground_of

NAN = float("nan")

METRICS: tuple[Metric, ...] = (
    Metric(name="image_auroc", meaning="of image scores, mean over categories"),
    Metric(name="image_ap", meaning="average precision of image scores, mean over categories"),
    Metric(name="image_f1_max", meaning="largest F1 of image scores; the threshold is chosen on the test"),
    Metric(name="pixel_auroc", meaning="of all pixels of a category, mean over categories"),
    Metric(name="pixel_ap", meaning="average precision of all pixels of a category, mean over categories"),
    Metric(name="pixel_f1_max", meaning="largest F1 of all pixels; the threshold is chosen on the test"),
    Metric(
        name="aupro",
        meaning="share of every region found, over false positive pixels up to a limit (0.3 unless said)",
    ),
    Metric(name="worst_image_auroc", meaning="image_auroc of the hardest category"),
)

CONTINUAL: tuple[Metric, ...] = (
    Metric(
        name="forgetting",
        better="lower",
        meaning="drop of image_auroc from a category's best earlier stage to the last one",
    ),
    Metric(name="pixel_ap_forgetting", better="lower", meaning="the same of pixel_ap"),
    Metric(name="backward_transfer", meaning="change of image_auroc since a category was learned"),
    Metric(name="learning_image_auroc", meaning="image_auroc of every category just after it was learned"),
    Metric(
        name="incremental_image_auroc", meaning="image_auroc of the categories seen so far, mean over stages"
    ),
)
"""What there is besides where categories arrive one after another."""

POOLED = Metric(
    name="pooled_image_auroc",
    meaning="of the image scores of all categories together: one threshold for all, which is harder",
)
SAMPLES = Metric(
    name="sample_auroc", meaning="an object's score is the largest of its images', mean over categories"
)

PER_STAGE = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro")
_LONGEST_SIDE = 128
"""Pixels of a picture at most."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a protocol scores.

    categories: names by number.  defects: kinds by number, the first stands for none.  post: how maps are
    evaluated.
    continual: categories arrive one after another.
    pooled, samples: whether all categories are scored under one threshold too, and objects that several
    images show (the fact `sample`).
    """

    categories: Sequence[str]
    defects: Sequence[str]
    post: PostProcess
    fpr_limit: float = figures.FPR_LIMIT
    continual: bool = False
    pooled: bool = False
    samples: bool = False


class Judged(NamedTuple):
    """The n test images of one category in one answer.

    ids: int64 (n,).  scores: float (n,).  anomalous: bool (n,).  grids: the maps that were answered, float
    (n, h, w), or None.
    span: the smallest and the largest value of its evaluated maps.
    """

    ids: IntArray
    scores: AnyArray
    anomalous: NDArray[np.bool_]
    grids: AnyArray | None
    span: tuple[float, float]
    figures: Mapping[str, float]


Stage = Mapping[int, Judged]
"""What one answer came to, by category."""


def metrics_of(
    categories: Sequence[str], *, continual: bool = False, pooled: bool = False, samples: bool = False
) -> tuple[Metric, ...]:
    """Return what a protocol reports; `categories` are the names of those that are tested, in order."""
    own = [Metric(name=f"image_auroc_of_{name}", meaning=f"image_auroc of {name}") for name in categories]
    return (*METRICS, *CONTINUAL * continual, *(POOLED,) * pooled, *(SAMPLES,) * samples, *own)


class AnomalyScorer:
    """Scores answers category by category; the figures of the run are there once every stage has answered.

    A category is scored in the last answer in which it was asked for: where every category has a learner of
    its own, in its only one. An answer with neither maps nor scores, or one of the wrong shape, is refused by
    a `UserError`.
    """

    def __init__(self, truth: Truth, rules: Rules) -> None:
        self.truth, self.rules = truth, rules
        self.figures: list[dict[int, Mapping[str, float]]] = []  # after every stage, by category
        self.last: dict[int, Judged] = {}
        self.looks: list[tuple[int, int, float]] = []

    def add(self, answer: StoredPrediction) -> None:
        """Take in the next answer."""
        if answer.step is None:
            stage = judged(self.truth, answer, self.rules)
            self.figures.append({category: own.figures for category, own in stage.items()})
            self.last |= stage
            return
        look = _mean(
            [own.figures for own in _of_images(self.truth, answer, self.rules).values()], "image_auroc"
        )
        if np.isfinite(look):
            self.looks.append((answer.stage, answer.step, look))

    def scores(self) -> Scores:
        """Return what the answers so far come to."""
        truth, rules = self.truth, self.rules
        means = {name: [_mean(stage.values(), name) for stage in self.figures] for name in PER_STAGE}
        per_stage = {name: values for name, values in means.items() if np.isfinite(values).any()}
        probes = {"image_auroc": [*self.looks]}
        if len(self.figures) < len(truth.named_classes):
            return Scores(final={}, per_stage=per_stage, probes=probes)
        last = _in_order_of_arrival(truth, self.last)
        of_last = {category: own.figures for category, own in last.items()}
        matrices = {
            name: _matrix(self.figures if rules.continual else [of_last], list(last), name)
            for name in ("image_auroc", "pixel_ap")
        }
        final = _final(truth, last, rules) | (_over_time(truth, last, matrices) if rules.continual else {})
        matrices["image_auroc_by_defect"] = _by_defect(truth, last, rules)
        strips = {
            f"cases_of_{rules.categories[category]}": cases(truth, own, rules)
            for category, own in last.items()
            if own.grids is not None
        }
        return Scores(
            final=final,
            per_stage=per_stage,
            probes=probes,
            matrices=matrices,
            axes=_axes(rules),
            strips=strips,
        )


def judged(truth: Truth, answer: StoredPrediction, rules: Rules) -> dict[int, Judged]:
    """Return what `answer` says of every category that was asked for, pixels included."""
    return {
        category: _with_pixels(truth, own, rules)
        for category, own in _of_images(truth, answer, rules).items()
    }


def cases(truth: Truth, own: Judged, rules: Rules) -> tuple[NDArray[np.float32], list[str]]:
    """Return image, mask and map side by side, float32 (rows, 3, h, w, 3) in [0, 1], and what each row shows.

    Rows: the defective images that scored highest and lowest, and the normal one that scored highest, as far
    as there are any. A mask is grey where there is none. Maps run from black over red and yellow to white
    between the extremes of the category.
    """
    assert own.grids is not None  # the caller has seen to it
    kinds = [("highest", own.anomalous, 1), ("lowest", own.anomalous, -1), ("highest", ~own.anomalous, 1)]
    rows = [
        (name, int(np.argmax(np.where(group, sign * own.scores, -np.inf))))
        for name, group, sign in kinds
        if group.any()
    ]
    places = np.array([place for _, place in rows])
    ids = own.ids[places]
    captions = [
        f"{name}: {rules.defects[defect]}"
        for (name, _), defect in zip(rows, truth.facts["defect"][ids], strict=True)
    ]
    images = truth.facts["picture"][ids] / np.float32(255)
    size = [min(side, _LONGEST_SIDE) for side in images.shape[2:]]
    masks = truth.facts["mask"][ids].astype(np.float32)
    masks[~truth.facts["has_mask"][ids] & own.anomalous[places]] = 0.5
    low, high = own.span
    maps = (
        (rules.post.evaluated(own.grids[places], ground_of(own.grids)).maps - low) / ((high - low) or 1.0)
    ).astype(np.float32)
    colours = np.clip(np.stack([3 * maps, 3 * maps - 1, 3 * maps - 2], axis=1), 0, 1)
    panels = [_resized(panel, size) for panel in (images, masks[:, None], colours)]
    return np.stack(
        [np.moveaxis(np.broadcast_to(panel, (len(rows), 3, *size)), 1, -1) for panel in panels], axis=1
    ), captions


# --- one answer ---------------------------------------------------------------------------------------------


def _of_images(truth: Truth, answer: StoredPrediction, rules: Rules) -> dict[int, Judged]:
    """Return what `answer` says of images."""
    grids, given = _answered(answer)
    category, anomalous = truth.facts["category"][answer.ids], truth.facts["anomalous"][answer.ids]
    found = {}
    for number in np.unique(category):
        places = np.flatnonzero(category == number)
        own = None if grids is None else grids[places]
        values = None if given is None else given[places]
        if values is None:
            assert own is not None  # one of both was answered
            values = rules.post.image_scores(own, ground_of(own))
        found[int(number)] = Judged(
            ids=answer.ids[places],
            scores=values,
            anomalous=anomalous[places],
            grids=own,
            span=(NAN, NAN),
            figures=_image_figures(values, anomalous[places]),
        )
    return found


def _answered(answer: StoredPrediction) -> tuple[AnyArray | None, AnyArray | None]:
    """Return maps and image scores, None where they were not answered."""
    grids, given = answer.arrays.get("anomaly_maps"), answer.arrays.get("anomaly_scores")
    if grids is None and given is None:
        said = ", ".join(answer.arrays) or "nothing"
        raise UserError(
            f"stage {answer.stage} was answered with {said}, but anomaly detection needs anomaly_maps or anomaly_scores"
        )
    if grids is not None and (grids.ndim != 3 or 0 in grids.shape[1:]):
        raise UserError(
            f"anomaly_maps must be (N, h, w), one map per image, but stage {answer.stage} was answered "
            f"with {grids.shape}"
        )
    if given is not None and given.ndim != 1:
        raise UserError(
            f"anomaly_scores must be (N,), one per image, but stage {answer.stage} was answered with {given.shape}"
        )
    return grids, given


def _with_pixels(truth: Truth, own: Judged, rules: Rules) -> Judged:
    """Add what the maps say of pixels; NaN where there are no maps."""
    counts, low, high = figures.PixelCounts(), np.inf, -np.inf
    drawn = truth.facts["has_mask"][own.ids] & own.anomalous
    counted = drawn | ~own.anomalous
    for places, found in rules.post.chunks(own.grids, ground_of(own.grids)) if own.grids is not None else ():
        masks = np.zeros(found.maps.shape, dtype=np.bool_)
        masks[drawn[places]] = truth.facts["mask"][own.ids[places][drawn[places]]]
        for values, mask in zip(found.maps[counted[places]], masks[counted[places]], strict=True):
            counts.add(values, mask)
        low, high = min(low, float(found.maps.min())), max(high, float(found.maps.max()))
    pixels = counts.figures(rules.fpr_limit)
    named = {
        "pixel_auroc": pixels.auroc,
        "pixel_ap": pixels.average_precision,
        "pixel_f1_max": pixels.f1_max,
        "aupro": pixels.aupro,
    }
    return own._replace(figures={**own.figures, **named}, span=(low, high))


def _image_figures(values: AnyArray, anomalous: NDArray[np.bool_]) -> dict[str, float]:
    table = levels(values, anomalous)
    return {"image_auroc": auroc(table), "image_ap": average_precision(table), "image_f1_max": f1_max(table)}


# --- the run ------------------------------------------------------------------------------------------------


def _final(truth: Truth, last: Stage, rules: Rules) -> dict[str, float]:
    """Return the figures of every category's last answer."""
    by_category = {
        f"image_auroc_of_{rules.categories[category]}": own.figures["image_auroc"]
        for category, own in last.items()
    }
    each = np.array(list(by_category.values()))
    found = {name: _mean([own.figures for own in last.values()], name) for name in last[min(last)].figures}
    found["worst_image_auroc"] = float(np.nanmin(each)) if np.isfinite(each).any() else NAN
    if rules.pooled:
        values = np.concatenate([own.scores for own in last.values()])
        anomalous = np.concatenate([own.anomalous for own in last.values()])
        found[POOLED.name] = auroc(levels(values, anomalous))
    if rules.samples:
        found[SAMPLES.name] = mean_of_finite(np.array([_of_samples(truth, own) for own in last.values()]))
    return found | by_category


def _of_samples(truth: Truth, own: Judged) -> float:
    """Return the AUROC of objects: the largest score of an object's images, which is defective where one of
    them is.
    """
    number, place = np.unique(truth.facts["sample"][own.ids], return_inverse=True)
    largest, anomalous = np.full(len(number), -np.inf), np.zeros(len(number), dtype=np.bool_)
    np.maximum.at(largest, place, own.scores)
    np.logical_or.at(anomalous, place, own.anomalous)
    return auroc(levels(largest, anomalous))


def _in_order_of_arrival(truth: Truth, last: Stage) -> dict[int, Judged]:
    return dict(sorted(last.items(), key=lambda item: (_arrival(truth, item[1]), item[0])))


def _arrival(truth: Truth, own: Judged) -> int:
    return int(truth.facts["stage"][own.ids[:1]][0])


def _over_time(truth: Truth, last: Stage, matrices: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return what became of the categories as others arrived."""
    arrival = np.array([_arrival(truth, own) for own in last.values()])
    images, pixels = (figures.continual(matrices[name], arrival) for name in ("image_auroc", "pixel_ap"))
    return {
        "forgetting": images.forgetting,
        "pixel_ap_forgetting": pixels.forgetting,
        "backward_transfer": images.backward_transfer,
        "learning_image_auroc": images.learning,
        "incremental_image_auroc": images.incremental,
    }


def _matrix(
    stages: Sequence[Mapping[int, Mapping[str, float]]], categories: Sequence[int], name: str
) -> NDArray[np.float64]:
    """Return a figure after every stage and of every category, float64 (stages, categories); NaN where it was
    not asked for.
    """
    return np.array(
        [[stage[category][name] if category in stage else NAN for category in categories] for stage in stages]
    )


def _axes(rules: Rules) -> dict[str, Axes]:
    over_time = Axes("after stage", "category in order of arrival")
    by_defect = Axes("category", "kind of defect", rules.categories, rules.defects[1:])
    return {"image_auroc": over_time, "pixel_ap": over_time, "image_auroc_by_defect": by_defect}


def _by_defect(truth: Truth, last: Stage, rules: Rules) -> NDArray[np.float64]:
    """Return the image AUROC of every kind of defect against the normal images of its category, float64
    (categories, kinds - 1).
    """
    table = np.full((len(rules.categories), len(rules.defects) - 1), NAN)
    for category, own in last.items():
        defect = truth.facts["defect"][own.ids]
        for kind in np.unique(defect[own.anomalous]):
            chosen = ~own.anomalous | (defect == kind)
            table[category, kind - 1] = auroc(levels(own.scores[chosen], own.anomalous[chosen]))
    return table


def _mean(categories: Iterable[Mapping[str, float]], name: str) -> float:
    return mean_of_finite(np.array([figures[name] for figures in categories]))


def _resized(panel: AnyArray, size: Sequence[int]) -> AnyArray:
    """Return `panel` (n, C, H, W) at `size` pixels, each the nearest one."""
    rows, columns = (
        ((np.arange(wanted) + 0.5) * held / wanted).astype(np.int64)
        for wanted, held in zip(size, panel.shape[2:], strict=True)
    )
    return panel[:, :, rows[:, None], columns]


__all__ = [
    "CONTINUAL",
    "METRICS",
    "POOLED",
    "SAMPLES",
    "AnomalyScorer",
    "Judged",
    "Rules",
    "cases",
    "judged",
    "metrics_of",
]


def auroc_by_category(scores: Scores, *, last: int) -> list[ClassCounts]:
    """Return the image AUROC of every category that has one, each counted once, after every stage, or after
    stage `last` alone.
    """
    prefix = "image_auroc_of_"
    table = scores.matrices["image_auroc"]
    names = tuple(name.removeprefix(prefix) for name in scores.final if name.startswith(prefix))
    known = np.isfinite(table)
    arrival = np.argmax(known, axis=0).astype(np.int64)
    stages = range(len(table)) if len(table) > 1 else [last]
    rows = zip(stages, np.nan_to_num(table), known.astype(np.int64), strict=True)
    return [ClassCounts(stage, right, n_items, arrival, names) for stage, right, n_items in rows]
