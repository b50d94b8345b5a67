"""Shapes and scales of what travels along the edges of an exported graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from snnconv.graph.arguments import argument, arguments
from snnconv.graph.source import ConversionError, SourceGraph, broadcast
from snnconv.network import SpikingNetwork
from snnconv.runtime.executor import Executor

__all__ = ["array", "per_channel", "per_element", "pool_window", "spread", "step_shapes", "ungrouped"]


def step_shapes(source: SourceGraph, snn: SpikingNetwork) -> dict[fx.Node, tuple[int, ...]]:
    """Shape of every operator's result without its batch dimension.

    Raises:
        ConversionError: a network of several inputs, or one that does not know its input's shape.
    """
    names = source.placeholders()
    if len(names) > 1:
        raise ConversionError(f"this export is for networks of one input, and this one takes {', '.join(names)}")
    if not snn.input_spec.get("shape"):
        raise ConversionError("the network does not know its input's shape: convert it with calibration data")
    found: dict[fx.Node, tuple[int, ...]] = {}
    executor = Executor(source, lambda site, z: source.sites[site].activation(z))

    def observe(node: fx.Node, value: Any) -> None:
        data = getattr(value, "data", None)
        if isinstance(data, Tensor) and node in executor.varies and executor.kinds[node] not in ("shape", "size"):
            found[node] = tuple(data.shape[1:])

    executor.observers.append(observe)
    reference = next(t for t in source.tensors.values() if t.is_floating_point())
    with torch.no_grad():
        executor(torch.zeros((1, *snn.input_spec["shape"]), dtype=reference.dtype, device=reference.device))
    return found


def per_element(scale: Tensor, shape: tuple[int, ...], axis: int = 1) -> Tensor:
    """One value an element of a step ``shape`` (no batch) from one, one a channel, or one an element."""
    if scale.dim() == len(shape) and scale.numel() > 1 and tuple(scale.shape) == shape:
        return scale
    return broadcast(scale, len(shape) + 1, axis).expand(1, *shape)[0].contiguous()


def per_channel(scale: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """One value a channel (the first dimension of a step), or ``None`` where the elements of one differ."""
    rows = per_element(scale, shape).reshape(shape[0], -1)
    return rows[:, 0] if bool((rows == rows[:, :1]).all()) else None


def pool_window(
    node: fx.Node, name: str, before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[tuple[int, int] | None, tuple[int, int], tuple[int, int]]:
    """Kernel, stride and padding of a pooling; no kernel where NIR's nodes cannot express it."""
    refused = (None, (0, 0), (0, 0))
    if len(before) != 3:
        return refused
    if name == "avg_pool2d":
        given = arguments(node)
        kernel = spread(given["kernel_size"], 2)
        padding = spread(given.get("padding") or 0, 2)
        odd = given.get("ceil_mode") or given.get("divisor_override")
        if odd or (padding != (0, 0) and given.get("count_include_pad") is False):
            return refused
        return kernel, spread(given.get("stride") or kernel, 2), padding
    if name == "mean":
        dims = argument(node, "dim")
        if sorted(d % 4 for d in spread(dims or 0, 2)) != [2, 3]:
            return refused
    space = before[1:]
    cells = after[1:] if len(after) == 3 else (1, 1)
    if after[0] != before[0] or any(size % n for size, n in zip(space, cells, strict=True)):
        return refused
    kernel = (space[0] // cells[0], space[1] // cells[1])
    return kernel, kernel, (0, 0)


def spread(value: Any, dims: int) -> Any:
    """``2`` → ``(2, 2)``; one number for one dimension."""
    values = tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),) * dims
    values = values * dims if len(values) == 1 else values
    return values if dims > 1 else values[0]


def array(value: Tensor) -> Any:
    """A tensor as NIR takes it: a float32 array of NumPy."""
    return value.detach().cpu().float().numpy()


def ungrouped(weight: Tensor, groups: int) -> Tensor:
    """Weights of a grouped convolution as those of a full one: NIR's type checks and SpikingJelly know no groups.

    >>> ungrouped(torch.ones(2, 1, 1), 2)[:, :, 0]
    tensor([[1., 0.],
            [0., 1.]])
    """
    if groups == 1:
        return weight
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    full = weight.new_zeros(weight.shape[0], groups * inputs, *weight.shape[2:])
    for g in range(groups):
        rows = slice(g * outputs, (g + 1) * outputs)
        full[rows, g * inputs : (g + 1) * inputs] = weight[rows]
    return full
