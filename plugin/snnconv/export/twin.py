"""The quantised network of as many levels as a spiking one, from its own thresholds, as one that ONNX can say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconv.export.neurons import neuron_settings
from snnconv.graph.fold import synapse_arguments
from snnconv.graph.ops import is_synapse
from snnconv.graph.source import ConversionError, SourceGraph, activation_site
from snnconv.methods.base import Method
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

__all__ = ["QuantisedTwin", "equal_twin", "quantised_twin"]

BITS = 8
"""Of the integers at a site."""


class Quantiser(nn.Module):
    """clip(⌊z/q + 1/2⌋, 0 or −L, L)·q with ONNX's QuantizeLinear and DequantizeLinear, which round half to even.

    Args:
        step: q, one value or one a channel.
        levels: L = 2^T − 1.
        axis: channel axis.
        signed: whether codes may be negative.
        function: f, applied to the input first, or None.
        worth: what a code of 1 is worth in the output; None: q.
    """

    def __init__(
        self, step: Tensor, levels: int, axis: int, signed: bool, function: Any, worth: Tensor | None = None
    ) -> None:
        super().__init__()
        self.levels, self.axis, self.signed, self.function = levels, axis, signed, function
        step, worth = (v.reshape(()) if v.numel() == 1 else v for v in (step, step if worth is None else worth))
        self.register_buffer("step", step)
        self.register_buffer("worth", worth)
        self.register_buffer("zero", torch.zeros_like(step, dtype=torch.int8 if signed else torch.uint8))

    def forward(self, z: Tensor) -> Tensor:
        step, worth, zero = (self.get_buffer(name) for name in ("step", "worth", "zero"))
        axis = self.axis % z.dim()
        y = z if self.function is None else self.function(z, self.axis)
        shape = [-1 if d == axis else 1 for d in range(z.dim())]
        broadcast, worths = (v if not v.dim() else v.reshape(shape) for v in (step, worth))
        largest = broadcast * self.levels
        y = torch.minimum(y, largest) if not self.signed else torch.minimum(torch.maximum(y, -largest), largest)
        if not torch.compiler.is_compiling():
            code = torch.round(y / broadcast).clamp(-self.levels if self.signed else 0, self.levels)
            return code * worths
        attributes = {"axis": axis} if step.dim() else {}
        code = _symbolic("QuantizeLinear", (y, step, zero), attributes, dtype=zero.dtype, shape=y.shape)
        return _symbolic("DequantizeLinear", (code, worth, zero), attributes, dtype=y.dtype, shape=y.shape)


class Weight(nn.Module):
    """A weight in 8 bits: w ≈ s_c·n, n whole in −127 … 127, one s an output channel."""

    def __init__(self, weight: Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        others = [d for d in range(weight.dim()) if d != axis]
        scale = weight.abs().amax(others).clamp(min=torch.finfo(weight.dtype).tiny) / 127
        shape = [-1 if d == axis else 1 for d in range(weight.dim())]
        self.register_buffer("scale", scale)
        self.register_buffer("code", torch.round(weight / scale.reshape(shape)).clamp(-127, 127).to(torch.int8))

    def forward(self) -> Tensor:
        code, scale = self.get_buffer("code"), self.get_buffer("scale")
        if torch.compiler.is_compiling():
            return _symbolic(
                "DequantizeLinear", (code, scale), {"axis": self.axis}, dtype=scale.dtype, shape=code.shape
            )
        return code.to(scale.dtype) * scale.reshape([-1 if d == self.axis else 1 for d in range(code.dim())])


def _symbolic(operator: str, inputs: Any, attributes: Mapping[str, Any], **what: Any) -> Tensor:
    result: Tensor = torch.onnx.ops.symbolic(operator, inputs, dict(attributes), **what)
    return result


class QuantisedTwin(nn.Module):
    """The quantised network: ``forward(*inputs)``; of sum coding it gives what the spiking one gives, to rounding.

    Attributes:
        inputs: names of the inputs.
        quantisers: those of the sites, by their names.
    """

    def __init__(self, source: SourceGraph, quantisers: Mapping[str, Quantiser], int8_weights: bool) -> None:
        super().__init__()
        root, graph = nn.Module(), fx.Graph()
        made: dict[fx.Node, Any] = {}
        for node in source.graph.nodes:
            args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), made.__getitem__)
            if node.op == "output":
                graph.output(args[0])
            elif node.op == "get_attr":
                made[node] = _tensor(root, graph, source, node, int8_weights)
            elif node.target is activation_site:
                name = f"site_{len(made)}"
                root.add_module(name, quantisers[str(node.kwargs["site"])])
                made[node] = graph.call_module(name, (args[0],))
            elif node.op == "call_module":
                name = f"kept_{str(node.target).replace('.', '_')}"
                root.add_module(name, source.modules[str(node.target)])
                made[node] = graph.call_module(name, args, kwargs)
            else:
                view = node.op == "call_method" and node.target == "view"
                view = view and not any(isinstance(a, torch.dtype) for a in node.args)
                made[node] = graph.create_node(node.op, "reshape" if view else node.target, args, kwargs)
        self.inputs = source.placeholders()
        self.quantisers = dict(quantisers)
        self.program = fx.GraphModule(root, graph, "Twin")
        self.requires_grad_(False)
        self.eval()

    @property
    def levels(self) -> dict[str, int]:
        """Levels above zero of each site."""
        return {name: quantiser.levels for name, quantiser in self.quantisers.items()}

    def forward(self, *given: Any) -> Any:
        return self.program(*given)


def _tensor(root: nn.Module, graph: fx.Graph, source: SourceGraph, node: fx.Node, int8_weights: bool) -> fx.Node:
    name = f"tensor_{str(node.target).replace('.', '_').replace(':', '_')}"
    value = source.tensors[str(node.target)].detach().clone()
    layers = [user for user in node.users if is_synapse(user) and synapse_arguments(user)[0] is node]
    if int8_weights and layers:
        axis = 1 if "transpose" in getattr(layers[0].target, "__name__", "") else 0
        root.add_module(name, Weight(value, axis))
        return graph.call_module(name)
    root.register_buffer(name, value)
    return graph.get_attr(name)


def quantised_twin(snn: SpikingNetwork, int8_weights: bool = False, method: Method | None = None) -> QuantisedTwin:
    """The quantised network with as many levels as the spiking one: what it has to be compared with.

    At each site y = q · clip(⌊z/q + 1/2⌋, 0, L), from −L on where neurons have both signs. In sum coding q is the
    smallest step and L = 2^T − 1: the spiking network gives the same. In rate coding q = θ/T and L = T, the most that
    T steps can say; weights and biases are the converted network's, corrections included.

    Args:
        snn: a network that runs as a graph.
        int8_weights: weights in 8 bits, one scale an output channel.
        method: of fewer steps than the network's, for the levels of a readout after them; the network's by default.

    Raises:
        ConversionError: a network that runs call by call; differential coding; neurons put in by hand.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    >>> x = torch.randn(64, 4)
    >>> snn = snnconv.convert(model, snnconv.methods.ShiftedThreshold(timesteps=3), x, progress=False)
    >>> twin = quantised_twin(snn)
    >>> twin.levels, bool(torch.allclose(twin(x), snn(x), atol=1e-5))
    ({'1': 7}, True)
    """
    program, method = snn.program, method or snn.method
    if not isinstance(program, GraphProgram):
        why = "; ".join(snn.report.notes) if snn.report is not None else "it runs call by call"
        raise ConversionError(f"only a network that runs as a graph has a twin: {why}")
    if method.coding not in _LEVELS:
        raise ConversionError(
            f"methods.{type(method).__name__} ({method.coding} coding) has no levels that a quantiser could have; "
            "convert with methods.SignedIF or methods.ShiftedThreshold for a twin"
        )
    quantisers = {}
    for name, settings in neuron_settings(snn).items():
        theta = torch.as_tensor(settings["v_threshold"]).detach().clone()
        step, levels = _LEVELS[method.coding](theta, method.at(name).timesteps)
        worth = step if settings["scaled"] else step / theta
        signed = bool(settings.get("signed", False))
        axis, function = program.sites[name].axis, settings.get("function")
        quantisers[name] = Quantiser(step, levels, axis, signed, function, worth)
    return QuantisedTwin(program.source, quantisers, int8_weights)


_LEVELS: dict[str, Callable[[Tensor, int], tuple[Tensor, int]]] = {
    "sum": lambda threshold, steps: (threshold, 2**steps - 1),
    "rate": lambda threshold, steps: (threshold / steps, steps),
}
"""Coding → smallest step and number of levels of a threshold and T."""


def equal_twin(snn: SpikingNetwork, int8_weights: bool = False) -> QuantisedTwin:
    """The quantised network that a sum-coded one is equal to, in QuantizeLinear's 8 bits.

    Raises:
        ConversionError: as :func:`quantised_twin`; rate coding; more than 8 bits.
    """
    if isinstance(snn.program, GraphProgram) and snn.method.coding != "sum":
        raise ConversionError(
            f"methods.{type(snn.method).__name__} codes by rates, whose answer no quantised network equals; convert "
            "with methods.ShiftedThreshold for a twin"
        )
    twin = quantised_twin(snn, int8_weights)
    for name, quantiser in twin.quantisers.items():
        bits = quantiser.levels.bit_length()
        if bits + quantiser.signed > BITS:
            raise ConversionError(
                f"{name}: {bits} bits{' and a sign' if quantiser.signed else ''} do not fit QuantizeLinear's {BITS}"
            )
    return twin
