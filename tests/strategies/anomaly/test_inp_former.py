"""INP-Former's blocks against loops, what its switches change, what it stores, and the views of few-shot
training.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from harness.contracts import Query, Stage
from harness.errors import UserError
from strategies.anomaly.inp_former import (
    VIEWS,
    Expanded,
    InpFormer,
    expanded,
    lifting,
    merged,
    principal_components,
)
from strategies.anomaly.inp_losses import nearest, prototype_distances
from strategies.anomaly.inp_modules import Design, ExtractorBlock, GuidedBlock, InpNetwork, by_group


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


def _textures(images: int, seed: int = 0) -> np.ndarray:
    """Return stripes of random phase under noise, uint8 (N, 3, 64, 64)."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:64, :64]
    waves = np.sin(0.8 * across + rng.uniform(0, 7, (images, 1, 1))) * np.sin(
        0.5 * down + rng.uniform(0, 7, (images, 1, 1))
    )
    grey = 128 + 50 * waves + 10 * rng.normal(size=(images, 64, 64))
    return np.clip(grey, 0, 255).astype(np.uint8)[:, None].repeat(3, axis=1)


def _stage(inputs: np.ndarray, labels: np.ndarray, index: int = 0) -> Stage:
    named = int(labels.max()) + 1
    return Stage(
        index=index,
        ids=np.arange(len(labels)),
        inputs=inputs,
        labels=labels,
        named_classes=named,
        new_classes=1,
    )


def _started(context: FakeContext | None = None, **values: Any) -> InpFormer:
    strategy = InpFormer(
        **{"width": 8, "heads": 2, "prototypes": 3, "decoder_blocks": 2, "expand": "never", **values}
    )
    strategy.start(context or FakeContext(backbone="gabor", epochs=3, batch_size=4))
    return strategy


_TOKENS = torch.randn(10, 2, 9, 6, generator=_generator(3))
_CATEGORIES = np.repeat([0, 1], 5)


def _fitted(context: FakeContext | None = None, **values: Any) -> InpFormer:
    """Return a learner of tokens with two groups, without an encoder."""
    strategy = _started(context, **values)
    strategy.fit(_TOKENS, torch.from_numpy(_CATEGORIES), _stage(np.zeros((10, 1)), _CATEGORIES))
    return strategy


# --- blocks against loops -----------------------------------------------------------------------------------


def _normed(row: Tensor, norm: Any) -> Tensor:
    return layer_norm(row, row.shape, norm.weight, norm.bias, 1e-8)


def _mlp(row: Tensor, mlp: Any) -> Tensor:
    norm, into, _, out = mlp
    return out.weight @ gelu(into.weight @ _normed(row, norm) + into.bias) + out.bias


def _shaken(block: Any) -> Any:
    """Give every weight, scale and bias a value of its own."""
    block.double()
    with torch.no_grad():
        for at, weight in enumerate(block.parameters()):
            weight.add_(0.3 * _drawn(*weight.shape, seed=at))
    return block


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("attention", ["relu", "softmax", "relu-rows"])
def test_guided_attention_equals_loops(attention: Any, unit: bool, residual: bool) -> None:
    heads, size, width = 2, 3, 6
    block = _shaken(
        GuidedBlock(width, Design(heads=heads, attention=attention, unit=unit, residual=residual))
    )
    tokens, prototypes = _drawn(2, 5, width), _drawn(2, 4, width, seed=1)
    expected = torch.zeros_like(tokens)
    for image in range(2):
        both = [block.kv.weight @ _normed(each, block.norm) + block.kv.bias for each in prototypes[image]]
        for place in range(5):
            query = block.q.weight @ _normed(tokens[image, place], block.norm) + block.q.bias
            gathered = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                keys, values = [each[:width][part] for each in both], [each[width:][part] for each in both]
                if unit:
                    products = [
                        float((query[part] @ key / query[part].norm() / key.norm()).detach()) for key in keys
                    ]
                else:
                    products = [float((query[part] @ key).detach()) / math.sqrt(size) for key in keys]
                weights = [float(block.scale[head].detach()) * product for product in products]
                if attention == "softmax":
                    weights = [math.exp(each) / sum(map(math.exp, weights)) for each in weights]
                else:
                    weights = [max(each, 0.0) for each in weights]
                if attention == "relu-rows":
                    weights = [each / max(sum(weights), 1e-12) for each in weights]
                gathered.append(
                    sum(
                        (each * value for each, value in zip(weights, values, strict=True)), torch.zeros(size)
                    )
                )
            attended = block.proj.weight @ torch.cat(gathered).double() + block.proj.bias
            attended = attended + tokens[image, place] if residual else attended
            expected[image, place] = attended + _mlp(attended, block.mlp)
    torch.testing.assert_close(block(tokens, prototypes), expected.detach())


