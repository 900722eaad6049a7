"""DEPICT: clusters and an autoencoder learnt together, without any label (Dizaji et al. 2017, "Deep
Clustering via Joint Convolutional Autoencoder Embedding and Relative Entropy Minimization"). The row of a
discovery board that transfers nothing from known classes.

    KL(Q || P) + KL(f || u) + reconstruction        f: mean of Q over the data, u: uniform

With P fixed the best Q is known in closed form (`targets`); with Q fixed the network takes gradient steps on
the cross-entropy of its noisy pass. First the autoencoder trains alone, then it is fitted to the clusters of
k-means, then both sides take turns.

Followed is the released code at e75840d, whose targets are sharper than the paper's; both are switches.
Differences: the parts of training are shares of the protocol's budget (there: at most 4,000, 1,000 and 4,000
epochs, each with a stop, the first two with the best weights on a tenth held out by the true labels; here
nothing is held out and the last step counts). What a batch is answered is noted from the clean pass of its
step (there: from another pass after it). Starts are k-means by faiss or, for the code's path-integral
linkage, Ward's. Labels of k-means are not shifted by one, and an incomplete last batch counts like the
others. The network is the method's own, for a backbone has no decoder, and its dropout takes the place of the
protocol's augmentations.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from harness.clustering import Points, assign, kmeans, unit
from harness.contracts import HIDDEN, Context, Prediction, Preset, Query, Stage, Strategy, param
from harness.errors import Unsuitable, UserError
from strategies.assignment.rules import by_frequency
from strategies.ncd.autoencoder import Autoencoder, reconstruction_loss
from strategies.toolkit.losses.robust import soft_cross_entropy
from strategies.toolkit.networks import drawn_from
from strategies.toolkit.training.loop import Batch, train
from strategies.toolkit.training.tensors import Items, as_tensor

Target = Literal["squared_freq", "sqrt_freq", "hard"]
Start = Literal["kmeans", "random", "agglomerative"]

_SAMPLE = 2000
"""Items that are linked at most; memory goes with their square."""


def targets(p: Tensor, kind: Target, *, frequency_prior: bool = True) -> Tensor:
    """Return what the network is to answer next, (N, K), from what it answers for all items, p (N, K): see
    `by_frequency`; without the prior `sqrt_freq` becomes p itself.

    hard: one at the largest of the released code's, times the largest p_ik of the row, which is the weight
    its loss has in that code.
    """
    if kind != "hard":
        return by_frequency(p, kind, prior=frequency_prior)
    wanted = by_frequency(p, "squared_freq", prior=frequency_prior)
    return one_hot(wanted.argmax(dim=1), p.shape[1]) * p.amax(dim=1, keepdim=True)


class DEPICT(Strategy):
    """Cluster the unlabelled items alone: known classes and their labels are not looked at."""

    lr: float = param(1e-3, "learning rate of Adam (published 1e-4 over far more steps)", gt=0, since_stage=1)
    autoencoder: float = param(
        0.4, "share of the training on reconstruction alone", ge=0, lt=1, since_stage=1
    )
    fitting: float = param(
        0.2, "share of the training on the clusters of the start", ge=0, lt=1, since_stage=1
    )
    target: Target = param(
        "squared_freq",
        "targets of the released code, of the paper, or hard ones",
        ablate=["sqrt_freq", "hard"],
        since_stage=1,
    )
    frequency_prior: bool = param(
        True, "whether targets are divided by the clusters' frequencies", ablate=[False], since_stage=1
    )
    reconstruction: float = param(
        1.0, "weight of the reconstruction beside the clusters", ge=0, ablate=[0.0], since_stage=1
    )
    layer_weights: float = param(
        0.1, "weight of either hidden depth in the reconstruction", ge=0, ablate=[0.0], since_stage=1
    )
    noise: float = param(0.1, "dropout of the noisy pass", ge=0, lt=1, ablate=[0.0], since_stage=1)
    init: Start = param(
        "kmeans",
        "first clusters: k-means, random items as centres, or Ward's linkage",
        ablate=["random", "agglomerative"],
        since_stage=1,
    )
    restarts: int = param(40, "starts of k-means", ge=1, since_stage=1)
    filters: int = param(50, "filters of either convolution, for images", ge=1, since_stage=1)
    units: int = param(128, "units of either hidden layer, for vectors", ge=1, unit="units", since_stage=1)

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {
            "code": Preset(values={"lr": 1e-4}, source="released DEPICT.py"),
            "paper": Preset(
                values={"lr": 1e-4, "target": "sqrt_freq"},
                source="closed form of the paper, the rest as released",
            ),
        }
    )

    def setup(self) -> None:
        """Make an empty network; nothing is known.

        Raises:
            UserError: nothing of the training is left for the clusters.
        """
        if self.autoencoder + self.fitting >= 1:
            raise UserError(
                f"autoencoder + fitting should be below 1, got {self.autoencoder:g} + {self.fitting:g} (DEPICT)"
            )
        self.network = ClusterNetwork(self.context, filters=self.filters, units=self.units, noise=self.noise)
        self.named_before = 0
        self.clusters = 0

    def learn(self, stage: Stage) -> None:
        """Count the classes of stage 0; cluster the unlabelled items of a later stage, with a new network.

        Raises:
            Unsuitable: a later stage that does not tell how many classes are new, or has no unlabelled item.
            Diverged: as `train` does.
        """
        self.named_before += self.clusters
        self.clusters = 0
        if stage.index == 0:
            self.named_before = stage.named_classes
            return
        hidden = torch.from_numpy(np.flatnonzero(stage.labels == HIDDEN))
        if not stage.new_classes:
            raise Unsuitable(
                f"makes as many clusters as there are new classes, and stage {stage.index} does not tell how many"
            )
        if not len(hidden):
            raise Unsuitable(f"clusters items without labels, and stage {stage.index} has none")
        self.clusters = stage.new_classes
        inputs = as_tensor(stage.inputs, self.context.device)[hidden]
        network = self.network.build(tuple(inputs.shape[1:]), self.clusters)
        network.autoencoder.measure(inputs)
        _Training(self, network.autoencoder.prepared(inputs)).run()

    def predict(self, query: Query) -> Prediction:
        """Answer the likeliest cluster of the last stage for every item, as if it were of a novel class;
        before one is learnt, class 0.

        Known classes cannot be told, for nothing is learnt of them: items of known classes get a cluster as
        well. `classes` counts clusters from the first class that was not named before, `among_novel` from 0,
        int64 (N,).
        """
        if not self.clusters:
            return Prediction(classes=np.zeros(len(query.ids), dtype=np.int64))
        network = self.network
        prepared = network.autoencoder.prepared(as_tensor(query.inputs, self.context.device))
        clusters = network.likelihoods(prepared).argmax(dim=1).cpu().numpy()
        return Prediction(classes=self.named_before + clusters, among_novel=clusters)


class ClusterNetwork(nn.Module):
    """An autoencoder whose embedding has as many dimensions as there are clusters, and a softmax layer on it."""

    def __init__(self, context: Context, *, filters: int, units: int, noise: float) -> None:
        """Take the sizes; the network itself is made by `build`, once the inputs' shape is known."""
        super().__init__()
        self.context, self.filters, self.units, self.noise = context, filters, units, noise
        self.item_shape: tuple[int, ...] = ()

    def build(self, item_shape: tuple[int, ...], clusters: int) -> Self:
        """Make all layers with weights from the stream `init`; raise `Unsuitable` as `Autoencoder` does."""
        with drawn_from(self.context, "init"):
            autoencoder = Autoencoder(
                item_shape, clusters, filters=self.filters, units=self.units, noise=self.noise
            )
            self.autoencoder = autoencoder.to(self.context.device)
            self.head = nn.Linear(clusters, clusters).to(self.context.device)
        self.item_shape = item_shape
        return self

    @torch.no_grad()
    def likelihoods(self, prepared: Tensor) -> Tensor:
        """Return the softmax of the clean pass, float32 (N, K)."""
        p: Tensor = self.head(self.autoencoder.embedded(prepared)).softmax(dim=1)
        return p

    def get_extra_state(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to build the network first."""
        return {
            "item_shape": list(self.item_shape),
            "clusters": self.head.out_features if self.item_shape else 0,
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is left to do; `load_state_dict` has built the network."""

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Build the network that `state` was taken from, then load its weights."""
        extra = state["_extra_state"]
        if extra["item_shape"]:
            self.build(tuple(extra["item_shape"]), extra["clusters"])
        return super().load_state_dict(state, strict=strict, assign=assign)


class _Training:
    """The three parts of a stage: reconstruction alone, fitting the start, and taking turns. Adam begins anew
    with each, as in the code.
    """

    def __init__(self, learner: DEPICT, prepared: Tensor) -> None:
        self.learner, self.prepared, self.network = learner, prepared, learner.network
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=learner.lr, fused=True)
        self.waiting = [
            (learner.autoencoder, self._fit_start),
            (learner.autoencoder + learner.fitting, self._take_turns),
        ]
        self.wanted: Tensor | None = None
        self.p = torch.zeros(len(prepared), learner.clusters, device=prepared.device)
        self.taking_turns = False

    def run(self) -> None:
        """Take the protocol's number of steps."""
        rows = torch.arange(len(self.prepared), device=self.prepared.device)
        train(
            self.network,
            Items(self.prepared, rows),
            self._loss,
            self.optimiser,
            self.learner.context,
            at_epoch=self._renew,
        )

    def _loss(self, batch: Batch) -> Tensor:
        while self.waiting and batch.done >= self.waiting[0][0]:
            self.waiting.pop(0)[1]()
            self.optimiser.state.clear()
        learner, autoencoder, head = self.learner, self.network.autoencoder, self.network.head
        clean, noisy = autoencoder.encode(batch.inputs), autoencoder.encode(batch.inputs, noisy=True)
        rebuilt = reconstruction_loss(
            autoencoder.decode(noisy.embedding), clean.depths, learner.layer_weights
        )
        if self.wanted is None:
            return rebuilt
        self.p[batch.rows] = head(clean.embedding).detach().float().softmax(dim=1)
        fitted = soft_cross_entropy(head(noisy.embedding).float(), self.wanted[batch.rows]).mean()
        return learner.reconstruction * rebuilt + fitted

    def _fit_start(self) -> None:
        """Cluster the embeddings, let the centres at unit length be the rows of the softmax layer and the
        clusters the targets.
        """
        learner, head = self.learner, self.network.head
        points = self.network.autoencoder.embedded(self.prepared).float().cpu().numpy()
        centres = first_centres(
            points,
            learner.clusters,
            learner.init,
            learner.context.stream("centres"),
            restarts=learner.restarts,
        )
        with torch.no_grad():
            head.weight[: len(centres)] = torch.from_numpy(unit(centres)).to(head.weight)
            head.bias.zero_()
        labels = torch.from_numpy(assign(points, centres)[0]).to(self.prepared.device)
        self.wanted = one_hot(labels, learner.clusters).float()

    def _take_turns(self) -> None:
        self.p = self.network.likelihoods(self.prepared)
        self.taking_turns = True
        self._renew(0)

    def _renew(self, _: int) -> None:
        """Renew the targets of all items, before a pass over them."""
        if self.taking_turns:
            self.wanted = targets(self.p, self.learner.target, frequency_prior=self.learner.frequency_prior)


def first_centres(
    points: Points, clusters: int, start: Start, rng: np.random.Generator, *, restarts: int = 40
) -> Points:
    """Return centres to begin with, float32 (min(K, N), K'), of points (N, K').

    kmeans: the best of `restarts`.  random: as many points.  agglomerative: means of Ward's clusters of at
    most 2,000 points.
    """
    count = min(clusters, len(points))
    drawn = rng.permutation(len(points))
    if start == "kmeans":
        return kmeans(points, count, rng, restarts=restarts, iterations=300).centres
    if start == "random":
        return points[drawn[:count]]
    from sklearn.cluster import AgglomerativeClustering

    sample = points[drawn[:_SAMPLE]]
    labels = AgglomerativeClustering(count).fit_predict(sample) if count > 1 else np.zeros(len(sample))
    return np.stack([sample[labels == cluster].mean(axis=0) for cluster in range(count)])
