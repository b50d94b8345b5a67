"""A converted network as a chain: layers, neurons, sum poolings and views, each reading the one before it alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from snnconv.export.shapes import pool_window, step_shapes
from snnconv.graph.arguments import argument, operand
from snnconv.graph.flow import Flow, layer_name
from snnconv.graph.fold import synapse_arguments
from snnconv.graph.ops import SYNAPSES, is_synapse, op_name
from snnconv.graph.source import ConversionError, activation_site
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

__all__ = ["Flatten", "Layer", "Link", "Neurons", "SumPool", "Worth", "links"]

_VIEWS = ("flatten", "view", "reshape", "contiguous", "squeeze")


@dataclass(frozen=True)
class Link:
    """One member of a chain.

    Attributes:
        name: of the layer or site.
    """

    name: str


@dataclass(frozen=True)
class Layer(Link):
    """A convolution in two dimensions, or a linear layer, without settings.

    Attributes:
        tensor: name of its weight in the source graph.
        bias: name of its bias, or None.
        worth: what a spike that it reads is worth, the division of an average pooling included.
        area: cells of the average poolings between it and the neurons before it.
        settings: stride, padding, dilation and groups of a convolution; None of a linear layer.
    """

    tensor: str
    bias: str | None
    worth: Tensor
    area: int
    settings: dict[str, Any] | None


@dataclass(frozen=True)
class Neurons(Link):
    """Integrate-and-fire neurons of one threshold."""


@dataclass(frozen=True)
class SumPool(Link):
    """A pooling by sums: of an average pooling, what is divided is in the next layer's weights."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    flat: bool = False


@dataclass(frozen=True)
class Worth(Link):
    """What a spike of a chain that ends in neurons is worth."""

    value: float


@dataclass(frozen=True)
class Flatten(Link):
    """A view of a map as a vector."""


def links(snn: SpikingNetwork, reader: str) -> list[Link]:
    """The members of a chain, in order.

    Args:
        snn: the network.
        reader: who reads the chain, for messages.

    Raises:
        ConversionError: another neuron than integrate-and-fire, several thresholds a layer, an operator or a shortcut
            that a chain has no place for; names it.
    """
    program, method = snn.program, snn.method
    if not isinstance(program, GraphProgram):
        raise ConversionError("only a network that runs as a graph can be a chain; this one runs call by call")
    if method.neuron != "if":
        raise ConversionError(f"{reader} has no {method.neuron} neurons: convert with methods.IF")
    for name in program.sites:
        count = snn.thresholds[name].numel()
        if count > 1:
            raise ConversionError(f"{name} has {count} thresholds, and a layer of a chip one: use per_channel=False")
    return _Walk(snn, program, reader).found()


class _Walk:
    """Walks the graph from the input to the output; every value has one reader."""

    def __init__(self, snn: SpikingNetwork, program: GraphProgram, reader: str) -> None:
        self.snn, self.source, self.reader = snn, program.source, reader
        self.flow = Flow(self.source.graph)
        self.shapes = step_shapes(self.source, snn)
        self.worth, self.area = torch.ones(()), 1  # of a spike of what the next layer reads

    def found(self) -> list[Link]:
        result: list[Link] = []
        before: fx.Node | None = None
        for node in (n for n in self.flow.nodes if self._carries(n)):
            if node.op == "placeholder":
                before = node
                continue
            reads = [n for n in node.all_input_nodes if self._carries(n)]
            if node.op == "output":
                if float(self.worth) != 1:  # no layer behind it takes it in
                    result.append(Worth("worth", float(self.worth)))
                break
            if reads != [before]:
                raise ConversionError(
                    f"{layer_name(node)} reads {', '.join(map(layer_name, reads))}: in a chain "
                    "every layer reads the one before it alone; shortcuts and branches have no place"
                )
            result += self._links(node)
            before = node
        return result

    def _carries(self, node: fx.Node) -> bool:
        return node in self.flow.varies and self.flow.kinds[node] not in ("shape", "size")

    def _links(self, node: fx.Node) -> list[Link]:
        name = op_name(node).strip("._")
        if is_synapse(node):
            layer = self._layer(node)
            self.worth, self.area = torch.ones(()), 1
            return [layer]
        if node.target is activation_site:
            site = str(node.kwargs["site"])
            unit = self.source.sites[site].function.unit
            self.worth, self.area = torch.ones(()) if unit else self.snn.thresholds[site].reshape(()), 1
            return [Neurons(site)]
        if name in _VIEWS:
            return [Flatten(layer_name(node))] if len(self.shapes[node]) == 1 else []
        if "avg_pool" in name or name == "mean":
            shape = self.shapes[operand(node)]
            kernel, stride, padding = pool_window(node, name, shape, self.shapes[node])
            if kernel is None or any(padding):
                raise ConversionError(f"{layer_name(node)}: {self.reader} has no sum pooling that is this average")
            self.area *= kernel[0] * kernel[1]
            self.worth = self.worth / (kernel[0] * kernel[1])
            return [SumPool(layer_name(node), kernel, stride, flat=len(self.shapes[node]) == 1)]
        raise ConversionError(
            f"{layer_name(node)}: {name} has no place between layers, neurons and sum poolings"
            + ("; train with nn.AvgPool2d" if "max_pool" in name else "")
        )

    def _layer(self, node: fx.Node) -> Layer:
        weight, bias = synapse_arguments(node)
        if weight is None:
            raise ConversionError(f"{layer_name(node)}: its weights are computed, and a chip's are constants")
        settings: dict[str, Any] | None = None
        if SYNAPSES[node.target] != "linear":
            if getattr(node.target, "__name__", "") != "conv2d":
                raise ConversionError(f"{layer_name(node)}: {op_name(node)} is no layer of a chain in two dimensions")
            settings = {key: argument(node, key, default) for key, default in
                        (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))}  # fmt: skip
        return Layer(
            layer_name(node), str(weight.target), None if bias is None else str(bias.target), self.worth, self.area,
            settings,
        )  # fmt: skip
