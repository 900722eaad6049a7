"""Happy's parts against independent derivations, what their gradients reach, and the equivalences its
shortcuts rest on.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkout import SUPPORT
from fakes import FakeContext, stage_of, stage_without_labels
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim.optimizer import register_optimizer_step_pre_hook
from worlds import HiddenBlobs

from harness.cell.run import CellSettings, run_cell
from harness.cell.sealing import build, fully_labelled, seal
from harness.contracts import StoredPrediction
from harness.errors import Diverged, Unsuitable, UserError
from harness.networks import maker
from harness.plugins import find
from harness.protocol.cells import cells, contenders, protocols
from harness.protocol.stage_sharing import stage_keys
from harness.store import predictions
from strategies.cgcd.happy import Happy
from strategies.toolkit.augmentations import Noise, Same
from strategies.toolkit.discovery.network import CosineClassifier, DiscoveryNetwork, Projector, usual_length
from strategies.toolkit.discovery.two_views import CachedViews, Fresh
from strategies.toolkit.networks import Adapter
from strategies.toolkit.networks.vit_blocks import taken_apart

LABELS = np.arange(30) % 3


def _context(**values: Any) -> FakeContext:
    return FakeContext(**{"augmentations": "noise[std=0.05]", **values})


def _started(**values: Any) -> Happy:
    strategy = Happy(**{"projector_width": 8, "projector_out": 4, **values})
    strategy.start(_context())
    strategy.learn(stage_of(0, LABELS, 3))
    return strategy


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# --- the network --------------------------------------------------------------------------------------------


def test_logits_are_cosines_whatever_the_length_of_rows_and_features() -> None:
    classifier = CosineClassifier(4, 3)
    features = torch.randn(5, 4, generator=_generator())
    expected = torch.cosine_similarity(features[:, None], classifier.v[None], dim=2)
    torch.testing.assert_close(classifier(features), expected)
    with torch.no_grad():
        classifier.v *= torch.tensor([[2.0], [0.1], [7]])
    torch.testing.assert_close(classifier(9 * features), expected)


def test_a_short_row_turns_faster() -> None:
    """The gradient of a cosine with respect to v goes with 1 / |v|: twice the length, half the gradient."""
    gradients = []
    for length in (1.0, 2.0):
        classifier = CosineClassifier(4, 2)
        with torch.no_grad():
            classifier.v[:] = length * normalize(torch.arange(8.0).reshape(2, 4) - 3, dim=1)
        classifier(torch.ones(1, 4)).sum().backward()
        assert classifier.v.grad is not None
        gradients.append(classifier.v.grad)
    torch.testing.assert_close(gradients[0], 2 * gradients[1])


def test_fresh_rows_have_the_usual_length_of_root_a_third() -> None:
    assert usual_length(768, 50, _generator()) == pytest.approx(math.sqrt(1 / 3), abs=0.005)
    torch.manual_seed(0)
    assert float(CosineClassifier(768, 50).v.detach().norm(dim=1).mean()) == pytest.approx(
        math.sqrt(1 / 3), abs=0.005
    )


def test_the_projector_has_the_published_shape_and_start() -> None:
    projector = Projector(768, 2048, 256)
    assert (
        sum(weight.numel() for weight in projector.parameters())
        == 768 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 256 + 256
    )
    assert float(projector[0].weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert not projector[4].bias.any()


@pytest.mark.parametrize(
    ("text", "shape", "parts"),
    [
        ("mlp[width=8,depth=3]", (5,), 3),
        ("cnn[width=8]", (1, 14, 14), 3),
        ("adapter", (6, 8), 2),
        ("adapter", (8,), 2),
    ],
)
def test_a_backbone_is_its_parts_one_after_another(text: str, shape: tuple[int, ...], parts: int) -> None:
    backbone: Any = maker("backbone", text)(shape)
    inputs = torch.randn(3, *shape, generator=_generator())
    hidden = inputs
    for part in backbone.parts():
        hidden = part(hidden)
    assert len(backbone.parts()) == parts
    torch.testing.assert_close(hidden, backbone(inputs))
    assert hidden.shape == (3, backbone.features)


def test_the_adapter_takes_the_direction_of_the_mean_over_present_tokens() -> None:
    adapter = Adapter((3, 2))
    item = torch.tensor([[[3.0, 0], [0, 4], [0, 0]]])
    torch.testing.assert_close(adapter.pool(item), normalize(torch.tensor([[1.5, 2.0]]), dim=1))


@pytest.mark.parametrize("options", [{}, {"init_values": 0.1}, {"qk_norm": True}, {"qkv_bias": False}])
def test_the_last_block_for_one_token_equals_the_whole_one(options: dict[str, Any]) -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=32, patch_size=8, **options
    ).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        whole = model(images)
        trunk, last = taken_apart(model)
        torch.testing.assert_close(last(trunk(images)), whole, atol=1e-5, rtol=1e-5)
    assert not any(weight.requires_grad for weight in last.norm.parameters())
    assert not {id(w) for w in trunk.parameters()} & {id(w) for w in last.parameters()}


def test_other_transformers_stay_whole() -> None:
    import timm

    model = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=32, patch_size=8, global_pool="avg"
    )
    assert taken_apart(model) == []


def test_frozen_parts_get_no_gradient_and_the_rest_does() -> None:
    for trainable, moving in (("all", [True, True]), ("last", [False, True]), ("head", [False, False])):
        network = (
            DiscoveryNetwork(FakeContext(backbone="mlp[width=8,depth=2]"), width=8, out=4)
            .build((5,), 3)
            .freeze(trainable)
        )
        network.classifier(network(torch.randn(4, 5))).square().sum().backward()
        assert [any(w.grad is not None for w in part.parameters()) for part in network.parts] == moving


def test_the_previous_network_stays_while_the_current_one_moves() -> None:
    network = DiscoveryNetwork(FakeContext(), width=8, out=4).build((5,), 3)
    previous, inputs = network.previous(), torch.randn(4, 5)
    before = previous(network.hidden(inputs))
    torch.testing.assert_close(before, network(inputs))
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1
    torch.testing.assert_close(previous(network.hidden(inputs)), before)


def test_matrices_decay_and_vectors_do_not() -> None:
    network = DiscoveryNetwork(FakeContext(), width=8, out=4).build((5,), 3)
    matrices, vectors = network.weights(decay=0.5)
    assert {w.ndim for w in matrices["params"]} == {2}
    assert {w.ndim for w in vectors["params"]} == {1}
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.5, 0.0)


def test_a_bank_gives_two_different_kept_views_and_what_the_previous_network_made_of_them() -> None:
    network = (
        DiscoveryNetwork(FakeContext(backbone="mlp[width=8,depth=2]"), width=8, out=4)
        .build((5,), 3)
        .freeze("last")
    )
    previous, inputs = network.previous(), torch.randn(10, 5)
    bank = CachedViews(network, inputs, Noise(std=0.5), _generator(), 3, previous)
    rows = torch.tensor([7, 2, 2])
    for _ in range(20):
        hidden, before = bank.pair(inputs[rows], rows)
        first, second = hidden.chunk(2)
        assert (first != second).any(dim=1).all()
        assert before is not None
        torch.testing.assert_close(before, previous(hidden))
        kept = bank.hidden[:, rows].float()
        assert all((kept[:, place] == first[place]).all(dim=1).any() for place in range(3))


def test_a_bank_of_one_view_is_refused() -> None:
    with pytest.raises(UserError, match="at least two views"):
        _started(cached_views=1).learn(stage_without_labels(1, 24))


def test_without_change_a_bank_and_fresh_views_are_the_same() -> None:
    network = DiscoveryNetwork(FakeContext(), width=8, out=4).build((5,), 3)
    inputs, rows = torch.randn(6, 5), torch.tensor([1, 4])
    fresh = Fresh(network, Same(), _generator()).pair(inputs[rows], rows).hidden
    torch.testing.assert_close(
        CachedViews(network, inputs, Same(), _generator(), 2).pair(inputs[rows], rows).hidden,
        fresh,
        atol=1e-3,
        rtol=1e-3,
    )


# --- stage 0 ------------------------------------------------------------------------------------------------


def test_stage_0_adds_up_as_in_the_code_and_as_in_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every loss a known constant: 0.65 (2 + 3 m) + 0.35 CE + 0.65 x 5 + 0.35 x 7, or CE + 0.35 x 7 +
    0.65 x 5.
    """
    from strategies.toolkit.discovery import losses

    for name, value in {
        "self_distillation": 2.0,
        "mean_entropy": 3.0,
        "info_nce": 5.0,
        "supervised_contrastive": 7.0,
    }.items():
        monkeypatch.setattr(losses, name, lambda *_, value=value, **__: torch.tensor(value))
    logits, labels = torch.randn(4, 3, generator=_generator()), torch.tensor([0, 1, 0, 1])
    classify = float(cross_entropy(logits / 0.1, labels))
    code = Happy(first_entropy=2.0).first_total(logits, logits, labels, 0.05)
    paper = Happy(first_loss="paper").first_total(logits, logits, labels, 0.05)
    assert float(code) == pytest.approx(0.65 * (2 + 2 * 3) + 0.35 * classify + 0.65 * 5 + 0.35 * 7)
    assert float(paper) == pytest.approx(classify + 0.35 * 7 + 0.65 * 5)


