"""Finding and replacing the modules of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from harness.errors import Unsuitable

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def layers_of(part: nn.Module) -> list[Layer]:
    """Return the linear and convolutional layers in the order of their registration."""
    return [module for module in part.modules() if isinstance(module, Layer)]


def write(module: nn.Module, name: str, values: Tensor) -> None:
    """Give a weight or buffer of a module values, through its parametrisation where it has one."""
    if is_parametrized(module, name):
        setattr(module, name, values)
    else:
        getattr(module, name).data.copy_(values)


def started_from(network: nn.Module, other: nn.Module) -> None:
    """Give a network the weights and buffers of another of its architecture, which has no components: what a
    component has added keeps its own.
    """
    for path, values in [*other.named_parameters(), *other.named_buffers()]:
        owner, _, name = path.rpartition(".")
        write(network.get_submodule(owner), name, values.detach())


def trained(layer: Layer) -> Tensor:
    """Return what is trained of a layer's weights: these, or where they are parametrised what they are made from."""
    if is_parametrized(layer, "weight"):
        found: Tensor = layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
        return found
    return layer.weight


def fan_in(layer: Layer) -> int:
    """Return how many inputs a unit of a layer sums."""
    return layer.weight[0].numel()


def activations_behind(part: nn.Module) -> Iterator[tuple[Layer, nn.Module | None]]:
    """Yield every layer with the next module without parts of its own that is neither layer, norm nor dropout: the
    activation behind it where modules are registered in the order of the forward pass. None behind the last.
    """
    passed_over = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.modules.dropout._DropoutNd)
    relevant = [module for module in _pieces(part) if not isinstance(module, passed_over)]
    for module, behind in pairwise([*relevant, None]):
        if isinstance(module, Layer):
            yield module, behind


def _pieces(part: nn.Module) -> Iterator[nn.Module]:
    """Yield layers and what has no parts; those of a layer's parametrisations are none."""
    children = list(part.children())
    if isinstance(part, Layer) or not children:
        yield part
    else:
        for child in children:
            yield from _pieces(child)


def replaced(part: nn.Module, kind: type[nn.Module], make: Callable[[], nn.Module], name: str) -> None:
    """Replace every module of a kind below `part` by a new one each.

    Raises:
        Unsuitable: there is none; activations that a network calls as functions cannot be replaced.
    """
    found = [
        (parent, own)
        for parent in part.modules()
        for own, child in parent.named_children()
        if isinstance(child, kind)
    ]
    if not found:
        raise Unsuitable(f"has a network without {kind.__name__} modules, which component {name} replaces")
    for parent, own in found:
        setattr(parent, own, make())