def test_the_extractor_equals_plain_attention_over_the_tokens() -> None:
    heads, size, width = 2, 3, 6
    block = _shaken(ExtractorBlock(width, heads))
    queries, tokens = _drawn(1, 4, width), _drawn(3, 5, width, seed=1)
    found = block(queries, tokens)
    for image in range(3):
        seen = torch.stack([_normed(each, block.norm) for each in tokens[image]])
        for row in range(4):
            asked = block.q.weight @ _normed(queries[0, row], block.norm) + block.q.bias
            keys, values = seen @ block.k.weight.T, seen @ block.v.weight.T + block.v.bias
            parts = [slice(head * size, (head + 1) * size) for head in range(heads)]
            attended = torch.cat(
                [
                    torch.softmax(keys[:, part] @ asked[part] / math.sqrt(size), dim=0) @ values[:, part]
                    for part in parts
                ]
            )
            expected = queries[0, row] + block.proj.weight @ attended + block.proj.bias
            torch.testing.assert_close(found[image, row], expected + _mlp(expected, block.mlp))


def test_the_last_blocks_stand_for_the_first_group() -> None:
    outputs = [torch.full((1, 1, 1), float(number)) for number in range(8)]
    assert [float(group) for group in by_group(outputs, 2)] == [(4 + 5 + 6 + 7) / 4, (0 + 1 + 2 + 3) / 4]
    assert [float(group) for group in by_group(outputs, 8)] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert [float(group) for group in by_group(outputs, 1)] == [3.5]


def test_the_paper_network_has_the_published_number_of_weights() -> None:
    """4.72 M in the bottleneck, 7.09 M in the extractor (but for its idle bias), 56.70 M in the decoder."""
    width = 768
    with torch.device("meta"):
        guided, extractor = GuidedBlock(width, Design(heads=12)), ExtractorBlock(width, 12)
    sizes = [sum(weight.numel() for weight in block.parameters()) for block in (extractor, guided)]
    assert sizes[0] + width == pytest.approx(7.09e6, abs=5e3)
    assert 8 * sizes[1] == pytest.approx(56.70e6, abs=5e3)


def test_weights_start_cut_at_three_deviations_and_queries_standard_normal() -> None:
    network = InpNetwork(FakeContext(), Design(heads=4, prototypes=64, deviation=0.01)).build(64, 1)
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    values = torch.cat([layer.weight.detach().flatten() for layer in layers])
    assert float(values.abs().max()) <= 0.03
    assert float(values.std()) == pytest.approx(
        0.01 * 0.98658, rel=0.01
    )  # of a normal cut at three deviations
    assert not any(bool(layer.bias.detach().any()) for layer in layers if layer.bias is not None)
    assert float(network.queries.detach().std()) == pytest.approx(1.0, abs=0.05)
    assert all(bool((block.scale == 1).all()) for block in network.decoder)


@pytest.mark.parametrize(
    ("source", "shape"), [("image", (2, 3, 8)), ("learned", (1, 3, 8)), ("both", (2, 6, 8))]
)
def test_prototypes_come_from_the_image_the_queries_or_both(source: Any, shape: tuple[int, ...]) -> None:
    network = InpNetwork(FakeContext(), Design(heads=2, prototypes=3, decoder_blocks=2, source=source)).build(
        8, 2
    )
    tokens = torch.randn(2, 2, 5, 8, generator=_generator())
    rebuilt = network(tokens)
    assert rebuilt.prototypes.shape == shape
    assert [group.shape for group in rebuilt.groups] == [(2, 5, 8)] * 2
    if source != "image":
        assert torch.equal(rebuilt.prototypes[0, -3:], network.queries)


# --- width and groups ---------------------------------------------------------------------------------------


def test_lifting_keeps_lengths_and_cosines() -> None:
    tokens, matrix = _drawn(7, 5).float(), lifting(5, 12, _generator())
    torch.testing.assert_close((tokens @ matrix) @ (tokens @ matrix).T, tokens @ tokens.T)


def test_projection_takes_the_longest_directions_in_order() -> None:
    basis = torch.linalg.qr(_drawn(5, 5)).Q
    tokens = (_drawn(400, 5, seed=1) * torch.tensor([1.0, 9, 3, 0.1, 27])) @ basis.T
    found = principal_components(tokens.float().view(20, 2, 10, 5), 3)
    torch.testing.assert_close(
        (found.double().T @ basis[:, [4, 1, 2]]).abs(), torch.eye(3, dtype=torch.float64), atol=0.05, rtol=0
    )
    assert bool((found.gather(0, found.abs().argmax(dim=0, keepdim=True)) > 0).all())


