"""Each component computes what its source says: hand calculation, closed forms, quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fakes import FakeContext, stage_of
from scipy.special import digamma
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from harness.contracts import Stage
from harness.errors import Diverged, Unsuitable
from strategies.components.chain import Chain
from strategies.components.compander import Arctangent, Companded
from strategies.components.critical import constants
from strategies.components.crrelu import Corrected, CorrectedReLU
from strategies.components.grids import Quantised
from strategies.components.hermite import Hermite
from strategies.components.masks import spread
from strategies.components.modules import activations_behind, layers_of
from strategies.components.noise_mask import policy_loss
from strategies.components.quantise import moments
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def _network(
    components: str = "", backbone: str = "mlp[width=16,depth=2]", shape: tuple[int, ...] = (5,)
) -> Classifier:
    context = FakeContext(backbone=backbone)
    chain = Chain(components, context, "init") if components else None
    return Classifier(context, components=chain).grow(_stage(0, [0, 1], 2, shape))


def _stage(index: int, labels: list[int], named: int, shape: tuple[int, ...] = (5,)) -> Stage:
    stage = stage_of(index, np.array(labels), named)
    inputs = np.random.default_rng(index).random((len(labels), *shape)).astype(np.float32)
    return Stage(
        index=index, ids=stage.ids, inputs=inputs, labels=stage.labels, named_classes=named, new_classes=None
    )


# --- compander ----------------------------------------------------------------------------------------------


def test_companded_weights_are_a_bounded_arc_tangent() -> None:
    made = Companded(2.0, 0.5, learned=True, keep=True).double()
    v = torch.tensor([0.0, 0.5, -1e9], dtype=torch.float64, requires_grad=True)
    w = made(v)
    assert w.tolist() == pytest.approx([0.0, 2 * math.pi / 4, -math.pi], abs=1e-6)
    (slope,) = torch.autograd.grad(w.sum(), v, retain_graph=True)
    assert slope[:2].tolist() == pytest.approx([4.0, 2.0], abs=1e-6)  # a/b, halved at v = b
    of_a, of_b = torch.autograd.grad(made(v)[1], [made.log_a, made.log_b])
    assert float(of_a) == pytest.approx(2 * math.pi / 4, abs=1e-6)  # a dw/da = w
    assert float(of_b) == pytest.approx(-2 * 0.5, abs=1e-6)  # b dw/db = -a (v/b) / (1 + (v/b)^2)
    assert torch.allclose(made(made.right_inverse(w[:2])), w[:2])


def test_a_companded_network_starts_as_the_plain_one_and_old_rows_stay_when_its_head_grows() -> None:
    inputs = torch.rand(7, 5)
    plain, companded = _network(), _network("compander[learned=true]")
    before = companded(inputs)
    assert torch.allclose(before, plain(inputs), atol=1e-6)
    assert len({name for name, _ in companded.named_parameters() if "log_" in name}) == 6
    companded.grow(_stage(1, [2, 2], 3))
    assert companded(inputs).shape == (7, 3)
    assert torch.equal(companded(inputs)[:, :2], before)
    raw = _network("compander[a=2,b=1,origin=raw]")
    for one, other in zip(layers_of(raw), layers_of(plain), strict=True):
        assert torch.allclose(one.weight, 2 * torch.atan(other.weight), atol=1e-6)
    loaded = Classifier(
        companded.context, components=Chain("compander[learned=true]", companded.context, "init")
    )
    loaded.load_state_dict(companded.state_dict())
    assert torch.equal(loaded(inputs), companded(inputs))


def test_slopes_in_closed_form_are_those_of_finite_differences_and_their_own_slopes_too() -> None:
    rng = torch.Generator().manual_seed(0)
    v = torch.randn(6, generator=rng, dtype=torch.float64).requires_grad_()
    a, b = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (2.0, 0.5))
    for function, given in ((Arctangent.apply, (v, a, b)), (Corrected.apply, (v, b))):
        assert torch.autograd.gradcheck(function, given)
        assert torch.autograd.gradgradcheck(function, given)


def test_single_items_have_their_gradients_too() -> None:
    network = _network("compander[learned=true]+crrelu")
    weights = {name: values.detach() for name, values in network.named_parameters()}

    def value(own: dict[str, Tensor], item: Tensor) -> Tensor:
        return functional_call(network, own, (item[None],)).square().sum()

    inputs = torch.rand(3, 5)
    singly = vmap(grad(value), in_dims=(None, 0))(weights, inputs)
    network(inputs).square().sum().backward()
    for name, values in network.named_parameters():
        assert values.grad is not None
        assert torch.allclose(singly[name].sum(dim=0), values.grad, rtol=1e-4, atol=1e-6)


# --- crrelu -------------------------------------------------------------------------------------------------


def test_crrelu_and_its_slopes_are_the_closed_forms() -> None:
    made = CorrectedReLU(0.3, learned=True).double()
    x = torch.tensor([-1.0, 0.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    e, bell = float(made.correction.detach()), torch.exp(-x.detach().square() / 2)
    out = made(x)
    assert torch.allclose(out, x.detach().clamp_min(0) + e * x.detach() * bell, atol=1e-15)
    (slope,) = torch.autograd.grad(out.sum(), x, retain_graph=True)
    assert torch.allclose(slope, (x > 0).double() + e * (1 - x.detach().square()) * bell, atol=1e-15)
    (of_e,) = torch.autograd.grad(out.sum(), made.correction)
    assert float(of_e) == pytest.approx(float((x.detach() * bell).sum()))
    half = CorrectedReLU(0.3, learned=False)(torch.tensor([2.0], dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert float(half) == pytest.approx(2 + 0.6 * math.exp(-2), rel=1e-2)
    square = (WEIGHTS * made(torch.from_numpy(NODES)).detach().numpy() ** 2).sum()  # E f^2 of a normal input
    assert square == pytest.approx(0.5 + e / (2 * 2**0.5) + e**2 / (3 * 3**0.5), abs=1e-3)


def test_a_network_without_relu_modules_is_refused() -> None:
    for name in ("crrelu", "hermite"):
        with pytest.raises(
            Unsuitable, match=f"has a network without ReLU modules, which component {name} replaces"
        ):
            _network(name, backbone="linear")


# --- critical -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "rests"), [(nn.GELU(), (3 + 17**0.5) / 2), (nn.SiLU(), 14.3201736)])
def test_the_constants_are_critical_where_the_variance_rests(activation: nn.Module, rests: float) -> None:
    c_w, c_b = constants(activation)
    nodes = torch.linspace(-14, 14, 20001, dtype=torch.float64)
    law = torch.exp(-nodes.square() / 2)
    law = law / law.sum()
    z = (nodes * rests**0.5).requires_grad_()
    value = activation(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    value, z = value.detach(), z.detach()
    assert float(c_b + c_w * (law * value.square()).sum()) == pytest.approx(rests, rel=1e-6)
    assert float(c_w * (law * slope.square()).sum()) == pytest.approx(1, abs=1e-6)
    along = c_w * (law * value.square() * (z.square() - rests)).sum() / (2 * rests**2)
    assert float(along) == pytest.approx(1, abs=1e-6)


def test_leaky_and_tanh_constants_and_what_has_none() -> None:
    assert constants(nn.LeakyReLU(0.5)) == (2 / 1.25, 0.0)
    assert constants(nn.Tanh()) == constants(None) == (1.0, 0.0)
    with pytest.raises(Unsuitable, match="no start is critical before Sigmoid"):
        constants(nn.Sigmoid())


@pytest.mark.parametrize("options", ["", "[orthogonal=true]"])
def test_signals_keep_their_size_in_a_deep_network(options: str) -> None:
    backbone, inputs = "mlp[width=256,depth=20]", torch.randn(64, 256)
    deep = _network(f"critical{options}", backbone, (256,))
    assert float(deep.backbone(inputs).square().mean()) == pytest.approx(
        1, rel=0.35
    )  # 2/n is added in every layer
    assert float(_network("", backbone, (256,)).backbone(inputs).square().mean()) < 1e-3
    assert deep.head is not None
    assert float(deep.head.weight.detach().square().mean()) * 256 == pytest.approx(1, rel=0.2)
    assert not deep.head.bias.any()


def test_the_activation_behind_a_layer_is_found_past_norms_and_parametrisations() -> None:
    found = activations_behind(_network("compander", "cnn[width=8]", (1, 8, 8)).backbone)
    assert [type(behind) for _, behind in found] == [nn.ReLU] * 3
    assert [behind for _, behind in activations_behind(nn.Linear(2, 2))] == [None]


# --- hermite ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("d", "slope_at_0", "slope_at_1"), [(1, 0.5, 4), (2, 0.5, 2), (4, 0.25, 2), (8, 1 / 16, 2)]
)
def test_hermite_activations_have_the_exponent_they_are_named_by(
    d: int, slope_at_0: float, slope_at_1: float
) -> None:
    phi = Hermite(d, scaled=False)
    x = torch.from_numpy(NODES).requires_grad_()
    value = phi(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    values, slopes = value.detach().numpy(), slope.numpy()
    assert (WEIGHTS * values).sum() == pytest.approx(0, abs=1e-9)  # A
    assert (WEIGHTS * values**2).sum() == pytest.approx(1)
    assert (WEIGHTS * slopes).sum() ** 2 == pytest.approx(slope_at_0)  # A'^2
    assert (WEIGHTS * slopes**2).sum() == pytest.approx(slope_at_1)  # B'
    assert -4 * math.log(slope_at_0**0.5) / math.log(slope_at_1) == pytest.approx(d if d > 1 else 1)


def test_hermite_inputs_are_scaled_item_by_item() -> None:
    inputs = torch.randn(4, 3, 2, dtype=torch.float64)
    size = inputs.square().mean(dim=(1, 2), keepdim=True).sqrt()
    assert torch.allclose(Hermite(2)(1e6 * inputs), Hermite(2, scaled=False)(inputs / size))
    assert torch.equal(Hermite(2)(torch.zeros(1, 3)), Hermite(2, scaled=False)(torch.zeros(1, 3)))


# --- quantise -----------------------------------------------------------------------------------------------


def test_quantised_weights_lie_on_the_grid_and_the_gradient_goes_straight_through_inside() -> None:
    weights = torch.tensor([[-0.9, -0.2, 0.04], [0.3, 0.11, 5.0]], dtype=torch.float64)
    made = Quantised(weights, 3).double()  # -4 to 3
    made.step.data.fill_(0.1)
    given = weights.clone().requires_grad_()
    out = made(given)
    assert torch.allclose(out / (0.1 + 1e-6), torch.tensor([[-4.0, -2, 0], [3, 1, 3]], dtype=torch.float64))
    (through,) = torch.autograd.grad(out.sum(), given, retain_graph=True)
    assert torch.allclose(through, torch.tensor([[0.0, 1, 1], [1, 1, 0]], dtype=torch.float64))
    (of_step,) = torch.autograd.grad(out.sum(), made.step)
    scaled = weights / (0.1 + 1e-6)
    inside = (scaled > -4) & (scaled < 3)
    by_hand = torch.where(inside, scaled.round() - scaled, scaled.clamp(-4, 3)).sum() / (3 * 6) ** 0.5
    assert float(of_step) == pytest.approx(float(by_hand))


def test_the_first_step_is_the_best_of_eighty() -> None:
    weights = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    made = Quantised(weights, 4)

    def error(step: float) -> float:
        return float(((weights / step).round().clamp(-8, 7) * step - weights).abs().pow(2.4).mean())

    errors = [error(float(weights.abs().max()) * (1 - place / 100) / 7 + 1e-6) for place in range(80)]
    assert error(float(made.step) + 1e-6) == pytest.approx(min(errors), rel=1e-4)


def test_weights_that_are_drawn_behind_it_get_a_step_of_their_own() -> None:
    before, behind = _network("critical+quantise[bits=3]"), _network("quantise[bits=3]+critical")
    inputs = torch.rand(7, 5)
    assert torch.equal(before(inputs), behind(inputs))
    for layer in layers_of(behind):
        assert len(layer.weight.unique()) <= 8


def test_moments_and_the_penalty() -> None:
    kurtosis, skewness = moments(torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64))
    assert (float(kurtosis), float(skewness)) == pytest.approx(((3 / 4) ** 2, 0.0))  # unbiased variance 4/3
    uniform, _ = moments(torch.linspace(-1, 1, 10001, dtype=torch.float64))
    assert float(uniform) == pytest.approx(1.8, abs=1e-3)
    network = _network("quantise[bits=32,kurtosis=2,skewness=3]")
    assert isinstance(network.components, Chain)
    (one,) = network.components.with_hook("term")
    batch = Batch(torch.rand(2, 5), torch.tensor([0, 1]), torch.arange(2))
    term = one.term(network, batch, Seen(torch.zeros(2, 16), torch.zeros(2, 2)))
    pairs = [moments(layer.weight) for layer in layers_of(network)[1:]]
    by_hand = sum(2 * (float(k) - 1.8) ** 2 + 3 * float(s) ** 2 for k, s in pairs) / len(pairs)
    assert term is not None
    assert float(term) == pytest.approx(by_hand, rel=1e-5)


# --- masks --------------------------------------------------------------------------------------------------


def test_masks_are_enlarged_cells_with_blurred_borders() -> None:
    assert torch.allclose(spread(torch.full((1, 2, 2), 0.3), 8, 8), torch.tensor(0.3))
    mask = spread(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]], dtype=torch.float64), 8, 8)[0, 0]
    side = math.exp(-1 / 4.5) / (1 + 2 * math.exp(-1 / 4.5))
    row = torch.tensor([1, 1, 1, 1 - side, side, 0, 0, 0], dtype=torch.float64)
    assert torch.allclose(mask, row.expand(8, 8))


@pytest.mark.parametrize("name", ["fixed-mask", "noise-mask"])
def test_masks_follow_the_step_and_end_with_their_share(name: str) -> None:
    network = _network(f"{name}[share=0.5,scaled=true]", "cnn[width=8]", (2, 8, 8))
    assert isinstance(network.components, Chain)
    (one,) = network.components.with_hook("change")
    batch = Batch(
        torch.ones(64, 2, 8, 8), torch.zeros(64, dtype=torch.long), torch.arange(64), step=1, steps=4
    )
    network.eval()
    policy = {name: values.clone() for name, values in network.backbone.state_dict().items()}
    shown = one.change(network, batch).inputs
    network.backbone.load_state_dict(policy)
    assert torch.equal(one.change(network, batch).inputs, shown)
    assert torch.equal(shown[:, 0], shown[:, 1])
    assert not torch.equal(shown[0], shown[1])
    assert not torch.equal(one.change(network, batch._replace(step=0)).inputs, shown)
    assert one.change(network, batch._replace(step=2)) is not None
    assert torch.equal(one.change(network, batch._replace(step=2)).inputs, batch.inputs)
    if name == "fixed-mask":
        assert float(shown.mean()) == pytest.approx(1, abs=0.1)  # scaled by the mean of Beta(1, 1)


def test_a_policy_counts_in_float32_whatever_the_learner_does() -> None:
    network = _network("noise-mask", "cnn[width=8]", (1, 8, 8))
    assert isinstance(network.components, Chain)
    (one,) = network.components.with_hook("change")
    batch = Batch(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), torch.arange(4))
    with torch.autocast("cpu", torch.bfloat16):
        shown = one.change(network, batch)
    assert shown.inputs.dtype == torch.float32
    policy: nn.Module = network.backbone.get_submodule("mask_policy")
    assert {weights.dtype for weights in policy.state_dict().values()} == {torch.float32}


def test_the_gradient_of_the_policy_is_that_of_the_log_density() -> None:
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.normal(size=(3, 2, 2))).requires_grad_() for _ in range(2))
    cells, losses = torch.from_numpy(rng.uniform(0.1, 0.9, (3, 2, 2))), torch.tensor([1.0, 4.0, 4.0]).double()
    of_a, of_b = torch.autograd.grad(policy_loss(a, b, cells, losses), [a, b])
    weight = (np.array([-2.0, 1.0, 1.0]) / 3)[:, None, None]
    alpha, beta = np.exp(a.detach().numpy()), np.exp(b.detach().numpy())
    by_hand = weight * alpha * (np.log(cells.numpy()) - digamma(alpha) + digamma(alpha + beta))
    assert np.allclose(of_a.numpy(), by_hand)
    by_hand = weight * beta * (np.log(1 - cells.numpy()) - digamma(beta) + digamma(alpha + beta))
    assert np.allclose(of_b.numpy(), by_hand)


def test_the_loss_of_the_policy_moves_the_policy_and_nothing_else() -> None:
    network = _network("noise-mask", "cnn[width=8]", (1, 8, 8))
    assert isinstance(network.components, Chain)
    (one,) = network.components.with_hook("term")
    batch = Batch(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), torch.arange(4))
    features: Tensor = network.backbone(one.change(network, batch).inputs)
    assert network.head is not None
    term = one.term(network, batch, Seen(features, network.head(features)))
    assert term is not None
    term.backward()  # type: ignore[no-untyped-call]
    moved = {
        name
        for name, weights in network.named_parameters()
        if weights.grad is not None and weights.grad.any()
    }
    assert moved == {"backbone.mask_policy.linear.weight", "backbone.mask_policy.linear.bias"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_policy_that_gives_no_law_has_diverged(value: float) -> None:
    network = _network("noise-mask", "cnn[width=8]", (1, 8, 8))
    assert isinstance(network.components, Chain)
    (one,) = network.components.with_hook("change")
    policy: nn.Module = network.backbone.get_submodule("mask_policy")
    policy.base.fill_(value)
    batch = Batch(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), torch.arange(4), step=6, steps=20)
    with pytest.raises(Diverged, match="the policy of component noise-mask gives no law of masks in step 7"):
        one.change(network, batch)
