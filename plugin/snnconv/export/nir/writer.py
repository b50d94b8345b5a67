"""Writing a converted network as a NIR graph."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import nir
import numpy as np
import torch
from torch import Tensor, fx

from snnconv.dynamics.neuron import Neuron, get
from snnconv.export.neurons import neuron_settings, to_be_plain
from snnconv.export.nir.extension import NeuronNode, can_say
from snnconv.export.shapes import array, per_channel, per_element, pool_window, spread, step_shapes, ungrouped
from snnconv.files.atomic import write_whole
from snnconv.graph.arguments import arguments, operand
from snnconv.graph.fold import shift_bias, synapse_arguments
from snnconv.graph.ops import SYNAPSES, op_name
from snnconv.graph.source import ConversionError, broadcast
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

__all__ = ["to_nir"]

Start = Literal["current", "state"]
Pooling = Literal["average", "sum"]
_RESHAPES = {"flatten", "view", "reshape", "squeeze"}
_IDENTITIES = {"contiguous", "clone", "detach", "float", "to", "type_as"}


def to_nir(
    snn: SpikingNetwork,
    path: str | os.PathLike[str] | None = None,
    *,
    start: Start = "current",
    pooling: Pooling = "average",
    extensions: bool = False,
    grouped: bool = False,
) -> nir.NIRGraph:
    """Write an integrate-and-fire network as a NIR graph of standard nodes.

    Nodes: Input, Conv1d, Conv2d, Affine, Linear, IF, AvgPool2d or SumPool2d, Flatten, Scale, Output; several edges into
    one node are a sum (residual connections). The input is a constant current; the output of step t is the last
    layer's current, and the network's result its mean over steps ``delay + 1 … T``.

    Args:
        snn: a network converted with an integrate-and-fire method (``methods.IF``, ``LocalThresholdBalancing``,
            ``RateNorm``).
        path: file to write (HDF5); ``None`` gives the graph alone.
        start: the membrane starts at zero and gets θ/2 as a constant ``"current"`` spread over T steps, or at θ/2 as a
            ``"state"`` that the reader must set. Neurons that start at zero themselves (``start="zero"`` of the method)
            need neither.
        pooling: average pooling as ``"average"`` (AvgPool2d), or as ``"sum"`` (SumPool2d; the next weights divide).
        extensions: write other neurons, such as signed and shifted-threshold ones, as nodes of
            :mod:`snnconv.export.nir.extension`, which other tools refuse.
        grouped: write grouped convolutions as such, not as full ones; NIR has them, and few importers.

    Returns:
        The graph; its ``metadata`` hold ``timesteps``, ``delay``, ``reset``, ``v_init`` (in units of each threshold).

    Raises:
        ConversionError: a neuron or an operator that NIR cannot express, by name.

    >>> import snnconv
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=8), calibration=torch.randn(64, 4))
    >>> sorted(type(node).__name__ for node in to_nir(snn).nodes.values())
    ['Affine', 'Affine', 'IF', 'Input', 'Output']
    """
    if start not in get_args(Start):
        raise ValueError(f"start must be one of {get_args(Start)}, got {start!r}")
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling must be one of {get_args(Pooling)}, got {pooling!r}")
    graph = _Writer(snn, start, pooling, extensions, grouped).graph()
    if path is not None:
        _write(Path(path), graph)
    return graph


def _write(path: Path, graph: nir.NIRGraph) -> None:
    """Whole or not at all."""
    content = io.BytesIO()  # h5py's errors for a disk that is full are of several kinds
    nir.write(content, graph)
    try:
        write_whole(path, content.getvalue())
    except OSError as error:
        raise type(error)(error.errno, f"could not write {path}: {error.strerror}", str(path)) from error


@dataclass
class _Value:
    """A tensor of the network as the graph carries it: node ``name`` gives it divided by ``scale``.

    ``scale`` is one number, one a channel, or one an element of a step without its batch dimension.
    """

    name: str
    shape: tuple[int, ...]
    scale: Tensor | None = None


def _neuron(settings: Mapping[str, Any]) -> tuple[Neuron, dict[str, Any]]:
    """The record of a site's neurons, and their options; the channel axis is the thresholds'."""
    record = get(str(settings["neuron"]))
    return record, {option.name: settings[option.name] for option in record.settable}


def _no_layer(where: str, current: str, instead: str) -> ConversionError:
    return ConversionError(
        f"{where}: its neurons read no layer whose bias could hold the current of {current}; {instead}, or put pooling "
        "and views behind the activation"
    )


class _Writer:
    """Walks a source graph and writes NIR nodes."""

    def __init__(
        self, snn: SpikingNetwork, start: Start, pooling: Pooling, extensions: bool = False, grouped: bool = False
    ) -> None:
        program = snn.program
        if not isinstance(program, GraphProgram):
            why = "; ".join(snn.report.notes) if snn.report is not None else "this one runs call by call"
            raise ConversionError(f"only traced networks can be written to NIR: {why}")
        self.settings = neuron_settings(snn)
        for name, settings in self.settings.items():
            neuron, options = _neuron(settings)
            sayable = can_say(neuron, options)
            if not neuron.nir and not (extensions and sayable):
                kind = type(snn.neurons[name]).__name__
                raise ConversionError(
                    f"{name}: NIR has no node for {kind} neurons; "
                    + to_be_plain(settings, "methods.IF, LocalThresholdBalancing or RateNorm")
                    + (", or write nodes of our own (extensions=True)" if sayable else "")
                )
        self.snn, self.start, self.pooling, self.grouped = snn, start, pooling, grouped
        self.source = program.source.copy()
        starts = {settings.get("start", "half") for settings in self.settings.values()}
        if len(starts) > 1:
            raise ConversionError(
                "the file says one initial state for all neurons, and this network's layers start at θ/2 and at 0: "
                "convert without overrides of start"
            )
        self.half = starts == {"half"} and bool(snn.method.record.nir)  # the others say themselves where they start
        if start == "current" and self.half:
            shapes = step_shapes(self.source, snn)
            for node in self.source.site_nodes():
                site = self.source.sites[str(node.kwargs["site"])]
                theta = broadcast(snn.thresholds[site.name], 1 + len(shapes[node]), site.axis)
                read = node.args[0]
                shift_bias(self.source, node, theta / 2 / snn.timesteps)
                if node.args[0] is not read:
                    raise _no_layer(site.name, "their start", "write it with start='state'")
        self.shapes = step_shapes(self.source, snn)
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.values: dict[fx.Node, _Value] = {}

    def graph(self) -> nir.NIRGraph:
        for node in self.source.graph.nodes:
            if node.op == "output":
                self._output(node)
            elif node in self.shapes:
                self.values[node] = self._value(node)
        method = self.snn.method
        metadata = {
            "made_by": "snnconv",
            "timesteps": method.timesteps,
            "delay": self.snn.delay,
            "reset": "subtract",
            "v_init": 0.5 if self.start == "state" and self.half else 0.0,
        }
        if method.coding != "rate":
            metadata["coding"] = method.coding
        return nir.NIRGraph(self.nodes, self.edges, metadata=metadata)

    # ------------------------------------------------------------------ nodes

    def _value(self, node: fx.Node) -> _Value:
        if node.op == "placeholder":
            return self._add("input", nir.Input(np.array(self.shapes[node])), (), self.shapes[node])
        if node.op == "call_function" and node.kwargs.get("site") is not None:
            return self._neurons(node)
        if node.target in SYNAPSES:
            return self._synapse(node)
        name = op_name(node).lstrip(".")
        operands = [a for a in node.all_input_nodes if a in self.values]
        if name in ("add", "iadd", "__add__") and len(operands) == len(node.args) == 2:
            return self._sum(node, operands)
        if len(operands) == 1:
            value = self.values[operands[0]]
            if name in _IDENTITIES:
                return value
            if name in _RESHAPES and np.prod(value.shape) == np.prod(self.shapes[node]) == self.shapes[node][0]:
                return self._flatten(node, value)
            if name in ("avg_pool2d", "adaptive_avg_pool2d", "mean"):
                return self._pool(node, name, value)
        raise self._refusal(node, name)

    def _refusal(self, node: fx.Node, name: str) -> ConversionError:
        where = node.meta.get("path") or node.name
        if any(n.op == "get_attr" and str(n.target).endswith(".current") for n in node.all_input_nodes):
            return _no_layer(where, "a correction", "convert with correction='none'")
        hint = "; average pooling can be written" if "max" in name else ""
        return ConversionError(f"{where}: NIR has no node for the operator {name} of this network{hint}")

    def _add(
        self,
        name: str,
        made: nir.NIRNode,
        inputs: tuple[_Value, ...],
        shape: tuple[int, ...],
        scale: Tensor | None = None,
    ) -> _Value:
        name = name.replace(".", "_").replace(":", "_") or type(made).__name__.lower()
        number, unique = 2, name
        while unique in self.nodes:
            unique, number = f"{name}_{number}", number + 1
        self.nodes[unique] = made
        self.edges += [(value.name, unique) for value in inputs]
        return _Value(unique, shape, scale)

    def _plain(self, value: _Value) -> _Value:
        """The value itself, its scale multiplied out by a node of its own."""
        if value.scale is None:
            return value
        full = per_element(value.scale, value.shape)
        return self._add(f"{value.name}_scale", nir.Scale(array(full)), (value,), value.shape)

    def _neurons(self, node: fx.Node) -> _Value:
        name = str(node.kwargs["site"])
        site, shape = self.source.sites[name], self.shapes[node]
        settings = self.settings[name]
        theta = torch.as_tensor(settings["v_threshold"]).detach()  # in sum coding the least bit's
        producer = node.args[0]
        assert isinstance(producer, fx.Node)
        value = self._plain(self.values[producer])
        amplitude = per_element(theta, shape, site.axis) if settings["scaled"] else None
        threshold = per_element(theta, shape, site.axis)
        if producer.target in SYNAPSES and len(producer.users) == 1 and self._normalise(value.name, theta, site.axis):
            threshold = torch.ones_like(threshold)
        record, options = _neuron(settings)
        if not record.nir:
            made = NeuronNode(record.name, array(threshold), options)
            return self._add(f"{name}_neurons", made, (value,), shape, amplitude)
        neuron = getattr(nir, record.nir)  # a unit resistance, and a soft reset by the metadata
        made = neuron(r=np.ones(shape, np.float32), v_threshold=array(threshold), v_reset=np.zeros(shape, np.float32))
        return self._add(f"{name}_if", made, (value,), shape, amplitude)

    def _normalise(self, name: str, theta: Tensor, axis: int) -> bool:
        """Divide the layer in front of neurons by their thresholds."""
        layer = self.nodes[name]
        if axis not in (1, -1 if layer.weight.ndim == 2 else 1):
            return False
        divisor = array(theta.reshape(-1))
        layer.weight = layer.weight / divisor.reshape(-1, *[1] * (layer.weight.ndim - 1))
        if hasattr(layer, "bias"):
            layer.bias = layer.bias / divisor
        return True

    def _synapse(self, node: fx.Node) -> _Value:
        weight_node, bias_node = synapse_arguments(node)
        value = self.values[operand(node)]
        kind = SYNAPSES[node.target]
        if weight_node is None or kind == "conv_transpose":
            raise self._refusal(node, op_name(node))
        if kind == "linear" and len(value.shape) != 1:
            raise ConversionError(
                f"{node.meta.get('path') or node.name}: this linear layer runs along a sequence, {list(value.shape)} a "
                "sample, and NIR's linear nodes take one dimension [features]; a Conv1d with kernels of 1 on "
                "[channels, length] is the same layer and can be written"
            )
        weight = self.source.tensors[str(weight_node.target)].detach()
        bias = None if bias_node is None else self.source.tensors[str(bias_node.target)].detach()
        path = node.meta.get("path") or node.name
        if kind == "linear":
            if value.scale is not None:
                weight = weight * per_element(value.scale, value.shape)
            made = nir.Linear(array(weight)) if bias is None else nir.Affine(array(weight), array(bias))
            return self._add(path, made, (value,), self.shapes[node])
        given = arguments(node)
        groups = int(given.get("groups", 1))
        if value.scale is not None:
            channels = per_channel(value.scale, value.shape)
            if channels is None:
                value = self._plain(value)
            else:  # each output reads the channels of its group
                of_groups = channels.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, 0)
                weight = weight * of_groups.reshape(*weight.shape[:2], *[1] * (weight.dim() - 2))
        if not self.grouped:
            weight, groups = ungrouped(weight, groups), 1
        dims = weight.dim() - 2
        if dims > 2:
            raise self._refusal(node, op_name(node))
        space = value.shape[1:] if dims == 2 else value.shape[1]
        made = (nir.Conv2d if dims == 2 else nir.Conv1d)(
            input_shape=space if groups == 1 else None,  # NIR's type check counts a group's channels alone
            weight=array(weight),
            stride=spread(given.get("stride", 1), dims),
            padding=given["padding"]
            if isinstance(given.get("padding"), str)
            else spread(given.get("padding", 0), dims),
            dilation=spread(given.get("dilation", 1), dims),
            groups=groups,
            bias=array(bias if bias is not None else weight.new_zeros(weight.shape[0])),
        )
        return self._add(path, made, (value,), self.shapes[node])

    def _sum(self, node: fx.Node, operands: list[fx.Node]) -> _Value:
        """Several edges into one node: an all-ones Scale, so that the sum has a name."""
        values = tuple(self._plain(self.values[operand]) for operand in operands)
        ones = np.ones(self.shapes[node], np.float32)
        if any(value.shape != self.shapes[node] for value in values) or node.kwargs.get("alpha", 1) != 1:
            raise self._refusal(node, op_name(node))
        return self._add(node.meta.get("path") or node.name, nir.Scale(ones), values, self.shapes[node])

    def _flatten(self, node: fx.Node, value: _Value) -> _Value:
        scale = value.scale
        if scale is not None and scale.numel() > 1:
            scale = per_element(scale, value.shape).flatten()
        if len(value.shape) == 1:
            return value
        made = nir.Flatten(input_type={"input": np.array(value.shape)}, start_dim=0, end_dim=-1)
        return self._add(node.meta.get("path") or node.name, made, (value,), self.shapes[node], scale)

    def _pool(self, node: fx.Node, name: str, value: _Value) -> _Value:
        kernel, stride, padding = pool_window(node, name, value.shape, self.shapes[node])
        channels = None if value.scale is None else per_channel(value.scale, value.shape)
        if kernel is None:
            raise self._refusal(node, name)
        if value.scale is not None and channels is None:
            value = self._plain(value)
        settings = {"kernel_size": np.array(kernel), "stride": np.array(stride), "padding": np.array(padding)}
        path = node.meta.get("path") or node.name
        space = self.shapes[node] if len(self.shapes[node]) == 3 else (*self.shapes[node], 1, 1)
        scale = None if channels is None else channels.reshape(-1, 1, 1).expand(space)
        if self.pooling == "sum":
            divided = torch.full(space, 1.0 / (kernel[0] * kernel[1]))
            scale = divided if scale is None else scale.cpu() * divided
            found = self._add(path, nir.SumPool2d(**settings), (value,), space, scale)
        else:
            found = self._add(path, nir.AvgPool2d(**settings), (value,), space, scale)
        return self._flatten(node, found) if len(self.shapes[node]) == 1 else found

    def _output(self, node: fx.Node) -> None:
        last = node.args[0]
        if not isinstance(last, fx.Node) or last not in self.values:
            raise ConversionError("NIR networks have one output tensor; this one returns several or none")
        value = self._plain(self.values[last])
        self._add("output", nir.Output(np.array(value.shape)), (value,), value.shape)