@pytest.mark.parametrize(("width", "expected"), [(0, 6), (4, 4), (6, 6), (16, 16)])
def test_the_network_gets_the_width_that_was_asked_for(width: int, expected: int) -> None:
    strategy = _fitted(width=width)
    assert strategy.network.width == expected
    assert (strategy.projection is None) is (expected == 6)
    assert strategy.maps_of(_TOKENS).shape == (10, 9)


def test_neighbouring_groups_are_averaged() -> None:
    tokens = torch.arange(4.0).view(1, 4, 1, 1)
    assert merged(tokens, 2).flatten().tolist() == [0.5, 2.5]
    assert merged(tokens, 1).flatten().tolist() == [1.5]
    assert merged(tokens, 0) is tokens


# --- learning -----------------------------------------------------------------------------------------------

_SWITCHES: dict[str, Any] = {
    "prototypes": 2,
    "extractor_blocks": 2,
    "decoder_blocks": 4,
    "groups": 1,
    "fusion": "sum",
    "source": "learned",
    "attention": "softmax",
    "unit": False,
    "residual": True,
    "dropout": 0.2,
    "deviation": 0.01,
    "coherence": 0.0,
    "softness": 0.1,
    "gamma": 0.0,
    "mining": "image",
    "lr": 3e-3,
    "final_lr": 1e-5,
    "warmup": 0,
    "decay": 0.5,
    "clip_updates": False,
    "clip_norm": 0.0,
    "map": "prototypes",
    "heads": 4,
    "width": 16,
}


@pytest.mark.parametrize("name", _SWITCHES)
def test_every_switch_changes_the_map(name: str) -> None:
    usual, changed = (_fitted(**values).maps_of(_TOKENS) for values in ({}, {name: _SWITCHES[name]}))
    assert bool(torch.isfinite(changed).all())
    assert not torch.equal(usual, changed)


@pytest.mark.parametrize(("name", "value"), [("source", "both"), ("attention", "relu-rows")])
def test_third_choices_differ_from_both_others(name: str, value: str) -> None:
    maps = [_fitted(**values).maps_of(_TOKENS) for values in ({}, {name: _SWITCHES[name]}, {name: value})]
    assert not torch.equal(maps[2], maps[0])
    assert not torch.equal(maps[2], maps[1])


def test_declared_ablations_and_presets_are_valid() -> None:
    for preset in InpFormer.presets.values():
        InpFormer(**preset.values)
    small = InpFormer.presets["small"].values
    assert all(getattr(InpFormer(), name) == value for name, value in small.items())


def test_the_same_seed_gives_the_same_bytes_and_learning_goes_on_from_the_weights_before() -> None:
    first, second = _fitted(), _fitted()
    assert torch.equal(first.maps_of(_TOKENS), second.maps_of(_TOKENS))
    before = first.network.queries.detach().clone()
    first.fit(_TOKENS, torch.from_numpy(_CATEGORIES), _stage(np.zeros((10, 1)), _CATEGORIES, index=1))
    moved = (first.network.queries.detach() - before).abs().max()
    assert 0 < float(moved) < 0.1


def test_fewer_images_than_a_batch_and_a_long_warm_up_still_train() -> None:
    context = FakeContext(backbone="gabor", epochs=3, batch_size=64)
    strategy = _fitted(context, warmup=1000)
    assert context.probes == [1, 2, 3]
    assert all(math.isfinite(figures["loss"]) for _, _, figures in context.steps if "loss" in figures)
    assert not torch.equal(strategy.maps_of(_TOKENS), _started_at(strategy))


def _started_at(strategy: InpFormer) -> Tensor:
    fresh = _started(strategy.context)  # type: ignore[arg-type]
    fresh.build(_TOKENS)
    return fresh.maps_of(_TOKENS)


def test_the_budget_is_the_protocols() -> None:
    context = FakeContext(backbone="gabor", epochs=3, batch_size=4, gradient_steps=5)
    _fitted(context)
    assert context.probes == [1, 2, 3, 4, 5]
    assert {total for _, total, _ in context.steps} == {5}


