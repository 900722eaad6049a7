"""Anomaly detection: normal images are learned, and images with defects are to be told from others, and the
defects to be found in them.

Categories arrive in stages; a stage hands over normal images of its categories and asks test images, good and
defective, whose masks no learner sees. Settings: `single`, a learner for every category; `multi`, one for
all; `few-shot`, some normal images of each; `zero-shot`, learned on some categories and tested on others;
`continual`, category after category, tested on all so far. In any of them a share of the training images
can be defective (`contamination`).

Images come from photographs that installed packages ship, with drawn defects (`source=texture`; what that is
worth: `textures`), or from MVTec-AD, VisA, Real-IAD or any folder like them on the user's disk. `label` of an
item is the place of its category in order of arrival; the fact `category` is its number in the alphabetical
list, whatever the order. The category is known in training and not in the test.

Maps are brought to images and scores by the protocol, alike for every strategy: resizing, blur, share of
largest values, mask rule. No figure of test images enters it. Published codes choose epochs or rescale scores
by the test; that cannot be done here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator

from harness import seeds
from harness.contracts import (
    ClassCounts,
    Deal,
    DealtStage,
    IntArray,
    Metric,
    Prediction,
    Preset,
    Scenario,
    Scorer,
    StoredPrediction,
    TaskAccess,
    TrainingBudget,
    Truth,
    param,
)
from harness.errors import UserError
from scenarios.anomaly.defects import KINDS
from scenarios.anomaly.disk import disk_pool, hashed, kinds_of
from scenarios.anomaly.folders import ImageFile, Place, categories_of, folder_at
from scenarios.anomaly.names import PUBLISHED, chosen, foreign, listed
from scenarios.anomaly.pool import GOOD, Pool
from scenarios.anomaly.postprocess import Padding, PostProcess
from scenarios.anomaly.presets import PRESETS
from scenarios.anomaly.staging import (
    Setting,
    Step,
    check_test_categories,
    contaminated,
    few,
    rows_of,
    steps_of,
    strays,
)
from scenarios.anomaly.textures import CONTENTS, DIGESTS, Amounts, texture_pool
from scenarios.datasets.packed import Sizes

Text = Annotated[str, BeforeValidator(str)]


class Anomaly(Scenario):
    """Learn what is normal, tell what is not, and where."""

    source: Literal["texture", "mvtec", "mvtec-loco", "mvtec-ad-2", "visa", "realiad", "folder"] = param(
        "texture", "photographs with drawn defects, or a data set on disk"
    )
    root: Text = param(
        "", "its folder, below OWB_DATA where that is set; empty for one of the name of the source"
    )
    categories: Text = param("", "which categories, joined by +; empty for all")
    setting: Setting = param("multi", "what is learned at once and what is tested")
    order: Literal["alphabetical", "as-listed", "seed"] = param(
        "alphabetical", "in which order categories arrive"
    )
    base: int = param(1, "continual: categories of the first stage", ge=1, unit="categories")
    increment: int = param(1, "continual: categories of every later stage", ge=1, unit="categories")
    shots: int = param(4, "few-shot: normal images of every category", ge=1, unit="images")
    shot_scope: Literal["joint", "per-category"] = param(
        "joint", "few-shot: one learner for all categories, or one for each"
    )
    zero_shot_source: Text = param(
        "", "zero-shot: the categories that are learned, joined by +, such as visa:all; the test has others"
    )
    contamination: float = param(
        0.0, "share of every category's training images that are defective", ge=0, le=0.5
    )
    task_access: TaskAccess = param("train", "when the stage of a category is known: train, or also at test")

    content: Literal["surfaces", "photos"] = param("surfaces", "texture: which photographs")
    size: int = param(64, "texture: side of a crop", ge=16, unit="px")
    n_train: int = param(64, "texture: normal crops of every category to learn", ge=1, unit="images")
    n_good: int = param(20, "texture: normal crops of every category to test", ge=1, unit="images")
    n_bad: int = param(20, "texture: defective crops of every category to test", ge=1, unit="images")
    severity: Literal["easy", "medium", "hard"] = param("easy", "texture: how strongly defects show")
    kinds: Text = param("", "texture: kinds of defects, joined by +; empty for all")

    resize: int = param(448, "on disk: side that images are resized to", ge=16, unit="px")
    crop: int = param(392, "on disk: side of the centre that is kept; 0 for all", ge=0, unit="px")
    keep_aspect: bool = param(False, "on disk: resize the shorter side alone, then cut out a square")
    variant: Text = param("realiad_jsons", "realiad: folder of the lists of images")
    pixels: Literal[256, 512, 1024] = param(1024, "realiad: which size of the download", unit="px")
    cameras: Text = param("", "realiad: which cameras, such as C1+C2; empty for all")

    resolution: int = param(0, "side of evaluated maps and masks; 0 for that of the images", ge=0, unit="px")
    blur_sigma: float = param(4.0, "standard deviation of the blur of maps", gt=0, unit="px")
    blur_size: int = param(5, "side of the blur's window, odd; 0 for no blur", ge=0, unit="px")
    blur_padding: Padding = param(
        "zero", "what lies beyond the edge of a map when it is blurred; none leaves the blur out"
    )
    top: float = param(
        0.01, "share of largest values whose mean is the score of an image; 0 for the maximum", ge=0, le=1
    )
    mask_rule: Literal[">0.5", ">0"] = param(">0.5", "which pixels of a resized mask are defective")
    fpr_limit: float = param(
        0.3, "false positive rate up to which the overlap of regions is integrated", gt=0, le=1
    )
    pooled: bool = param(False, "report the image AUROC of all categories under one threshold too")

    backbone: str = param(
        "gabor",
        "frozen encoder: gabor, scattering, lite0, vit-tiny, or timm:NAME, with parameters in brackets",
    )
    epochs: int = param(20, "passes over a stage's training items", ge=1, unit="epochs")
    gradient_steps: int = param(0, "steps in a stage; 0 for as many as the epochs take", ge=0, unit="steps")
    batch_size: int = param(16, "items per gradient step", ge=1, unit="items")

    answers: ClassVar[tuple[str, ...]] = ("anomaly_maps|anomaly_scores",)
    frozen_encoder: ClassVar[bool] = True
    lower_bound: ClassVar[str] = "colour-statistics"
    upper_bound: ClassVar[str] = "joint-bank"
    presets: ClassVar[Mapping[str, Preset]] = PRESETS

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """The figures, with one of every category of the test; of a plain folder those that are listed by
        name.
        """
        from scenarios.anomaly.scoring import metrics_of

        by_name = () if self.source == "folder" and not self.categories else self.test_categories()
        return metrics_of(
            by_name,
            continual=self.setting == "continual",
            pooled=self.pooled,
            samples=self.source == "realiad",
        )

    @property
    def apart(self) -> bool:
        """Whether every category has a learner of its own."""
        return self.setting == "single" or (self.setting == "few-shot" and self.shot_scope == "per-category")

    @property
    def image_size(self) -> int:
        """The side of an image, in px."""
        return self.size if self.source == "texture" else self.crop or self.resize

    @property
    def evaluation_size(self) -> int:
        """The side of evaluated maps and masks, in px."""
        return self.resolution or self.image_size

    def budget(self) -> TrainingBudget:
        """Return encoder and budget, and whether every stage has a learner of its own."""
        return replace(super().budget(), gradient_steps=self.gradient_steps, apart=self.apart)

    def perfect(self, truth: Truth, ids: IntArray) -> Prediction:
        """Return masks as maps and what is anomalous as image scores."""
        return Prediction(
            anomaly_maps=truth.facts["mask"][ids].astype(np.float16),
            anomaly_scores=truth.facts["anomalous"][ids],
        )

    def data_digests(self) -> Mapping[str, str]:
        """Return the digest of the photographs, or of the files of the chosen categories on disk."""
        if self.source == "texture":
            return {f"texture-{self.content}": DIGESTS[self.content]}
        return {self.source: hashed(self._files(self._numbered())).digest()}

    def deal(self, seed: int) -> Deal:
        """Deal all stages under `seed`.

        Raises:
            UserError: a name, a number or a file that does not fit, named.
        """
        numbered, arriving = self._numbered(), self.arriving(seed)
        steps = self.steps(len(arriving))
        self._post()  # what cannot be scored is refused before anything is learned
        pool = self._texture_pool(numbered, seed) if self.source == "texture" else self._disk_pool(numbered)
        remain = (
            few(pool, self.shots, seed)
            if self.setting == "few-shot"
            else np.ones(len(pool.train), dtype=bool)
        )
        if self.source != "texture" and self.contamination:
            pool = contaminated(pool, remain, self.contamination, seed)
        check_test_categories(pool, self.test_categories())
        place = np.array([arriving.index(name) for name in numbered], dtype=np.int64)[pool.category]
        arrival = np.zeros(len(place), dtype=np.int64)
        stages = []
        for index, step in enumerate(steps):
            arrival[np.isin(place, [*step.learned])] = index
            rows = rows_of(pool, place, step.learned, train=True)
            rows = rows[remain[rows]]
            stages.append(
                DealtStage(
                    rows=rows,
                    observed_labels=place[rows],
                    query=rows_of(pool, place, step.test_categories, train=False),
                    named_classes=step.learned.stop,
                    new_classes=len(step.learned),
                )
            )
        facts = {
            "category": pool.category,
            "stage": arrival,
            "anomalous": pool.anomalous,
            "defect": pool.defect,
            "mask": pool.masks,
            "has_mask": pool.has_mask,
            "picture": pool.inputs,
        }
        if self.source == "realiad":
            facts["sample"] = pool.sample
        return Deal(
            inputs=pool.inputs,
            labels=place,
            facts=facts,
            stages=stages,
            task_access=self.task_access,
            class_numbers=np.array([numbered.index(name) for name in arriving], dtype=np.int64),
        )

    def per_class_measure(self) -> str:
        """Return in words what `correct_by_class` counts as right: the share of pairs of a defective and a
        normal image in order.
        """
        return "AUROC of images, by category"

    def correct_by_class(
        self, truth: Truth, answers: Sequence[StoredPrediction], class_names: tuple[str, ...]
    ) -> list[ClassCounts]:
        """Return the image AUROC of every category that has one, each counted once; the names of categories
        are the scenario's own.
        """
        from scenarios.anomaly.scoring import auroc_by_category

        return auroc_by_category(self.score(truth, answers), last=max(answer.stage for answer in answers))

    def scorer(self, truth: Truth) -> Scorer:
        """Score what was answered so far; refuse a strategy that answered neither maps nor scores by a
        `UserError`.
        """
        from scenarios.anomaly.scoring import AnomalyScorer, Rules

        numbered = self._numbered()
        kinds = (GOOD, *self._drawn_kinds()) if self.source == "texture" else kinds_of(self._files(numbered))
        rules = Rules(
            categories=numbered,
            defects=kinds,
            post=self._post(),
            fpr_limit=self.fpr_limit,
            pooled=self.pooled,
            continual=self.setting == "continual",
            samples=self.source == "realiad",
        )
        return AnomalyScorer(truth, rules)

    # --- categories -----------------------------------------------------------------------------------------

    def _valid(self) -> tuple[str, ...]:
        """Return all categories there are to choose from."""
        if self.source == "texture":
            return tuple(CONTENTS[self.content])
        return (
            PUBLISHED[self.source]
            if self.source in PUBLISHED
            else categories_of(folder_at(self.root, self.source))
        )

    def _named(self, text: str) -> tuple[str, ...]:
        return chosen(
            text,
            self._valid(),
            what="category",
            where=self.content if self.source == "texture" else self.source,
        )

    def test_categories(self) -> tuple[str, ...]:
        """Return the names of the categories of the test, as listed."""
        sources = listed(self.zero_shot_source) if self.setting == "zero-shot" else ()
        return tuple(name for name in self._named(self.categories) if self.categories or name not in sources)

    def _learned_only(self) -> tuple[str, ...]:
        """Return the names of the categories that are learned and not tested: those of zero-shot."""
        if self.setting != "zero-shot":
            return ()
        if not listed(self.zero_shot_source):
            raise UserError("setting=zero-shot needs zero_shot_source, the categories to learn from")
        sources, tested = foreign(self.zero_shot_source), self.test_categories()
        if self.source == "texture" and (elsewhere := [name for name in sources if ":" in name]):
            raise UserError(
                f"zero_shot_source={elsewhere[0]} is of a data set on disk, source=texture is not"
            )
        if own := "+".join(name for name in sources if ":" not in name):
            self._named(own)
        if both := sorted({*sources} & {*tested}):
            raise UserError(
                f"category {both[0]} is both in zero_shot_source and in categories; a zero-shot learner "
                "never sees what is tested"
            )
        if not tested:
            raise UserError("zero_shot_source names every category, so none is left to test")
        return sources

    def _numbered(self) -> tuple[str, ...]:
        """Return all categories that take part, in the order that numbers them."""
        return tuple(sorted({*self.test_categories(), *self._learned_only()}))

    def arriving(self, seed: int) -> tuple[str, ...]:
        """Return all categories that take part in order of arrival."""
        sources, tested = self._learned_only(), self.test_categories()
        if self.order == "as-listed":
            if not self.categories:
                raise UserError("order=as-listed needs categories, which say the order")
            return (*sources, *tested)
        if self.order == "alphabetical":
            return (*sorted(sources), *sorted(tested))
        drawn = [str(name) for name in seeds.stream("class-order", seed=seed).permutation(sorted(tested))]
        return (*sorted(sources), *drawn)

    def steps(self, categories: int) -> tuple[Step, ...]:
        """Return the stages of a stream of so many categories."""
        return steps_of(
            self.setting,
            categories,
            apart=self.apart,
            sources=len(self._learned_only()),
            base=self.base,
            increment=self.increment,
        )

    # --- images ---------------------------------------------------------------------------------------------

    def _drawn_kinds(self) -> tuple[str, ...]:
        return chosen(self.kinds, tuple(KINDS), what="kind of defect", where="texture")

    def _texture_pool(self, numbered: tuple[str, ...], seed: int) -> Pool:
        """Return crops of the photographs, stray defective ones among those that are learned."""
        normals = self.shots if self.setting == "few-shot" else self.n_train
        amounts = Amounts(self.n_train, self.n_good, self.n_bad, strays(self.contamination, normals))
        pool = texture_pool(
            self.content,
            numbered,
            amounts,
            size=self.size,
            severity=self.severity,
            kinds=self._drawn_kinds(),
            seed=seed,
        )
        nearest = np.arange(self.evaluation_size) * self.size // self.evaluation_size
        return replace(pool, masks=pool.masks[np.arange(len(pool.masks))][:, nearest][:, :, nearest])

    def _disk_pool(self, numbered: tuple[str, ...]) -> Pool:
        sizes = Sizes(resize=self.resize, crop=self.crop, keep_aspect=self.keep_aspect)
        return disk_pool(
            hashed(self._files(numbered)),
            numbered,
            sizes,
            resolution=self.evaluation_size,
            rule=self.mask_rule,
        )

    def _files(self, numbered: tuple[str, ...]) -> list[ImageFile]:
        """Return the images of the categories on disk."""
        place = Place(
            source=self.source, root=self.root, variant=self.variant, pixels=self.pixels, cameras=self.cameras
        )
        return place.files(numbered)

    def _post(self) -> PostProcess:
        side, resolution = self.image_size, self.evaluation_size
        return PostProcess(
            image_size=(side, side),
            resolution=(resolution, resolution),
            blur_size=self.blur_size,
            top=self.top,
            blur_sigma=self.blur_sigma,
            blur_padding=self.blur_padding,
        )
