"""Synapses: what a spike reaches, counted exactly, borders included."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_any, tree_map, tree_map_only

from snnconv.graph.arguments import arguments
from snnconv.graph.capture.fx import source_graph
from snnconv.graph.flow import layers
from snnconv.graph.ops import SYNAPSES, is_synapse, operator_of, role
from snnconv.graph.origin import origins
from snnconv.graph.source import SourceGraph
from snnconv.graph.unwrap import unwrap
from snnconv.metrics.counts import LayerSize
from snnconv.runtime.batch import Batch, Whole, entries
from snnconv.runtime.executor import Executor

__all__ = [
    "SpikeFlow", "WatchedMacs", "connections", "fan_out", "multiplications", "reached_by_site",
    "synapses_per_spike",
]  # fmt: skip

_AVERAGE_POOLS = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_ADAPTIVE_POOLS = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
_RESIZES = (F.interpolate, F.upsample)
_SUMS = tuple(operator_of(f) for f in (torch.add, torch.sub))
_TOTALS = tuple(operator_of(f) for f in (torch.mean, torch.sum))
_SPIKES = {"spikes", "sum of spikes"}
_CASTS = {"to", "float", "half", "bfloat16", "type", "type_as"}


def fan_out(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Number of output connections of each input position of a layer with weights.

    It is the adjoint of the layer with an all-ones kernel, applied to ones, so that stride, padding,
    dilation, groups and borders are exact.

    Args:
        function: the operator, such as ``torch.conv2d``.
        args, kwargs: its arguments, input and weight among them.

    Returns:
        A tensor in double precision that broadcasts against the input ``[B, ...]``.

    >>> fan_out(torch.conv1d, (torch.zeros(1, 2, 4), torch.zeros(5, 2, 3)), {})
    tensor([[[ 5., 10., 10.,  5.]]], dtype=torch.float64)
    """
    kind = SYNAPSES[function]
    given = operator_of(function).bind(args, kwargs)
    x, weight = given.pop("input"), given.pop("weight")
    if kind == "linear":
        return torch.tensor(float(weight.shape[0]), dtype=torch.float64, device=x.device)
    # each input channel of a group reaches that group's output channels, at the same places
    given.pop("bias", None)
    groups = int(given.pop("groups", 1))
    reached = weight.shape[1] if kind == "conv_transpose" else weight.shape[0] // groups
    with torch.enable_grad():
        probe = torch.zeros((1, 1, *x.shape[2:]), dtype=torch.float64, device=x.device, requires_grad=True)
        ones = torch.ones((1, 1, *weight.shape[2:]), dtype=torch.float64, device=x.device)
        (reach,) = torch.autograd.grad(function(probe, ones, None, **given).sum(), probe)
    total: Tensor = reach * reached
    return total