@pytest.mark.parametrize(
    ("changes", "warmup", "expected"),
    [
        ("step", 0.5, [0.07, 0.064, 0.058, 0.052, 0.046, 0.04, 0.04, 0.04, 0.04, 0.04]),
        ("step", 0.0, [0.04] * 10),
        ("epoch", 0.6, [0.07, 0.07, 0.055, 0.055, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04]),
        ("epoch", 1.0, [0.07, 0.07, 0.0625, 0.0625, 0.055, 0.055, 0.0475, 0.0475, 0.04, 0.04]),
        ("epoch", 0.2, [0.07, 0.07, *[0.04] * 8]),
        ("epoch", 0.0, [0.04] * 10),
    ],
)
def test_the_teacher_of_both_stages_sharpens_as_its_schedule(
    changes: str, warmup: float, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five passes of two batches: a line over the steps, or between epochs numpy's linspace with both ends,
    as in the released code.
    """
    from strategies.toolkit.discovery import losses

    strategy = Happy(
        projector_width=8,
        projector_out=4,
        rate_changes=changes,
        warmup=warmup,
        later_warmup=warmup,
        later_teacher_start=0.07,
        later_teacher=0.04,
    )
    strategy.start(_context(epochs=5, batch_size=16))
    seen: list[float] = []
    real = losses.self_distillation

    def note(*logits: Tensor, teacher_temperature: float, **others: float) -> Tensor:
        seen.append(teacher_temperature)
        return real(*logits, teacher_temperature=teacher_temperature, **others)

    monkeypatch.setattr(losses, "self_distillation", note)
    strategy.learn(stage_of(0, LABELS, 3))
    strategy.learn(stage_without_labels(1, 32))
    assert seen == pytest.approx(expected + expected)


@pytest.mark.parametrize(("changes", "batches"), [("epoch", 4), ("step", 1)])
def test_the_rate_of_both_stages_falls_between_epochs_or_steps(changes: str, batches: int) -> None:
    """Half a cosine from 0.1, then from 0.01, each to its thousandth, over two passes of four batches."""
    rates: list[float] = []
    handle = register_optimizer_step_pre_hook(
        lambda optimiser, *_: rates.append(optimiser.param_groups[0]["lr"])
    )
    try:
        _started(rate_changes=changes).learn(stage_without_labels(1, 32))
    finally:
        handle.remove()
    shares = [(step - step % batches) / 8 for step in range(8)]
    falling = [1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * share)) for share in shares]
    assert rates == pytest.approx([0.1 * each for each in falling] + [0.01 * each for each in falling])


def test_a_warm_up_longer_than_the_stage_is_refused() -> None:
    with pytest.raises(UserError, match="warmup should be less than or equal to 1"):
        Happy(warmup=1.5)


@pytest.mark.parametrize("name", sorted(Happy.presets))
def test_presets_are_valid_and_say_where_they_come_from(name: str) -> None:
    preset = Happy.presets[name]
    strategy = Happy(**preset.values)
    assert {key: getattr(strategy, key) for key in preset.values} == dict(preset.values)
    assert preset.source


# --- initialisation -----------------------------------------------------------------------------------------


def test_new_rows_start_at_the_clusters_least_like_a_known_class() -> None:
    """Derived by hand and by scikit-learn: three known directions, two unknown; the new rows are the unknown
    ones, at the usual length.
    """
    strategy = Happy(restarts=20)
    strategy.start(_context(backbone="mlp[width=6,depth=1]"))
    strategy.network.build((5,), 3)
    strategy.known = strategy.known_before = 3
    with torch.no_grad():
        strategy.network.classifier.v[:] = 0.6 * torch.eye(3, 6)
    directions = torch.eye(6)[torch.arange(200) % 5] + 0.05 * torch.randn(200, 6, generator=_generator())
    strategy.grow(7 * directions, 2)
    rows = strategy.network.classifier.v.detach()
    oracle = KMeans(5, n_init=20, random_state=0).fit(normalize(directions, dim=1).numpy()).cluster_centers_
    likeness = (oracle / np.linalg.norm(oracle, axis=1, keepdims=True))[:, :3].max(axis=1)
    expected = oracle[np.argsort(likeness)[:2]]
    torch.testing.assert_close(rows[:3], 0.6 * torch.eye(3, 6))
    np.testing.assert_allclose(
        normalize(rows[3:], dim=1), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4
    )
    np.testing.assert_allclose(rows[3:].norm(dim=1), math.sqrt(1 / 3), rtol=0.15)


def test_prototype_seeded_clusters_leave_the_known_ones_their_place() -> None:
    strategy = Happy(initialise="prototypes")
    strategy.start(_context(backbone="mlp[width=6,depth=1]"))
    strategy.network.build((5,), 3)
    strategy.known = strategy.known_before = 3
    strategy.means = torch.eye(3, 6)
    points = torch.eye(6)[3 + torch.arange(100) % 2] + 0.05 * torch.randn(100, 6, generator=_generator())
    strategy.grow(points, 2)
    new = normalize(strategy.network.classifier.v[3:].detach(), dim=1)
    assert sorted(new.argmax(dim=1).tolist()) == [3, 4]


def test_fewer_items_than_clusters_leave_some_rows_fresh() -> None:
    strategy = _started()
    strategy.learn(stage_without_labels(1, 2, new=4))
    assert strategy.network.rows == 7


def test_a_stage_without_new_classes_adds_no_row_and_is_learnt() -> None:
    strategy = _started()
    before = strategy.network.classifier.v.detach().clone()
    strategy.learn(stage_without_labels(1, 24, new=0))
    assert strategy.network.rows == len(strategy.means) == 3
    assert not torch.equal(strategy.network.classifier.v.detach(), before)
    strategy.learn(stage_without_labels(2, 24, new=2))
    assert strategy.network.rows == len(strategy.means) == 5


# --- later stages -------------------------------------------------------------------------------------------


def test_rehearsal_moves_rows_of_the_classifier_alone() -> None:
    strategy = _started()
    strategy.known_before = 3
    strategy.network.set_rows(5)
    strategy.network.zero_grad()
    strategy.rehearsal_loss(torch.ones(3), 64, _generator()).backward()
    reached = {
        name
        for name, weight in strategy.network.named_parameters()
        if weight.grad is not None and weight.grad.any()
    }
    assert reached == {"classifier.v"}
    assert strategy.network.classifier.v.grad is not None
    assert strategy.network.classifier.v.grad[3:].any(), "new rows are pushed away"


def test_rehearsal_is_the_cross_entropy_of_what_was_drawn_with_the_radius_of_stage_0() -> None:
    from strategies.cgcd.prototypes import rehearsed

    strategy = _started(radius_scale=2.0)
    value = strategy.rehearsal_loss(torch.ones(3), 64, _generator())
    radius = math.sqrt(float(strategy.variances[:3].mean()))
    features, labels = rehearsed(
        normalize(strategy.means, dim=1), torch.tensor([[2 * radius]]), torch.ones(3), 64, _generator()
    )
    logits = normalize(features, dim=1) @ normalize(strategy.network.classifier.v, dim=1).T
    assert float(value) == pytest.approx(float(cross_entropy(logits / 0.1, labels)), rel=1e-4)


def test_the_shared_radius_does_not_change_once_stage_0_is_over() -> None:
    strategy = _started()
    before = strategy.variances[:3].clone()
    strategy.learn(stage_without_labels(1, 24))
    torch.testing.assert_close(strategy.variances[:3], before)
    assert len(strategy.means) == len(strategy.variances) == 5


def test_new_prototypes_come_from_the_answers_and_fall_back_on_the_row() -> None:
    strategy = _started()
    strategy.known_before, strategy.known = 3, 5
    strategy.network.set_rows(5)
    features, rows = torch.eye(2, 16).repeat(3, 1), torch.tensor([3, 3, 3, 3, 0, 3])
    strategy.remember_new(features, rows)
    expected = features[rows == 3].mean(dim=0)
    torch.testing.assert_close(strategy.means[3], expected)
    torch.testing.assert_close(strategy.means[4], normalize(strategy.network.classifier.v[4].detach(), dim=0))


SWITCHES = [
    {"initialise": "random"},
    {"initialise": "prototypes"},
    {"entropy": "off"},
    {"entropy": "mean"},
    {"new_share": 0.8},
    {"share_target": "running"},
    {"rehearsal": "off"},
    {"rehearsal": "uniform", "radius_scale": 3.0},
    {"tau_hardness": 0.001},
    {"hardness": "max", "tau_hardness": 0.01},
    {"hardness": "standardised"},
    {"radius": "class"},
    {"radius": "coordinate"},
    {"radius_scale": 4.0},
    {"draws": 7},
    {"refresh": "drift"},
    {"refresh": "re-estimated"},
    {"distillation": "off"},
    {"distillation": "cosine"},
    {"distillation": "answers"},
    {"distillation_weight": 9.0},
    {"later_teacher": 0.09},
    {"later_teacher_start": 0.09, "later_warmup": 1.0},
    {"teacher_momentum": 0.9},
    {"assignment": "relaxed"},
    {"projection_loss": "msbreg"},
    {"contrast": 0.0},
    {"keep_projector": True},
    {"cached_views": 4},
    {"trainable": "head"},
    {"trainable": "all"},
    {"lr": 0.05},
    {"row_length": 3.0},
    {"rehearsal_weight": 4.0},
]


def _trained(**values: Any) -> tuple[bytes, bytes]:
    context = _context(backbone="mlp[width=16,depth=2]")
    strategy = Happy(**{"projector_width": 8, "projector_out": 4, "lr": 0.1, **values})
    strategy.start(context)
    strategy.learn(stage_of(0, LABELS, 3))
    first = strategy.network.classifier.v.detach().numpy().tobytes()
    for index in (1, 2):
        strategy.learn(stage_without_labels(index, 24))
    weights = [weight.detach().numpy().ravel() for weight in strategy.network.parameters()]
    return first, np.concatenate([*weights, strategy.means.numpy().ravel()]).tobytes()


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_every_switch_changes_what_is_learnt_after_stage_0_and_nothing_before(switch: dict[str, Any]) -> None:
    plain, switched = _trained(), _trained(**switch)
    assert plain[0] == switched[0]
    assert plain[1] != switched[1]


def test_later_stages_with_labels_and_first_ones_without_are_refused() -> None:
    strategy = _started()
    with pytest.raises(Unsuitable, match="stage 1 hands some over"):
        strategy.learn(stage_of(1, LABELS, 6))
    fresh = Happy()
    fresh.start(_context())
    with pytest.raises(Unsuitable, match="stage 0 hides some"):
        fresh.learn(stage_without_labels(0, 12))


def test_logits_that_are_not_numbers_end_as_diverged() -> None:
    strategy = _started()
    with torch.no_grad():
        strategy.network.classifier.v[0, 0] = torch.nan
    sealed = build(HiddenBlobs(), 0)
    query = sealed.episodes[0].query
    small = type(query)(ids=query.ids, inputs=np.asarray(query.inputs)[:, :5])
    with pytest.raises(Diverged, match="not finite"):
        strategy.predict(small)
    with pytest.raises(Diverged, match="loss is nan"):
        strategy.learn(stage_without_labels(1, 24))


@pytest.mark.parametrize("name", ["happy", "k-means", "ss-k-means", "frost"])
def test_features_too_long_for_their_format_end_as_diverged(name: str) -> None:
    """They are finite, and at unit length they were all zero, clustered and answered."""
    strategy: Any = find("strategy", name).cls(projector_width=8, projector_out=4)
    strategy.start(_context())
    strategy.learn(stage_of(0, LABELS, 3))
    with torch.no_grad():
        for weight in strategy.network.parts.parameters():
            weight *= 1e22
    with pytest.raises(
        Diverged, match="features of item 0 are not finite, or so large that their length is not"
    ):
        strategy.learn(stage_without_labels(1, 24))


def test_an_unknown_number_is_counted_and_never_falls_below_what_is_known() -> None:
    """Three far blobs, of which the learner knows none: 3 + 3 is found among 3 + 1 to 3 + 6."""
    strategy = Happy(search=6)
    strategy.start(_context())
    strategy.known = 3
    centres = 10 * torch.eye(6)
    features = centres[torch.arange(120) % 6] + 0.1 * torch.randn(120, 6, generator=_generator())
    assert strategy.count_new(stage_without_labels(1, 120, new=None), features) == 3
    assert strategy.count_new(stage_without_labels(1, 120, new=5), features) == 5
    strategy.known = 40
    assert strategy.count_new(stage_without_labels(1, 120, new=None), features) >= 1


# --- work done once -----------------------------------------------------------------------------------------


def _cells(*texts: str) -> list[Any]:
    return cells(protocols(["cgcd[preset=digits,first_epochs=2,epochs=2]"]), contenders(texts), 1)


def test_arms_share_stage_0_and_what_differs_there_does_not() -> None:
    keys = [
        stage_keys(cell)[0]
        for cell in _cells("happy", "happy[lr=0.5,search=9]", "simgcd", "k-means", "frost")
    ]
    assert len(set(keys)) == 1
    assert keys[0]
    others = _cells("happy[first_lr=0.01]", "joint-discovery", "replay", f"{SUPPORT / 'worlds.py'}:Means")
    assert stage_keys(others[0])[0] not in {keys[0], ""}
    assert stage_keys(others[1])[0] not in {
        keys[0],
        "",
    }  # with itself alone: the upper bound is dealt other labels
    assert [stage_keys(cell) for cell in others[2:]] == [(), ()]


def test_a_class_that_replaces_a_shared_method_shares_nothing() -> None:
    from harness.protocol.stage_sharing import owner_of_first_stage
    from strategies.cgcd.base import CategoryDiscovery

    class Other(Happy):
        def first_total(
            self, logits: Tensor, projections: Tensor, labels: Tensor, sharpness: float
        ) -> Tensor:
            return logits.sum()

    assert owner_of_first_stage(Happy) is CategoryDiscovery
    assert owner_of_first_stage(Other) is None


def test_a_shared_stage_0_gives_the_bytes_of_an_unshared_one(tmp_path: Path) -> None:
    world = HiddenBlobs()
    episodes = seal(world.deal(0), 0).episodes
    settings = CellSettings(root_seed=5, budget=world.budget())

    borrowed: dict[str, float] = {}

    def answered(name: str, shared: Path | None) -> list[StoredPrediction]:
        results = list(
            run_cell(find("strategy", name).cls(), episodes, settings, scratch=tmp_path, shared=[shared])
        )
        borrowed[name] = results[0].borrowed_s
        return [answer for result in results for answer in result.answers]

    shared = tmp_path / "first.pt"
    alone = {
        name: predictions.digest(answered(name, None)) for name in ("happy", "simgcd", "k-means", "frost")
    }
    for name in ("simgcd", "happy", "k-means", "frost"):  # the first trains, the others begin from there
        assert predictions.digest(answered(name, shared)) == alone[name]
    assert borrowed["simgcd"] == 0
    assert borrowed["happy"] == borrowed["k-means"] == borrowed["frost"] > 0


def test_the_upper_bound_learns_every_label_and_finds_every_class(tmp_path: Path) -> None:
    world = HiddenBlobs(items=40, epochs=10)
    sealed = seal(fully_labelled(world.deal(0)), 0)
    settings = CellSettings(root_seed=5, budget=world.budget())
    strategy = find("strategy", "joint-discovery").cls(projector_width=16)
    given = [
        answer
        for result in run_cell(strategy, sealed.episodes, settings, scratch=tmp_path)
        for answer in result.answers
    ]
    assert world.score(sealed.truth, given).final["average_accuracy"] > 0.9
    with pytest.raises(Unsuitable, match="needs every label"):
        list(
            run_cell(
                find("strategy", "joint-discovery").cls(),
                build(world, 0).episodes,
                settings,
                scratch=tmp_path,
            )
        )
