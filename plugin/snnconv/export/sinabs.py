"""A converted network as a sinabs network, whose neurons are those of SynSense's chips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from snnconv.export.shapes import pool_window, step_shapes
from snnconv.graph.arguments import argument, operand
from snnconv.graph.flow import Flow, layer_name
from snnconv.graph.fold import synapse_arguments
from snnconv.graph.ops import SYNAPSES, is_synapse, op_name
from snnconv.graph.source import ConversionError, activation_site, unique_name
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["to_sinabs"]

_VIEWS = ("flatten", "view", "reshape", "contiguous", "squeeze")


def to_sinabs(snn: SpikingNetwork, timesteps: int | None = None) -> nn.Sequential:
    """A chain of layers, integrate-and-fire neurons and sum poolings in sinabs' classes, for its simulator and chips.

    Neurons are ``IAFSqueeze`` with the soft reset, one spike a step and one threshold a layer; they start at θ/2 as the
    network's do. What a spike is worth, and the division of an average pooling, are in the weights that read it. Input
    is ``[B·T, ...]``, the T steps of a sample one behind the other: ``x.repeat_interleave(T, 0)`` for a constant one.
    The output is the last layer's currents of every step; their mean over the steps is the network's answer.

    Args:
        snn: a network of ``methods.IF`` with ``per_channel=False`` that runs as a graph, layer behind layer.
        timesteps: T of a call of the result; the network's by default.

    Returns:
        ``nn.Sequential`` whose children have the names of the layers and sites.

    Raises:
        ImportError: sinabs is not installed.
        ConversionError: another neuron, several thresholds a layer, an operator or a shortcut that a chain has no place
            for; names it.

    Example:
        >>> import snnconv
        >>> model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3))
        >>> method = snnconv.methods.IF(timesteps=8, per_channel=False)
        >>> snn = snnconv.convert(model, method, torch.rand(16, 2, 8, 8))
        >>> [type(m).__name__ for m in snnconv.to_sinabs(snn)]
        ['Conv2d', 'Population', 'SumPool2d', 'Flatten', 'Linear']
    """
    try:
        import sinabs  # noqa: F401
    except ImportError as error:
        raise ImportError('sinabs is not installed: pip install "snnconv-plugin[exchange]"') from error
    program, method = snn.program, snn.method
    if not isinstance(program, GraphProgram):
        raise ConversionError("only a network that runs as a graph can be a chain; this one runs call by call")
    if method.neuron != "if":
        raise ConversionError(f"sinabs has no {method.neuron} neurons: convert with methods.IF")
    for name in program.sites:
        count = snn.thresholds[name].numel()
        if count > 1:
            raise ConversionError(f"{name} has {count} thresholds, and a layer of a chip one: use per_channel=False")
    return _Chain(snn, program, snn.timesteps if timesteps is None else timesteps).written()


class _Chain:
    """Walks the graph from the input to the output; every value has one reader."""

    def __init__(self, snn: SpikingNetwork, program: GraphProgram, timesteps: int) -> None:
        self.snn, self.source, self.timesteps = snn, program.source, timesteps
        self.flow = Flow(self.source.graph)
        self.shapes = step_shapes(self.source, snn)
        self.result = nn.Sequential()
        self.worth = torch.ones(())  # of a spike of what the next layer reads

    def written(self) -> nn.Sequential:
        nodes = [n for n in self.flow.nodes if self._carries(n)]
        before: fx.Node | None = None
        for node in nodes:
            if node.op == "placeholder":
                before = node
                continue
            reads = [
                n for n in node.all_input_nodes if n in self.flow.varies and self.flow.kinds[n] not in ("shape", "size")
            ]
            if node.op == "output":
                break
            if reads != [before]:
                raise ConversionError(
                    f"{layer_name(node)} ({op_name(node)}) reads {' and '.join(map(layer_name, reads))}: in a chain "
                    "every layer reads the one before it alone; shortcuts and branches have no place"
                )
            self._append(node)
            before = node
        return self.result.eval()

    def _carries(self, node: fx.Node) -> bool:
        return node in self.flow.varies and self.flow.kinds[node] not in ("shape", "size")

    def _add(self, name: str, module: nn.Module) -> None:
        name = (name or "layer").replace(".", "_").replace(":", "_")
        self.result.add_module(unique_name(name.replace(":", "_"), self.result._modules, mark="_"), module)

    def _append(self, node: fx.Node) -> None:
        from sinabs.layers import SumPool2d

        name = op_name(node).strip("._")
        if is_synapse(node):
            self._add(layer_name(node), self._layer(node))
            self.worth = torch.ones(())
        elif node.target is activation_site:
            site = str(node.kwargs["site"])
            theta = self.snn.thresholds[site].reshape(())
            half = self.snn.method.neuron_options.get("start", "half") == "half"
            self._add(site, _population(float(theta), 0.5 * float(theta) if half else 0.0, self.timesteps))
            self.worth = theta
        elif name in _VIEWS:
            if len(self.shapes[node]) == 1:
                self._add(layer_name(node), nn.Flatten(1))
        elif "avg_pool" in name or name == "mean":
            shape = self.shapes[operand(node)]
            kernel, stride, padding = pool_window(node, name, shape, self.shapes[node])
            if kernel is None or any(padding):
                raise ConversionError(f"{layer_name(node)}: sinabs has no sum pooling that is this average")
            self._add(layer_name(node), SumPool2d(kernel, stride))
            self.worth = self.worth / (kernel[0] * kernel[1])
            if len(self.shapes[node]) == 1:
                self._add(f"{layer_name(node)}_flat", nn.Flatten(1))
        else:
            raise ConversionError(
                f"{layer_name(node)}: {name} has no place between layers, neurons and sum poolings"
                + ("; train with nn.AvgPool2d" if "max" in name else "")
            )

    def _layer(self, node: fx.Node) -> nn.Module:
        weight, bias = synapse_arguments(node)
        if weight is None:
            raise ConversionError(f"{layer_name(node)}: its weights are computed, and a chip's are constants")
        values = self.source.tensors[str(weight.target)]
        offset = None if bias is None else self.source.tensors[str(bias.target)]
        layer: nn.Module
        if SYNAPSES[node.target] == "linear":
            layer = nn.Linear(values.shape[1], values.shape[0], bias=offset is not None, dtype=values.dtype)
        elif getattr(node.target, "__name__", "") == "conv2d":
            given = {key: argument(node, key, default) for key, default in
                     (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))}  # fmt: skip
            size = int(values.shape[2]), int(values.shape[3])
            layer = nn.Conv2d(values.shape[1] * int(given["groups"]), values.shape[0], size,
                              bias=offset is not None, dtype=values.dtype, **given)  # fmt: skip
        else:
            raise ConversionError(f"{layer_name(node)}: {op_name(node)} is no layer of a chain in two dimensions")
        with torch.no_grad():
            layer.get_parameter("weight").copy_(values * self.worth.to(values))
            if offset is not None:
                layer.get_parameter("bias").copy_(offset)
        return layer.requires_grad_(False)


def _population(theta: float, start: float, timesteps: int) -> nn.Module:
    """sinabs' integrate-and-fire neurons that begin at ``start``."""
    from sinabs.activation import MembraneSubtract, SingleSpike
    from sinabs.layers import IAFSqueeze

    base: Callable[..., Any] = IAFSqueeze

    class Population(base):  # type: ignore[misc, valid-type]
        """Integrate-and-fire neurons, one spike a step, that begin where the converted network's do."""

        def init_state_with_shape(self, shape: Any, randomize: bool = False) -> None:
            super().init_state_with_shape(shape, randomize)
            self._begin()

        def reset_states(self, *given: Any, **named: Any) -> None:
            super().reset_states(*given, **named)
            self._begin()

        def forward(self, x: Tensor) -> Tensor:
            self.reset_states()  # every call is a run of its own, as the network's are
            result: Tensor = super().forward(x)
            return result

        def _begin(self) -> None:
            if self.is_state_initialised():
                with torch.no_grad():
                    self.v_mem.fill_(start)

    return Population(num_timesteps=timesteps, spike_threshold=torch.tensor(theta),
                      spike_fn=SingleSpike, reset_fn=MembraneSubtract(), min_v_mem=None)  # fmt: skip
