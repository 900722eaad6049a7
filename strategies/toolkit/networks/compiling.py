"""`torch.compile` for a network, where the run asks for it: in place, so that the network keeps the names of
its weights.

Every module is compiled through a function of its own. `nn.Module.compile` sends all modules of a process
through one, and torch counts
compiled variants, and remembers what it gave up on, function by function: after eight networks, or one look
at gradients of single items by `torch.func`, whatever else a worker trains would run as it is, without a word
(seen with torch 2.14).
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from harness.contracts import Context

M = TypeVar("M", bound=nn.Module)


def compiled(module: M, context: Context) -> M:
    """Let torch compile the calls of `module`, if the run asks for it; return the module.

    Code is compiled at the first call, and again where mode (training, evaluation), need of a gradient or
    number format change. The number
    of rows may vary, the shape of an item is fixed in the code: a network here sees items of one shape, and
    products of known sizes are compiled in half the time. Under the transforms of `torch.func`, which
    compiled code does not take part in, the module runs as it is. So do its copies, until they are compiled
    as well.
    """
    if context.compile:
        module._compiled_call_impl = _Call(module)
    return module


class _Call:
    """What stands for the call of one module."""

    def __init__(self, module: nn.Module) -> None:
        plain: Any = module._call_impl

        def call(*args: Any, **options: Any) -> Any:
            return plain(*args, **options)

        call.__code__ = call.__code__.replace()
        self.plain, self.compiled = plain, torch.compile(call, dynamic=False)

    def __call__(self, *args: Any, **options: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            return self.plain(*args, **options)
        for values in args:
            if isinstance(values, Tensor):
                torch._dynamo.maybe_mark_dynamic(values, 0)
        return self.compiled(*args, **options)
