"""ReLUs of a forward pass, counted by what is computed and not by how it is written."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class ReLUCalls(TorchFunctionMode):
    """Counts the outermost calls whose result is max(x, 0), or min(max(x, 0), c), of an argument of both signs.

    A ReLU of what has no negative values computes nothing and is not counted.

    >>> with ReLUCalls() as calls:
    ...     _ = torch.relu(torch.randn(9)), torch.where((z := torch.randn(9)) > 0, z, 0.0)
    >>> len(calls.found)
    2
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = [_copied(v) for v in tree_leaves((args, kwargs or {})) if isinstance(v, Tensor)]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and any(_is_relu(x, out) for x in before):
            self.found.append(getattr(func, "__name__", str(func)))
        return out


def _copied(value: Tensor) -> Tensor:
    return value.detach().clone()


def _is_relu(x: Tensor, out: Tensor) -> bool:
    if x.shape != out.shape or not (x.is_floating_point() and out.is_floating_point()) or not x.numel():
        return False
    if not bool((x < 0).any()) or not bool((out > 0).any()):
        return False
    return torch.equal(out, x.clamp(min=0)) or torch.equal(out, x.clamp(0, float(out.max())))