def connections(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """Connections of a layer for one input: the multiplications of real inputs (padding zeros are none).

    >>> connections(torch.conv1d, (torch.zeros(1, 1, 4), torch.zeros(1, 1, 3)), {"padding": 1})
    10.0
    """
    x = operator_of(function).bind(args, kwargs)["input"]
    return float(fan_out(function, args, kwargs).expand(1, *x.shape[1:]).sum())


class SpikeFlow(Executor):
    """Sends counts of spikes from the neurons through the network up to the layers with weights.

    Sums and average pooling let every spike into each cell that it contributes to; views, padding,
    concatenation and upsampling by copies move counts. What passes a layer with weights is no spike any more.

    Args:
        source: the network.
        counts: spikes of each site ``[1, ...]``.
        pooled: spikes that leave a max-pooling behind neurons, ``[1, ...]``, by node name.
        constant: count of everything that does not change over time (1 marks what is computed once).

    Attributes:
        arrived: for each layer, counts at its input and its fan-out; filled by :meth:`send`.
        sizes: for each layer, how large it is; filled by :meth:`send`.
        lost: names of operators that spikes do not survive and that are no layers with weights.
    """

    def __init__(
        self,
        source: SourceGraph,
        counts: Mapping[str, Tensor],
        pooled: Mapping[str, Tensor],
        constant: float = 0.0,
    ) -> None:
        self.counts = counts
        super().__init__(
            source, lambda site, z: self.counts[site].to(z.device) if site in self.counts else z.float() * 0
        )
        self.origin = origins(self.flow)
        self.pooled = pooled
        self.constant = constant
        self.arrived: dict[str, tuple[Tensor, Tensor]] = {}
        self.sizes: dict[str, LayerSize] = {}
        self.lost: list[str] = []
        self._names = {node: name for name, node, _ in layers(self.flow)}

    def send(self, example: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Counts and fan-out by layer; ``example`` is any input ``[1, ...]``; only its shape counts."""
        with torch.no_grad():
            self(_filled_like(example, self.constant))
        return self.arrived

    def _function(self, node: fx.Node) -> Callable[..., Any]:
        function = super()._function(node)
        if node not in self.varies or self.kinds[node] == "shape":
            return function
        if is_synapse(node):
            return partial(self._synapse, node, function)
        if node not in self.temporal:
            return partial(self._filled, self.constant, function)
        reads = {self.origin[n] for n in node.all_input_nodes}
        ends = self.kinds[node] == "linear" and self.origin[node] == "currents" and reads & _SPIKES
        if self.origin[node] in _SPIKES or ends:
            return partial(self._carried, node, function)
        return partial(self._filled, 0.0, function)

    def _synapse(self, node: fx.Node, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Tensor:
        given = operator_of(node.target).bind(args, kwargs)
        x, weight = given["input"], given["weight"]

        def meta(value: Tensor) -> Tensor:
            return torch.empty_like(value, device="meta", dtype=weight.dtype)

        shape = function(*tree_map_only(Tensor, meta, args), **tree_map_only(Tensor, meta, kwargs)).shape
        self.arrived[self._names[node]] = (x, fan_out(function, args, kwargs))
        self.sizes[self._names[node]] = _size(SYNAPSES[function], given, shape)
        fill = self.constant if node not in self.temporal else 0.0
        return torch.full(shape, fill, device=x.device)

    def _filled(self, value: float, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if not _has_tensors(args, kwargs):
            return function(*args, **kwargs)
        dtype = next((t.dtype for _, t in self.source.tensors.items() if t.is_floating_point()), torch.float32)

        def cast(tensor: Tensor) -> Tensor:
            return tensor.to(dtype) if tensor.is_floating_point() else tensor

        out = function(*tree_map_only(Tensor, cast, args), **tree_map_only(Tensor, cast, kwargs))
        return tree_map_only(Tensor, lambda t: torch.full(t.shape, value, device=t.device), out)

    def _carried(self, node: fx.Node, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if not _has_tensors(args, kwargs):
            return function(*args, **kwargs)
        kind = role(node, self.kinds[node])
        name = str(getattr(node.target, "__name__", node.target))
        if kind == "move":
            if self.kinds[node] == "affine":  # what is added from beside is a current
                given = operator_of(node.target, node.op == "call_method").bind(args, kwargs)
                moved = function(given["input"], given["pad"])
            else:
                moved = args[0] if name in _CASTS else function(*args, **kwargs)
            return tree_map_only(Tensor, torch.abs, moved)
        if kind == "choose" and node.name in self.pooled:
            return self.pooled[node.name]
        if kind == "scale":
            return self._scaled(node, args, kwargs)
        if kind == "sum" and (total := _summed(node, function, args, kwargs)) is not None:
            return total
        self.lost.append(node.meta.get("path") or node.name)
        return self._filled(0.0, function, *args, **kwargs)

    def _scaled(self, node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        values = operator_of(node.target, node.op == "call_method").bind(args, kwargs)
        tensors = [v for v in values.values() if isinstance(v, Tensor)]
        counts = next(
            values[name]
            for name, given in arguments(node).items()
            if isinstance(given, fx.Node) and given in self.varies and isinstance(values[name], Tensor)
        )
        spread: Tensor = counts.expand(torch.broadcast_shapes(*(t.shape for t in tensors)))
        return spread


def _size(kind: str, given: Mapping[str, Any], shape: torch.Size) -> LayerSize:
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    channels = weight.shape[1] if kind == "conv_transpose" else weight.shape[0] // int(given.get("groups") or 1)
    return LayerSize(
        kind, x[:1].numel(), math.prod(shape[1:]), weight.numel(), 0 if bias is None else bias.numel(),
        channels * math.prod(weight.shape[2:]),
    )  # fmt: skip


def multiplications(source: SourceGraph, example: Any) -> dict[str, float]:
    """Multiplications of every layer with weights for one input, by the layer's name; ``example`` is any ``[1, ...]``.

    >>> from torch import nn
    >>> multiplications(source_graph(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))), torch.zeros(1, 2))
    {'0': 6.0, '2': 3.0}
    """
    arrived = SpikeFlow(source, {}, {}).send(example)
    return {name: float(fan.expand(x.shape).sum()) for name, (x, fan) in arrived.items()}


def synapses_per_spike(model: nn.Module, example: Tensor) -> dict[str, tuple[float, int]]:
    """Mean number of connections that a spike of each activation reaches, and its number of neurons, by site.

    Args:
        model: the network, with ReLU or a trained activation.
        example: any input ``[B, ...]``; only its shape counts.

    Raises:
        ConversionError: a network that cannot be traced, or with weights that are NaN or infinite.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 5))
    >>> synapses_per_spike(net, torch.zeros(1, 2))
    {'1': (5.0, 3)}
    """
    source = source_graph(unwrap(model).model)
    source.tensors = {name: value.to(example.device) for name, value in source.tensors.items()}
    return reached_by_site(source, example[:1].float())


def reached_by_site(source: SourceGraph, example: Any) -> dict[str, tuple[float, int]]:
    """`synapses_per_spike` of a captured network; ``example`` is any input ``[1, ...]``."""
    reached: dict[str, tuple[float, int]] = {}
    flow = SpikeFlow(source, {}, {})
    device = next(iter(entries(example).values())).device.type
    with torch.autocast(device, enabled=False):
        for name in source.sites:
            size = 0

            def ones(site: str, z: Tensor, name: str = name) -> Tensor:
                nonlocal size
                if site == name:
                    size = z.numel()
                return torch.full_like(z, float(site == name), dtype=torch.float32)

            flow.neuron = ones
            arrived = flow.send(example)
            synapses = sum(float((spikes.double() * fan).sum()) for spikes, fan in arrived.values())
            reached[name] = synapses / max(size, 1), size
    return reached


def _filled_like(x: Any, value: float) -> Any:
    """Inputs of these shapes, all of one value."""
    if isinstance(x, Tensor):
        return torch.full_like(x, value)

    def filled(v: Any) -> Any:
        if isinstance(v, Whole):
            return Whole(torch.full_like(v.data, value))
        return torch.full_like(v, value) if isinstance(v, Tensor) else v

    return Batch(tree_map(filled, x.values))


def _has_tensors(*trees: Any) -> bool:
    return tree_any(lambda v: isinstance(v, Tensor), trees)


def _summed(
    node: fx.Node, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Tensor | None:
    """Counts behind an operator that adds: every spike enters each cell that it contributes to; None if not known."""
    record = operator_of(node.target, node.op == "call_method")
    given = record.bind(args, kwargs)
    x = given.get("input")
    if node.target in _AVERAGE_POOLS:
        return _window_sums(**given)
    if node.target in _ADAPTIVE_POOLS:
        return _adaptive_sums(given["input"], function(*args, **kwargs))
    if node.target in _RESIZES:
        return _resized(given["input"], function, args, kwargs)
    if record in _TOTALS:
        given.pop("dtype", None)
        return torch.sum(**given)
    if record not in _SUMS:
        return None
    operands = [a for a in (x, given.get("other")) if isinstance(a, Tensor)]
    return torch.stack(torch.broadcast_tensors(*operands)).sum(0)


def _window_sums(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    dims = input.dim() - 2

    def spread(value: Any) -> list[int]:
        return list(value) * (dims if len(value) == 1 else 1) if isinstance(value, (tuple, list)) else [value] * dims

    kernel = spread(kernel_size)
    steps, pads = spread(stride) if stride not in (None, [], ()) else kernel, spread(padding)
    if dims == 1:  # avg_pool1d has no divisor_override
        flat = F.avg_pool2d(input.unsqueeze(2), (1, *kernel), (1, *steps), (0, *pads), ceil_mode, divisor_override=1)
        return flat.squeeze(2)
    pool = F.avg_pool2d if dims == 2 else F.avg_pool3d
    return pool(input, kernel, steps, pads, ceil_mode, True, 1)


def _adaptive_sums(x: Tensor, pooled: Tensor) -> Tensor:
    """Adaptive average pooling times the size of each cell's window."""
    sums = pooled.double()
    for axis in range(2, x.dim()):
        size, cells = x.shape[axis], pooled.shape[axis]
        windows = [math.ceil((i + 1) * size / cells) - i * size // cells for i in range(cells)]
        shape = [1] * x.dim()
        shape[axis] = cells
        sums = sums * torch.tensor(windows, dtype=sums.dtype, device=x.device).reshape(shape)
    return sums.round().to(x.dtype)


def _resized(x: Tensor, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Interpolation: a spike enters every cell where it has a weight, found axis by axis with impulses."""
    out = function(*args, **kwargs)
    counts = x
    for axis in range(2, x.dim()):
        size = x.shape[axis]
        # the response along one axis does not depend on the others: put impulses on it, constants on the rest
        shape = [size, 1, *x.shape[2:]]
        impulses = torch.zeros(shape, device=x.device)
        view = [1] * x.dim()
        view[0], view[axis] = size, size
        impulses += torch.eye(size, device=x.device).reshape(view)
        given = (impulses, *args[1:]) if args else ()
        named = dict(kwargs) if args else {**kwargs, "input": impulses}
        response = function(*given, **named)
        for other in range(2, x.dim()):
            if other != axis:
                response = response.select(other, 0).unsqueeze(other)
        matrix = (response.reshape(size, -1).abs() > 1e-7).to(x.dtype)
        counts = torch.tensordot(counts, matrix, dims=([axis], [0])).movedim(-1, axis)
    assert counts.shape == out.shape
    return counts


class WatchedMacs(TorchFunctionMode):
    """Counts the multiplications of every layer with weights that runs inside, where nothing is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in SYNAPSES:
            x = operator_of(func).bind(args, kwargs)["input"]
            self.total += connections(func, args, kwargs) * x.shape[0]
        return func(*args, **kwargs)
