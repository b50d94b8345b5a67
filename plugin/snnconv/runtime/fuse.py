"""A convolution whose result is added to another value at once adds it itself (oneDNN, on the CPU).

The sum costs no pass over memory of its own, and its bits are the same. It is written over the other value, which
therefore must be one that nobody reads any more.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from snnconv.graph.ops import SYNAPSES, operator_of
from snnconv.graph.source import activation_site

__all__ = ["Deferred", "conv_added_to", "residual_adds"]

_ADDS = (operator.add, torch.add)
_FRESH = frozenset({*SYNAPSES, activation_site, torch.cat, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d})
"""Operators whose results share no memory with what they read."""


class Deferred(NamedTuple):
    """A convolution that waits for what it is added to: its arguments, with their values."""

    args: tuple[object, ...]
    kwargs: dict[str, object]


def residual_adds(nodes: Sequence[fx.Node], last: dict[fx.Node, fx.Node]) -> dict[fx.Node, fx.Node]:
    """Additions ``conv2d(...) + y`` that may be written over y: addition → convolution.

    y comes from neurons or from a convolution, so that it lies in memory of its own, and is read by nobody later: not
    by the convolution itself, which would read what it writes, and not through a view.

    Args:
        nodes: the graph's nodes in order.
        last: the last reader of each node.
    """
    order = {node: index for index, node in enumerate(nodes)}
    found = {}
    for node in nodes:
        if node.op != "call_function" or node.target not in _ADDS or len(node.args) != 2 or node.kwargs:
            continue
        operands = [n for n in node.args if isinstance(n, fx.Node)]
        if len(operands) != 2 or operands[0] is operands[1]:
            continue
        other, conv = sorted(operands, key=order.__getitem__)
        own = other.op == "call_function" and other.target in (activation_site, torch.conv2d)
        alone = conv.op == "call_function" and conv.target is torch.conv2d and len(conv.users) == 1
        readers = [n for n in other.users if n is not node]
        unseen = last[other] is node and conv not in readers and all(n.target in _FRESH for n in readers)
        if own and alone and unseen:
            found[node] = conv
    return found


def conv_added_to(other: Tensor, args: Sequence[object], kwargs: dict[str, object]) -> Tensor | None:
    """``other += torch.conv2d(*args, **kwargs)``, or None where the operator does not fit (``other`` stays)."""
    values: dict[str, Any] = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    values |= operator_of(torch.conv2d).bind(args, kwargs)
    x, weight = values["input"], values["weight"]
    if not all(isinstance(t, Tensor) and t.dim() == 4 and t.dtype == torch.float32 for t in (x, weight, other)):
        return None
    if not (x.device.type == other.device.type == "cpu" and _available()) or isinstance(values["padding"], str):
        return None
    if torch.is_grad_enabled() and (weight.requires_grad or x.requires_grad or other.requires_grad):
        return None
    stride, padding, dilation = (_pair(values[name]) for name in ("stride", "padding", "dilation"))
    size = [
        (x.shape[i + 2] + 2 * padding[i] - dilation[i] * (weight.shape[i + 2] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    ]
    fits = other.shape == (x.shape[0], weight.shape[0], *size) and other.numel()
    if not fits or not other.is_contiguous(memory_format=torch.channels_last):
        return None
    add: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise_.binary
    rest: tuple[Any, ...] = (padding, stride, dilation, values["groups"], "add", 1.0, None, [], None)
    return add(other, x.contiguous(memory_format=torch.channels_last), weight, values["bias"], *rest)


def _pair(value: int | Sequence[int]) -> list[int]:
    if isinstance(value, int):
        return [value, value]
    return list(value) * (2 // len(value))


def _available() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")