def test_asking_in_mid_stage_changes_nothing() -> None:
    class Asking(FakeContext):
        def probe(self, step: int) -> None:
            asked.append(strategy.maps_of(_TOKENS))

    asked: list[Tensor] = []
    strategy = _started(Asking(backbone="gabor", epochs=3, batch_size=4), dropout=0.2)
    torch.manual_seed(0)
    strategy.fit(_TOKENS, torch.from_numpy(_CATEGORIES), _stage(np.zeros((10, 1)), _CATEGORIES))
    torch.manual_seed(0)
    assert torch.equal(strategy.maps_of(_TOKENS), _fitted(dropout=0.2).maps_of(_TOKENS))
    assert not torch.equal(asked[1], asked[-1])


def test_the_prototype_map_is_the_distance_from_the_nearest_prototype() -> None:
    strategy = _fitted(map="prototypes")
    fused = strategy.projected(_TOKENS).mean(dim=1)
    with torch.no_grad():
        prototypes = strategy.network.extracted(fused)
    cosines = torch.cosine_similarity(fused[:, :, None], prototypes[:, None], dim=3)
    torch.testing.assert_close(strategy.maps_of(_TOKENS), 1 - cosines.max(dim=2).values)
    torch.testing.assert_close(strategy.maps_of(_TOKENS), nearest(prototype_distances(fused, prototypes)))


def test_foreign_patches_are_stranger_than_the_texture() -> None:
    strategy = _started(
        FakeContext(backbone="gabor", gradient_steps=60, batch_size=8),
        width=32,
        heads=4,
        prototypes=4,
        warmup=20,
    )
    strategy.learn(_stage(_textures(24), np.zeros(24, dtype=np.int64)))
    images = _textures(8, seed=1)
    images[:, :, 16:40, 16:40] = 250
    query = Query(ids=np.arange(8), inputs=images)
    maps = strategy.predict(query).anomaly_maps
    assert maps is not None
    assert maps.shape == (8, 16, 16)
    assert maps.dtype == np.float32
    inside = np.zeros((16, 16), dtype=bool)
    inside[5:9, 5:9] = True
    assert (maps[:, inside].mean(axis=1) > 1.1 * maps[:, 12:].mean(axis=(1, 2))).all()
    alone = strategy.predict(Query(ids=np.arange(1), inputs=images[3:4])).anomaly_maps
    np.testing.assert_allclose(alone[0], maps[3], atol=2e-3)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"heads": 3}, "heads must divide the width of the tokens, got heads=3 and width 8"),
        ({"decoder_blocks": 3}, "every target map needs the same number of decoder blocks, got 3 for 2 maps"),
        ({"groups": 3}, "groups must divide the encoder's 2, got groups=3"),
        ({"prototypes": 0}, "prototypes"),
        ({"map": "both"}, "map"),
    ],
)
def test_what_does_not_fit_is_told(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        _fitted(**values)


# --- one stage after another --------------------------------------------------------------------------------


@pytest.mark.parametrize(("stored", "expected"), [(0, []), (2, [0, 0, 1, 1]), (9, [0] * 5 + [1] * 5)])
def test_so_many_images_of_every_category_are_stored(stored: int, expected: list[int]) -> None:
    strategy = _fitted(stored=stored)
    assert strategy.kept_categories.tolist() == expected
    assert len(strategy.kept) == len(expected)
    for row, category in zip(strategy.kept, strategy.kept_categories.tolist(), strict=True):
        own = _TOKENS[torch.from_numpy(_CATEGORIES) == category].half()
        assert sum(torch.equal(row, each) for each in own) == 1


def test_replay_trains_on_stored_tokens_and_adds_the_new_categories() -> None:
    fresh, categories = torch.randn(4, 2, 9, 6, generator=_generator(5)), np.full(4, 2)
    contexts = [FakeContext(backbone="gabor", epochs=1, batch_size=2) for _ in range(2)]
    naive, replay = (
        _fitted(context, stored=stored) for context, stored in zip(contexts, (0, 3), strict=True)
    )
    for strategy, context in zip((naive, replay), contexts, strict=True):
        context.probes.clear()
        strategy.fit(fresh, torch.from_numpy(categories), _stage(np.zeros((4, 1)), categories, index=1))
    assert [len(context.probes) for context in contexts] == [2, 5]  # batches of 4 and of 4 + 2 * 3 images
    assert replay.kept_categories.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert replay.kept.shape == (9, 2, 9, 6)
    assert naive.kept.numel() == 0


@pytest.mark.parametrize(
    "values", [{}, {"stored": 2}, {"width": 4}, {"width": 0, "heads": 1, "source": "both"}]
)
def test_a_restored_learner_answers_and_goes_on_alike(values: dict[str, Any]) -> None:
    context = FakeContext(backbone="gabor", epochs=1, batch_size=4)
    labels, images = np.repeat([0, 1], 4), _textures(8)
    kept, restored = _started(context, **values), _started(context, **values)
    kept.learn(_stage(images, labels))
    restored.load_state(kept.state())
    query = Query(ids=np.arange(4), inputs=_textures(4, seed=1))
    for step in range(2):
        first, second = (strategy.predict(query).anomaly_maps for strategy in (kept, restored))
        assert first is not None
        assert second is not None
        assert first.tobytes() == second.tobytes()
        if not step:
            for strategy in (kept, restored):
                strategy.learn(_stage(_textures(6, seed=2), np.full(6, 2), index=1))


def test_a_state_holds_plain_data_alone() -> None:
    state = _fitted(stored=2).state()
    assert set(state) >= {"network", "projection", "kept", "kept_categories"}
    assert state["network"]["_extra_state"] == {"width": 8, "groups": 2}


# --- few-shot views -----------------------------------------------------------------------------------------


def test_an_image_has_22_views_of_which_seven_are_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 20, 20)).astype(np.uint8)
    views = expanded(image)
    assert views.shape == (22, 3, 20, 20) == (VIEWS, *image.shape)
    assert views.dtype == np.uint8
    np.testing.assert_array_equal(views[0], image)
    np.testing.assert_array_equal(views[17], image[:, :, ::-1])
    grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    for channel in views[18]:
        assert np.abs(channel - grey).max() <= 0.501
    for view, quarter in zip(views[19:], (1, 2, 3), strict=True):
        np.testing.assert_array_equal(view, np.rot90(image, quarter, axes=(1, 2)))


