"""A converted network as NeuroBench's harness takes it: layers of ``torch.nn`` that are called with unit spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconv.graph.arguments import arguments
from snnconv.graph.flow import layers
from snnconv.graph.fold import synapse_arguments
from snnconv.graph.ops import SYNAPSES
from snnconv.graph.origin import reads
from snnconv.graph.source import ConversionError
from snnconv.metrics.profiling import maxima_of, pulses_of, spikes_behind_maximum
from snnconv.metrics.synapses import SpikeFlow
from snnconv.network import SpikingNetwork
from snnconv.runtime.batch import entries
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.step_graph import module_of, options_of
from snnconv.runtime.values import Temporal

__all__ = ["SpikeCalls", "neurobench_model"]


class Population(nn.Module):
    """The spikes of one site, as they leave it: unit spikes of one step ``[B, ...]``."""

    def forward(self, spikes: Tensor) -> Tensor:
        return spikes


class SpikeCalls(nn.Module):
    """Runs a network and, step by step, calls plain layers with the unit spikes that reach them.

    Amplitudes and thresholds are the weights' business here: a spike is 1. Where several spikes of a step reach one
    cell (residual additions, average pooling), the layer is called once for the first of each cell, once for the
    second, and so on.
    A layer that reads the input is called with it once; one that reads other values, at each step.

    Attributes:
        connections: the layers with weights, by their names.
        populations: the sites, by their names.
    """

    def __init__(self, snn: SpikingNetwork) -> None:
        super().__init__()
        program = snn.program
        if not isinstance(program, GraphProgram):
            why = "; ".join(snn.report.notes) if snn.report is not None else "it runs call by call"
            raise ConversionError(f"only a network that runs as a graph shows which layer its spikes reach: {why}")
        self.snn = [snn]  # not a child: its parameters are those of the layers
        self.flow = [SpikeFlow(program.source, {}, {})]
        self.maxima = maxima_of(program.source)
        self.reads = reads(self.flow[0].flow)
        self.read: dict[str, fx.Node] = {}
        self.connections: dict[str, nn.Module] = {}
        for name, node, read in layers(self.flow[0].flow):
            if SYNAPSES[node.target] == "conv_transpose":
                raise ConversionError(f"{name}: NeuroBench has no transposed convolutions")
            weight, bias = synapse_arguments(node)
            if weight is None:
                raise ConversionError(f"{name}: its weight is computed, and NeuroBench counts stored ones alone")
            tensors = program.source.tensors
            given = None if bias is None else tensors[str(bias.target)]
            layer = module_of(node, tensors[str(weight.target)], options_of(arguments(node)), given)
            self.connections[name] = layer.requires_grad_(False)
            self.read[name] = read
        self.populations = {name: Population() for name in program.sites}
        self.layers = nn.ModuleList(self.connections.values())
        self.sites = nn.ModuleList(self.populations.values())

    def forward(self, x: Any) -> Any:
        """The network's answer to ``x [B, ...]``."""
        snn, flow = self.snn[0], self.flow[0]
        phases: dict[str, list[Tensor]] = {}  # of a method with two, each site and operator is seen twice
        over_time: dict[str, list[Tensor]] = {}
        values: dict[str, Any] = dict(entries(x).items())
        wanted = {node.name for node in self.read.values()} | self.maxima

        def spiked(site: str, out: Tensor) -> None:
            phases.setdefault(site, []).append(pulses_of(snn, site, out).float())

        def given(node: fx.Node, value: Any) -> None:
            if node.name in wanted and isinstance(value, Temporal):
                over_time.setdefault(node.name, []).append(value.data)
            elif node.name in wanted:
                values[node.name] = value

        snn.run(x, "steps", spiked, operators=given)
        spikes = {site: torch.cat(found) for site, found in phases.items()}
        values |= {name: torch.cat(found) for name, found in over_time.items()}
        batch = len(next(iter(entries(x).values())))
        steps = max((len(seq) for seq in spikes.values()), default=0)
        for name, layer in self.connections.items():
            if self.reads[name] == "input":
                layer(_plain(values[self.read[name].name]))
        for t in range(steps):
            flow.counts = {site: seq[t] for site, seq in spikes.items() if t < len(seq)}
            flow.pooled = {
                name: _step(spikes_behind_maximum(values[name]), batch, t).float()
                for name in self.maxima
                if name in over_time
            }
            for site, seq in flow.counts.items():
                self.populations[site](seq)
            arrived = flow.send(x)
            for name, layer in self.connections.items():
                if self.reads[name] in ("currents", "analog"):
                    layer(_step(_plain(values[self.read[name].name]), batch, t))
                    continue
                count = arrived[name][0]
                for number in range(1, int(count.max()) + 1):
                    layer((count >= number).to(layer.get_parameter("weight").dtype))
        return snn(x)


def _plain(value: Any) -> Tensor:
    data: Tensor = value if isinstance(value, Tensor) else value.data
    return data


def _step(folded: Tensor, batch: int, t: int) -> Tensor:
    """Step ``t`` of what is folded over time, ``[T·B, ...]``."""
    return folded.reshape(-1, batch, *folded.shape[1:])[t]


def neurobench_model(snn: SpikingNetwork) -> Any:
    """The network as a model of NeuroBench, whose metrics then count what it does.

    Parameters, synaptic operations (``Effective_ACs`` are those that spikes cause) and activation sparsity are those
    of :func:`snnconv.profile`; of a layer that reads the input NeuroBench counts multiplications with what is not zero.

    Args:
        snn: a network that runs as a graph.

    Returns:
        A ``neurobench.models.NeuroBenchModel``; its predictions are the network's outputs.

    Raises:
        ImportError: NeuroBench is not installed.
        ConversionError: a network that runs call by call; a layer that NeuroBench has no counter for, by name.
    """
    try:
        from neurobench.models import NeuroBenchModel
    except ImportError as error:
        raise ImportError("this needs NeuroBench: pip install neurobench") from error

    class Model(NeuroBenchModel):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.network = SpikeCalls(snn)

        def __call__(self, batch: Any) -> Any:
            with torch.no_grad():
                return self.network(batch)

        def __net__(self) -> nn.Module:
            return self.network

        def activation_layers(self) -> list[dict[str, Any]]:
            return [{"layer_name": name, "layer": layer} for name, layer in self.network.populations.items()]

        def connection_layers(self) -> list[nn.Module]:
            return list(self.network.connections.values())

    return Model()
