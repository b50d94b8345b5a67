"""A converted network as a chain: layers, neurons, sum poolings and views, each reading the one before it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from snnconv.export.neurons import neuron_settings, to_be_plain
from snnconv.export.shapes import pool_window, step_shapes
from snnconv.graph.arguments import argument, operand
from snnconv.graph.flow import Flow, layer_name
from snnconv.graph.fold import synapse_arguments
from snnconv.graph.ops import SYNAPSES, is_synapse, op_name
from snnconv.graph.source import ConversionError, activation_site
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

__all__ = ["VIEWS", "Flatten", "Layer", "Link", "Neurons", "SumPool", "Worth", "links"]

VIEWS = ("flatten", "view", "reshape", "contiguous", "squeeze")


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
        worth: what a spike that it reads is worth.
        area: cells of the average poolings between it and the neurons or the layer before it, which are sums here.
        behind: the same between it and the neurons behind it.
        settings: stride, padding, dilation and groups of a convolution; None of a linear layer.
    """

    tensor: str
    bias: str | None
    worth: Tensor
    area: int
    settings: dict[str, Any] | None
    behind: int = 1


@dataclass(frozen=True)
class Neurons(Link):
    """Integrate-and-fire neurons of one threshold.

    Attributes:
        threshold: θ, a scalar.
        half: whether they start at θ/2, and not at 0.
    """

    threshold: Tensor
    half: bool


@dataclass(frozen=True)
class SumPool(Link):
    """A pooling by sums: what an average pooling divides by is in the weights of a layer, that behind it, or that
    before it where neurons read the pooled currents.
    """

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
        ConversionError: another neuron than integrate-and-fire, several thresholds a layer, neurons that read no layer,
            an operator or a shortcut that a chain has no place for; names it.
    """
    program = snn.program
    if not isinstance(program, GraphProgram):
        raise ConversionError("only a network that runs as a graph can be a chain; this one runs call by call")
    settings = neuron_settings(snn)
    for name, found in settings.items():
        if found["neuron"] != "if":
            raise ConversionError(
                f"{name}: {reader} has no {found['neuron']} neurons; {to_be_plain(found, 'methods.IF')}"
            )
        count = torch.as_tensor(found["v_threshold"]).numel()
        if count > 1:
            raise ConversionError(f"{name} has {count} thresholds, and a layer of a chip one: use per_channel=False")
    return _Walk(snn, program, settings, reader).found()


class _Walk:
    """Walks the graph from the input to the output; every value has one reader."""

    def __init__(
        self, snn: SpikingNetwork, program: GraphProgram, settings: Mapping[str, Mapping[str, Any]], reader: str
    ) -> None:
        self.source, self.settings, self.reader = program.source, settings, reader
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
                worth = float(self.worth) / self.area
                if worth != 1:  # no layer behind it takes it in
                    result.append(Worth("worth", worth))
                break
            if reads != [before]:
                raise ConversionError(
                    f"{layer_name(node)} reads {', '.join(map(layer_name, reads))}: in a chain "
                    "every layer reads the one before it alone; shortcuts and branches have no place"
                )
            result += self._links(node)
            before = node
        return self._divided(result)

    def _divided(self, found: list[Link]) -> list[Link]:
        """The layers with what is divided between them and their neurons; every population reads a layer."""
        neurons: Neurons | None = None  # those whose layer has not been met
        result, area = list(found), 1
        for place in range(len(found) - 1, -1, -1):
            link = found[place]
            if neurons is not None and isinstance(link, Layer):
                result[place] = replace(link, behind=area)
                neurons = None
            elif neurons is not None and isinstance(link, SumPool):
                area *= link.kernel[0] * link.kernel[1]
            elif isinstance(link, Neurons):
                self._reads_layer(neurons, link.name)
                neurons, area = link, 1
        self._reads_layer(neurons, "the input")
        return result

    def _reads_layer(self, neurons: Neurons | None, read: str) -> None:
        if neurons is not None:
            raise ConversionError(
                f"{neurons.name} reads {read}: in a chain for {self.reader} neurons read a layer with weights; put one "
                "between (a 1x1 convolution), or leave the activation out"
            )

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
            settings = self.settings[site]
            theta = torch.as_tensor(settings["v_threshold"]).detach().reshape(())
            self.worth, self.area = theta if settings["scaled"] else torch.ones(()), 1
            return [Neurons(site, theta, settings["start"] == "half")]
        if name in VIEWS:
            shape, before = self.shapes[node], self.shapes[operand(node)]
            if len(shape) == 1:
                return [Flatten(layer_name(node))]
            if shape == before:
                return []
            raise ConversionError(
                f"{layer_name(node)}: a view of {list(before)} as {list(shape)}; a chain has views of a map as a vector"
                " alone"
            )
        if "avg_pool" in name or name == "mean":
            shape = self.shapes[operand(node)]
            kernel, stride, padding = pool_window(node, name, shape, self.shapes[node])
            if kernel is None or any(padding):
                raise ConversionError(f"{layer_name(node)}: {self.reader} has no sum pooling that is this average")
            self.area *= kernel[0] * kernel[1]
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
