"""Operations that are no synapses: products of spike trains, ladders and functions at neurons, what stays analog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from snnconv.graph.encoders import readers, sources
from snnconv.graph.flow import Flow
from snnconv.graph.ops import part_of_ladder
from snnconv.graph.origin import named_products
from snnconv.graph.source import SourceGraph, activation_site
from snnconv.metrics.ladders import LadderCounter, codes_behind, set_bits, whole
from snnconv.network import SpikingNetwork
from snnconv.runtime.covering import shapes_of
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.values import Temporal

__all__ = ["FunctionCost", "ProductCost", "ProductCounter", "beside_layers", "functions_of", "work_of"]


@dataclass(frozen=True)
class ProductCost:
    """Cost of one product of two computed tensors, per inference.

    Attributes:
        name: the product: the module's path and the operator.
        reads: what each operand is made of.
        ann_macs: multiplications in the source network.
        pairs: additions of weighted coincidences that spikes cause: in sum coding pairs of set bits; in rate coding
            each spike of one operand for each running sum of the other that is not zero and that it meets.
        snn_macs: multiplications that remain in the SNN, over all steps, where an operand is no spikes.
    """

    name: str
    reads: tuple[str, ...]
    ann_macs: float
    pairs: float
    snn_macs: float


@dataclass(frozen=True)
class FunctionCost:
    """A function that is evaluated outside neurons, such as a softmax: how often in one pass, and over all steps.

    Attributes:
        name: where: the module's path.
        ann: evaluations in the source network, one for each component of the result.
        snn: evaluations in the SNN, over all steps.
    """

    name: str
    ann: float
    snn: float


class ProductCounter:
    """Counts the products of a run; an observer of its operators."""

    def __init__(self, snn: SpikingNetwork, source: SourceGraph) -> None:
        self.snn = snn
        flow = Flow(source.graph)
        made_of = sources(flow)
        self.reads = {name: tuple(made_of[r.operand] for r in operands) for name, operands in named_products(flow)}
        found = dict(named_products(flow))
        self.names = {operands[0].node.name: name for name, operands in found.items()}
        self.operands = {operands[0].node.name: {r.operand.name for r in operands} for operands in found.values()}
        self.wanted = {n.name for operands in found.values() for n in operands[0].node.all_input_nodes}
        self.source = source
        self.held: dict[str, Any] = {}
        self.pairs: dict[str, float] = dict.fromkeys(found, 0.0)
        self.macs: dict[str, float] = {}
        self.batch = 1
        self.ladders = LadderCounter(source, snn.method.timesteps)

    def __bool__(self) -> bool:
        return bool(self.names or self.ladders)

    def start(self, batch: int) -> None:
        """Begin a run of so many inputs."""
        self.batch = batch
        self.held.clear()

    def __call__(self, node: fx.Node, value: Any) -> None:
        if self.ladders:
            self.ladders(node, value)
        if node.name in self.names:
            self._count(node)
        if node.name in self.wanted:
            self.held[node.name] = value

    def _count(self, node: fx.Node) -> None:
        name, operands = self.names[node.name], self.operands[node.name]
        summed = self.snn.method.coding == "sum"
        steps = self.snn.method.timesteps
        if self.snn.method.pre_timesteps_:  # of either phase
            steps = max((len(v.data) // self.batch for v in self.held.values() if isinstance(v, Temporal)), default=1)

        def series(used: fx.Node) -> Tensor:
            value = self.held[used.name]
            if isinstance(value, Temporal):
                seq = value.data.unflatten(0, (steps, -1))
            elif summed:
                seq = whole(value, steps)[None]
            else:
                seq = (value.data if hasattr(value, "data") and not isinstance(value, Tensor) else value)[None]
            found: Tensor = seq if summed else seq.expand(steps, *seq.shape[1:])
            return found

        found = {used: series(used) for used in node.all_input_nodes if used.name in operands}
        if name not in self.macs:
            ones = {n: torch.ones_like(v[0, : max(1, v.shape[1] // self.batch)], dtype=torch.float64)
                    for n, v in found.items()}  # fmt: skip
            self.macs[name] = self._summed(node, ones)
        if set(self.reads[name]) != {"spikes"}:
            return
        if summed:
            self.pairs[name] += self._summed(node, {n: self._bits(n, v) for n, v in found.items()})
            return
        now = {n: (v != 0).double().flatten(0, 1) for n, v in found.items()}
        sums = {n: v.double().cumsum(0) for n, v in found.items()}
        after = {n: (v != 0).double().flatten(0, 1) for n, v in sums.items()}
        before = {n: (torch.cat([v[:1] * 0, v[:-1]]) != 0).double().flatten(0, 1) for n, v in sums.items()}
        first, *others = found
        one = {first: now[first]} | {n: after[n] for n in others}
        other = {first: before[first]} | {n: now[n] for n in others}
        self.pairs[name] += self._summed(node, one) + (self._summed(node, other) if others else 0.0)

    def _bits(self, used: fx.Node, seq: Tensor) -> Tensor:
        """Set bits of an operand: its spikes over all steps, or those of the codes that it is."""
        codes = codes_behind(used)
        if codes is None:
            return (seq != 0).sum(0).double()
        steps = int(codes.kwargs["timesteps"])  # type: ignore[arg-type]
        return set_bits(seq[0] * (2**steps - 1), steps)

    def _summed(self, node: fx.Node, counts: Mapping[fx.Node, Tensor]) -> float:
        """The product of counts, summed over all that it gives; what is added to it is left out."""

        def given(used: fx.Node) -> Any:
            if used in counts:
                return counts[used]
            value = self.source.tensors[str(used.target)] if used.op == "get_attr" else self.held[used.name]
            data = value.data if hasattr(value, "data") and not isinstance(value, Tensor) else value
            return torch.zeros((), dtype=torch.float64) if isinstance(data, Tensor) else data

        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), given)
        function: Callable[..., Any] = (
            getattr(torch.Tensor, str(node.target)) if node.op == "call_method" else node.target  # type: ignore[assignment]
        )
        return float(function(*args, **kwargs).sum())

    def costs(self, samples: int) -> list[ProductCost]:
        """What was counted, per input."""
        passes = self.snn.method.latency if self.snn.method.coding == "rate" else 1
        found = []
        for name, reads in self.reads.items():
            macs = self.macs.get(name, 0.0)
            spikes = set(reads) == {"spikes"}
            found.append(ProductCost(name, reads, macs, self.pairs[name] / samples, 0.0 if spikes else macs * passes))
        return found


def work_of(snn: SpikingNetwork, neurons: Mapping[str, int]) -> tuple[float, float]:
    """Comparisons of ladders, and evaluations of functions, of all neurons for one input, silent or not."""
    comparisons = functions = 0.0
    for name, site in snn.program.sites.items():
        method = snn.method.at(name)
        record, options = method.neuron_at(site.function)
        axis = {"channel_axis": site.axis} if len(record.settable) < len(record.options) else {}
        work = record.extra(method.latency, **record.settings({**options, **axis}))
        comparisons += neurons[name] * work.comparisons
        functions += neurons[name] * work.functions
    return comparisons, functions


def functions_of(snn: SpikingNetwork, source: SourceGraph, example: Any) -> list[FunctionCost]:
    """Functions that are evaluated outside neurons, and that a layer, a product or a neuron reads.

    ``example``: inputs ``[1, ...]``.
    """
    flow = Flow(source.graph)
    found = {reader.node for reader in readers(flow)}
    ends = found | {node for node in flow.nodes if node.target is activation_site}
    inside: set[fx.Node] = set()
    for node in reversed(flow.nodes):
        if node in ends or node in inside:
            inside |= set(node.all_input_nodes)
    shapes = shapes_of(source, example)
    passes = snn.method.latency if snn.method.coding == "rate" else 1
    costs = []
    for node in flow.nodes:
        evaluated = flow.kinds[node] == "nonlinear" and node not in found and node.op != "call_module"
        evaluated = evaluated and not part_of_ladder(node)
        if evaluated and node in inside and node in shapes and node in flow.varies:
            number = float(torch.Size(shapes[node]).numel())
            name = str(node.meta.get("path") or node.name)
            costs.append(FunctionCost(name, number, number * (passes if node in flow.temporal else 1)))
    return costs


def beside_layers(
    snn: SpikingNetwork, neurons: Mapping[str, int], example: Any, counter: ProductCounter, samples: int
) -> tuple[list[ProductCost], float, float, list[FunctionCost], float]:
    """Products, comparisons and functions at neurons, functions outside them, and those of the source network.

    The comparisons of rows' ladders are among those at neurons.

    Args:
        snn: a converted network with a graph.
        neurons: their number, by site.
        example: an input ``[1, ...]``.
        counter: what counted the products and the ladders of rows.
        samples: inputs that it saw.
    """
    assert isinstance(snn.program, GraphProgram)
    outside = functions_of(snn, snn.program.source, example)
    activations = sum(neurons[name] for name, site in snn.program.sites.items() if not site.function.linear)
    comparisons, functions = work_of(snn, neurons)
    rows = counter.ladders.costs(samples)
    comparisons += sum(row.comparisons for row in rows)
    evaluations = activations + sum(f.ann for f in outside) + sum(row.ann for row in rows)
    return counter.costs(samples), comparisons, functions, outside, evaluations
