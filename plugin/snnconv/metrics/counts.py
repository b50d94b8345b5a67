"""What a converted network does for one input, counted: spikes, operations, sizes of layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from snnconv.metrics.ladders import LadderCost
from snnconv.metrics.operations import FunctionCost, ProductCost

__all__ = ["FUNCTION_MACS", "Counts", "LayerCost", "LayerSize", "Operations", "SiteActivity"]

FUNCTION_MACS = 4.0
"""Multiply-accumulates that the evaluation of a function is priced at, where nothing else is said."""


@dataclass(frozen=True)
class SiteActivity:
    """Spikes of one site: its neurons, spikes per inference, spikes per neuron and step (``rate``), its steps."""

    name: str
    neurons: int
    spikes: float
    rate: float
    steps: int = 1


@dataclass(frozen=True)
class LayerSize:
    """How large a layer with weights is, for one input.

    Attributes:
        kind: ``linear``, ``conv`` or ``conv_transpose``.
        inputs, outputs: numbers that it reads and gives.
        weights: numbers in its weight.
        biases: numbers in its bias, 0 without one.
        window: outputs that an input reaches where no stride or border cuts any off: output channels of its group
            times the places of the kernel.
    """

    kind: str
    inputs: int
    outputs: int
    weights: int
    biases: int
    window: int


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer with weights, per inference.

    Attributes:
        name: the layer.
        reads: what it reads: ``input``, ``spikes``, ``sum of spikes``, ``currents`` or ``analog``.
        ann_macs: multiplications in the source network.
        sops: synaptic operations that spikes cause.
        snn_macs: multiplications that remain in the SNN, over all steps.
        spikes: spikes that arrive.
        size: how large it is; None where nobody said.
    """

    name: str
    reads: str
    ann_macs: float
    sops: float
    snn_macs: float
    spikes: float = 0.0
    size: LayerSize | None = None


class Operations(NamedTuple):
    """Of one class: additions and comparisons, multiply-accumulates, evaluations of functions."""

    additions: float
    macs: float = 0.0
    functions: float = 0.0


@dataclass(frozen=True)
class Counts:
    """What a converted network does per inference. Where a number cannot be counted it is ``None``.

    Attributes:
        sites: activity of each site.
        layers: cost of each layer with weights.
        ann_macs: multiply-accumulates of the source network's layers with weights.
        sops: synaptic operations: for every spike, the synapses it reaches.
        snn_macs: multiply-accumulates that remain: layers that read the input (computed once), and layers
            that read currents or analog values (at each step).
        latency: steps that the method runs (τ + T for SRP; for shifted-threshold IF the largest T of a layer, which is
            the period of a pipeline).
        network_latency: the network's steps, where all layers step together and one that needs all bits of the one
            before waits for them: for shifted-threshold IF the sum of T over the spiking layers on the longest path,
            else ``latency``.
        samples: inputs measured.
        notes: what was left out of the count.
        bits_per_step: log₂ of the number of values that a neuron may send in one step; None where it is not known.
        products: cost of each product of two computed tensors.
        comparisons: of ladders at neurons and of rows, over all steps, silent or not, beside each neuron's own with
            its threshold.
        functions: evaluations of functions at neurons.
        evaluated: functions that are evaluated outside neurons, such as a softmax or a normalisation.
        ann_functions: evaluations in the source network: activations that are no ReLU, and the same functions.
        function_macs: multiply-accumulates that an evaluation is priced at.
        ladders: cost of each softmax and normalisation that is had by codes and ladders; their codes are among
            ``sites``.
        pipeline: steps until the first answer where each layer is a step behind the one before, and between answers.
    """

    sites: list[SiteActivity]
    layers: list[LayerCost]
    ann_macs: float
    sops: float | None
    snn_macs: float | None
    latency: int
    network_latency: int | None
    samples: int
    notes: list[str] = field(default_factory=list)
    bits_per_step: float | None = None
    products: list[ProductCost] = field(default_factory=list)
    comparisons: float = 0.0
    functions: float = 0.0
    evaluated: list[FunctionCost] = field(default_factory=list)
    ann_functions: float = 0.0
    function_macs: float = FUNCTION_MACS
    pipeline: tuple[int, int] | None = None
    ladders: list[LadderCost] = field(default_factory=list)

    @property
    def pipelined_latency(self) -> int | None:
        """An earlier name of ``network_latency``; the steps of a pipeline are ``pipeline``."""
        return self.network_latency

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return sum(site.neurons for site in self.sites)

    @property
    def spikes(self) -> float:
        """Spikes per inference; −1 counts as one."""
        return sum(site.spikes for site in self.sites)

    @property
    def operations(self) -> Mapping[str, Operations] | None:
        """The SNN's operations in four classes; None where they were not counted.

        ``spike x weight``: synaptic operations; ``spike x spike``: additions of coincidences in products, and those of
        softmax and normalisations by ladders; ``at the neuron``: comparisons of ladders and evaluations of functions;
        ``analog``: multiplications of layers and products that read no spikes, and functions evaluated outside neurons.
        """
        if self.sops is None or self.snn_macs is None:
            return None
        return {
            "spike x weight": Operations(self.sops),
            "spike x spike": Operations(
                sum(p.pairs for p in self.products) + sum(row.additions for row in self.ladders)
            ),
            "at the neuron": Operations(self.comparisons, 0.0, self.functions),
            "analog": Operations(
                0.0, self.snn_macs + sum(p.snn_macs for p in self.products), sum(f.snn for f in self.evaluated)
            ),
        }

    @property
    def ann_operations(self) -> Operations:
        """The source network's operations."""
        return Operations(0.0, self.ann_macs + sum(p.ann_macs for p in self.products), self.ann_functions)
