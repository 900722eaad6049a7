"""The cost lines of `owb run --plan`: networks measured without their weights, and the table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.cli import console
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.execution.cost import Cost, Network
    from harness.execution.plan import Plan
    from harness.store.mlflow_store import Store

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
_UNMEASURABLE = (UserError, RuntimeError, TypeError, ValueError, AttributeError)
"""What networks raise that do not fit the items, or look at values, of which a tensor without memory has
none.
"""


def costs_of(planned: Plan) -> dict[str, Cost]:
    """Return what a cell costs, by the hash of its protocol."""
    from harness.execution.cost import cost_of

    protocols = {cell.protocol.hash: cell.protocol for cell in planned.cells}
    return {key: cost_of(protocol, measured) for key, protocol in protocols.items()}


def show_costs(planned: Plan, costs: Mapping[str, Cost], store: Store, workers: int) -> None:
    """Print a line for every protocol with open cells, what is assumed, and the time where cells alike are
    recorded.
    """
    from harness.execution.cost import ASSUMED, scaled, time_of

    if not planned.open:
        return
    counts: dict[str, int] = {}
    for cell in planned.open:
        counts[cell.protocol.hash] = counts.get(cell.protocol.hash, 0) + 1
    labels = {cell.protocol.hash: cell.protocol.label for cell in planned.open}
    header = [
        "scenario",
        "cells",
        "forward",
        "backward",
        "parameters",
        "FLOP",
        "largest stage",
        "peak",
        "predictions",
    ]
    console.grid(
        header,
        [[labels[key], str(count), *_figures(costs[key])] for key, count in counts.items()],
        title="\ncost of one cell",
    )
    flops = [count * (costs[key].flops or 0) for key, count in counts.items()]
    if all(flops):
        console.say(f"  {scaled(sum(flops))}FLOP for all {len(planned.open)} cells")
    for text in ASSUMED:
        console.say(f"  assumed: {text}")
    console.say(f"  time: {time_of(planned, store.records(), workers).words}")


@cache
def measured(text: str, item_shape: tuple[int, ...], frozen: bool) -> Network | None:
    """Return what a backbone or encoder takes for one item, made without memory for its weights; None where
    that cannot be done.
    """
    import torch

    from harness.execution.cost import Network
    from harness.networks import maker

    before = torch.get_rng_state()
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weights of a file find no place to go
            network = maker("encoder" if frozen else "backbone", text)(item_shape)
            flops, activations = _passed(network, torch.zeros(1, *item_shape))
            weights = [
                (weight.numel(), weight.requires_grad and not frozen) for weight in network.parameters()
            ]
    except _UNMEASURABLE:
        return None
    finally:
        torch.set_rng_state(before)
    height, width = getattr(network, "grid", (0, 0)) if frozen else (0, 0)
    return Network(
        parameters=sum(size for size, _ in weights),
        trained=sum(size for size, trains in weights if trains),
        flops=flops,
        activations=activations,
        grid=height * width,
    )


def _passed(network: Any, item: Any) -> tuple[float, int]:
    """Return the operations of a forward pass, and the bytes that the layers put out from the first one on
    that trains.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from harness.execution.cost import FLOAT

    kept = 0
    training = False

    def count(layer: Any, _: Any, output: Any) -> None:
        nonlocal kept, training
        training = training or any(weight.requires_grad for weight in layer.parameters())
        kept += output.numel() if training and isinstance(output, torch.Tensor) else 0

    hooks = [layer.register_forward_hook(count) for layer in network.modules() if not [*layer.children()]]
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.eval()(item)
    for hook in hooks:
        hook.remove()
    return float(counter.get_total_flops()), FLOAT * kept


def _figures(of: Cost) -> list[str]:
    from harness.execution.cost import scaled

    network, work = of.network, of.work
    views = f" ({work.views} views)" if work.views > 1 else ""
    measured = (
        ["?", "?", "?"]
        if network is None or of.flops is None or of.peak is None
        else [
            scaled(network.parameters),
            scaled(of.flops) if of.flops else "few",
            scaled(of.peak, 1024, _BYTES),
        ]
    )
    return [
        f"{scaled(work.forward)}{views}",
        scaled(work.backward),
        measured[0],
        measured[1],
        scaled(work.stored, 1024, _BYTES),
        measured[2],
        scaled(of.predictions, 1024, _BYTES),
    ]
