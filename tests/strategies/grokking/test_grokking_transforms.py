"""Gradient transforms against loops over networks and tensors, torch's own clipping, and the corners the
released code falls into.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from harness.errors import UserError
from strategies.grokking.transforms import Clip, GrokfastEMA, GrokfastMA, PerpGrad, transformed, transforms_of

K = 3
SHAPES = {"table": (5, 4), "gain": (6,)}
ALL = ("perp-grad", "perp-grad[form=paper]", "grokfast-ema", "grokfast-ma[window=3]", "clip[norm=0.5]")


def _tensors(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(K, *shape, dtype=dtype, generator=generator) for name, shape in SHAPES.items()}


def _close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("text", ALL)
def test_a_network_does_not_depend_on_the_others_and_what_is_given_stays(text: str) -> None:
    together, alone = transforms_of(text), transforms_of(text)
    for step in range(5):
        weights, gradients = _tensors(0), _tensors(step + 1)
        found = transformed(together, weights, gradients)
        _close(gradients, _tensors(step + 1))
        _close(weights, _tensors(0))
        one = transformed(
            alone, {n: w[1:2] for n, w in weights.items()}, {n: g[1:2] for n, g in gradients.items()}
        )
        _close({name: tensor[1:2] for name, tensor in found.items()}, one)


# --- PerpGrad -----------------------------------------------------------------------------------------------


def test_the_released_form_is_perpendicular_tensor_by_tensor_and_as_long_as_before() -> None:
    weights, gradients = _tensors(0), _tensors(1)
    found = PerpGrad()(weights, gradients)
    for name in SHAPES:
        for w, g, f in zip(weights[name], gradients[name], found[name], strict=True):
            perpendicular = g - (w * g).sum() / (w * w).sum() * w
            torch.testing.assert_close(f, perpendicular * g.norm() / perpendicular.norm())
            assert abs(float((w * f).sum())) < 1e-12


def test_the_paper_form_projects_all_weights_as_one_vector_and_keeps_the_rest_as_short_as_it_is() -> None:
    weights, gradients = _tensors(0), _tensors(1)
    found = PerpGrad("paper")(weights, gradients)
    for network in range(K):
        w, g, f = (
            torch.cat([tensors[name][network].flatten() for name in SHAPES])
            for tensors in (weights, gradients, found)
        )
        torch.testing.assert_close(f, g - (w @ g) / (w @ w) * w)
        assert abs(float(w @ f)) < 1e-12
        assert f.norm() < g.norm()


@pytest.mark.parametrize("form", ["released", "paper"])
def test_weights_of_zero_leave_the_gradient(form: str) -> None:
    weights, gradients = _tensors(0), _tensors(1)
    for tensor in weights.values():
        tensor[1] = 0
    found = transforms_of(f"perp-grad[form={form}]")[0](weights, gradients)
    for name, gradient in gradients.items():
        assert torch.equal(found[name][1], gradient[1])
        assert not torch.equal(found[name][0], gradient[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1.0, -0.37, 1e-6, 3e4])
def test_a_gradient_along_the_weights_leaves_no_noise_of_full_length(
    dtype: torch.dtype, factor: float
) -> None:
    generator = torch.Generator().manual_seed(5)
    weights = {"table": torch.randn(2, 500, 97, dtype=dtype, generator=generator)}
    gradients = {"table": weights["table"] * factor}
    found = PerpGrad()(weights, gradients)
    assert (found["table"].flatten(1).norm(dim=1) < 1e-6 * gradients["table"].flatten(1).norm(dim=1)).all()


def test_a_zero_gradient_stays_zero() -> None:
    weights = _tensors(0, torch.float32)
    for form in ("released", "paper"):
        for tensor in transforms_of(f"perp-grad[form={form}]")[0](
            weights, {n: torch.zeros_like(w) for n, w in weights.items()}
        ).values():
            assert torch.equal(tensor, torch.zeros_like(tensor))


def test_the_scale_of_the_weights_does_not_matter() -> None:
    weights, gradients = _tensors(0), _tensors(1)
    for form in ("released", "paper"):
        make = transforms_of(f"perp-grad[form={form}]")[0]
        _close(
            make({name: 1e3 * tensor for name, tensor in weights.items()}, gradients),
            make(weights, gradients),
        )


# --- Grokfast -----------------------------------------------------------------------------------------------


def test_the_average_starts_as_the_first_gradient() -> None:
    transform, weights = GrokfastEMA(decay=0.9, strength=2.0), _tensors(0)
    average = _tensors(1)
    for step in range(1, 6):
        gradients = _tensors(step)
        average = (
            {name: 0.9 * average[name] + 0.1 * gradient for name, gradient in gradients.items()}
            if step > 1
            else average
        )
        _close(
            transform(weights, gradients),
            {name: gradient + 2 * average[name] for name, gradient in gradients.items()},
        )
    _close(
        GrokfastEMA()(weights, _tensors(1)), {name: 3 * gradient for name, gradient in _tensors(1).items()}
    )


def test_the_mean_is_added_once_the_window_is_full_and_then_moves_with_it() -> None:
    transform, weights = GrokfastMA(window=3, strength=5.0), _tensors(0)
    for step in range(1, 10):
        gradients = _tensors(step)
        expected = gradients
        if step >= 3:
            last = [_tensors(earlier) for earlier in range(step - 2, step + 1)]
            expected = {
                name: gradient + 5 * sum(t[name] for t in last) / 3 for name, gradient in gradients.items()
            }
        _close(transform(weights, gradients), expected)


def test_huge_gradients_leave_no_trace_once_they_have_left_the_window() -> None:
    transform = GrokfastMA(window=2, strength=1.0)
    small = {"table": torch.full((1, 3), 1e-4)}
    transform({}, {"table": torch.full((1, 3), 1e6)})
    transform({}, small)
    transform({}, small)
    torch.testing.assert_close(transform({}, small)["table"], torch.full((1, 3), 2e-4), rtol=1e-5, atol=0)


def test_a_buffer_that_is_written_again_does_not_change_what_is_remembered() -> None:
    """The engine reuses its gradients."""
    for make in (lambda: GrokfastEMA(0.5, 1.0), lambda: GrokfastMA(2, 1.0)):
        reused, fresh, buffer = make(), make(), {"table": torch.zeros(1, 3)}
        for step in range(4):
            buffer["table"].fill_(step + 1.0)
            assert torch.equal(
                reused({}, buffer)["table"], fresh({}, {"table": torch.full((1, 3), step + 1.0)})["table"]
            )


# --- clipping, chains ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [0.5, 4.0, 100.0])
def test_clipping_is_that_of_torch_for_every_network(norm: float) -> None:
    found = Clip(norm)(_tensors(0), _tensors(1))
    for network in range(K):
        leaves = {
            name: torch.zeros_like(tensor[network], requires_grad=True)
            for name, tensor in _tensors(1).items()
        }
        for name, leaf in leaves.items():
            leaf.grad = _tensors(1)[name][network]
        torch.nn.utils.clip_grad_norm_(list(leaves.values()), norm)
        for name, leaf in leaves.items():
            torch.testing.assert_close(found[name][network], leaf.grad)


def test_a_chain_works_from_left_to_right() -> None:
    weights, gradients = _tensors(0), _tensors(1)
    found = transformed(transforms_of("grokfast-ema[strength=4] + clip[norm=1]"), weights, gradients)
    _close(found, Clip(1.0)(weights, {name: 5 * gradient for name, gradient in gradients.items()}))
    other = transformed(transforms_of("clip[norm=1]+grokfast-ema[strength=4]"), weights, gradients)
    assert float(other["table"].norm()) > 2 * float(found["table"].norm())
    assert transforms_of("none") == transforms_of("") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("perpgrad", "did you mean 'perp-grad'"),
        ("clip[size=1]", "unknown parameter of gradient transform clip 'size'"),
        ("grokfast-ma[window=0]", "window of grokfast-ma should be at least 1, got 0"),
        ("grokfast-ema[decay=1]", "decay of grokfast-ema should be at least 0 and less than 1, got 1"),
        ("clip[norm=0]", "norm of clip should be greater than 0, got 0"),
    ],
)
def test_mistakes_are_told_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        transforms_of(text)