def test_shifts_are_whole_pixels_where_the_side_allows_and_reflect_at_the_border() -> None:
    """A tenth of 20 pixels is 2, a twentieth is 1; what is missing mirrors the image at its edge."""
    image = np.random.default_rng(0).integers(0, 256, (1, 20, 20)).astype(np.uint8)
    views, mirrored = expanded(image), np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="symmetric")
    amounts = [(2, 2), (-2, 2), (2, -2), (-2, -2), (1, 1), (-1, 1), (1, -1), (-1, -1)]
    for view, (down, across) in zip(views[9:17], amounts, strict=True):
        np.testing.assert_array_equal(view, mirrored[:, 2 + down : 22 + down, 2 + across : 22 + across])


def test_rotations_are_opposite_in_pairs_and_keep_the_centre() -> None:
    """A disc around the centre turns into itself; turning the other way is turning the mirrored image."""
    down, across = np.mgrid[:21, :21] - 10
    disc = (100.0 + 100 * np.exp(-(down**2 + across**2) / 20.0))[None].astype(np.float32)
    for view in expanded(disc)[1:9]:
        np.testing.assert_allclose(view[0, 5:16, 5:16], disc[0, 5:16, 5:16], atol=3.0)
    image = np.random.default_rng(0).random((1, 21, 21)).astype(np.float32)
    turned, mirrored = expanded(image)[1:9], expanded(image[:, :, ::-1])[1:9]
    np.testing.assert_allclose(turned[:4, 0, :, ::-1], mirrored[4:, 0], atol=1e-4)


def test_expanded_images_are_found_by_index_and_keep_their_dtype() -> None:
    images = np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32)
    views = Expanded(images)
    assert (len(views), views.shape) == (66, (66, 1, 8, 8))
    found = views[np.array([65, 0, 23, 2])]
    assert found.dtype == np.float32
    for row, (image, view) in zip(found, [(2, 21), (0, 0), (1, 1), (0, 2)], strict=True):
        np.testing.assert_array_equal(row, expanded(images[image])[view])


@pytest.mark.parametrize(
    ("expand", "shots", "expected"),
    [("auto", 1, 22), ("auto", 8, 176), ("auto", 9, 9), ("never", 1, 1), ("always", 9, 198)],
)
def test_few_images_are_expanded(expand: str, shots: int, expected: int) -> None:
    context = FakeContext(backbone="gabor", epochs=1, batch_size=11)
    strategy = _started(context, expand=expand, stored=500)
    strategy.learn(_stage(_textures(shots)[:, :, :8, :8], np.zeros(shots, dtype=np.int64)))
    assert len(strategy.kept) == expected
    assert len(context.probes) == -(-expected // 11)


def test_images_that_are_not_square_are_told() -> None:
    with pytest.raises(UserError, match="these are 8 x 12; set expand=never"):
        expanded(np.zeros((3, 8, 12), dtype=np.uint8))
