"""What a converted network costs: spikes, synaptic operations, energy, latency."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconv.graph.ops import role
from snnconv.graph.origin import reads
from snnconv.graph.source import ConversionError, SourceGraph, broadcast
from snnconv.graph.unwrap import unwrap
from snnconv.inputs import Progress, network_batches, placement
from snnconv.metrics.latency import latencies
from snnconv.metrics.operations import FunctionCost, ProductCost, ProductCounter, beside_layers
from snnconv.metrics.synapses import SpikeFlow, WatchedMacs, multiplications
from snnconv.network import SpikingNetwork
from snnconv.report import table
from snnconv.runtime.batch import call, entries
from snnconv.runtime.capture import captured_as
from snnconv.runtime.executor import Temporal
from snnconv.runtime.program import GraphProgram

__all__ = ["AC_JOULES", "MAC_JOULES", "LayerCost", "Profile", "SiteActivity", "profile"]

MAC_JOULES = 4.6e-12
"""A 32-bit multiply-accumulate at 45 nm (Horowitz 2014)."""
AC_JOULES = 0.9e-12
"""A 32-bit accumulate at 45 nm (Horowitz 2014)."""


FUNCTION_MACS = 4.0
"""Multiply-accumulates that the evaluation of a function is priced at, where nothing else is said."""


@dataclass(frozen=True)
class SiteActivity:
    """Spikes of one site: its neurons, spikes per inference, and spikes per neuron and step (``rate``)."""

    name: str
    neurons: int
    spikes: float
    rate: float


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer with weights, per inference.

    Attributes:
        name: the layer.
        reads: what it reads: ``input``, ``spikes``, ``sum of spikes``, ``currents`` or ``analog``.
        ann_macs: multiplications in the source network.
        sops: synaptic operations that spikes cause.
        snn_macs: multiplications that remain in the SNN, over all steps.
    """

    name: str
    reads: str
    ann_macs: float
    sops: float
    snn_macs: float


@dataclass(frozen=True)
class Profile:
    """Spikes, operations, energy and latency of a converted network, per inference; prints as tables.

    Where a number cannot be counted it is ``None``, and ``notes`` says why.

    Attributes:
        sites: activity of each site.
        layers: cost of each layer with weights.
        ann_macs: multiply-accumulates of the source network's layers with weights.
        sops: synaptic operations: for every spike, the synapses it reaches.
        snn_macs: multiply-accumulates that remain: layers that read the input (computed once), and layers
            that read currents or analog values (at each step).
        latency: steps that the method runs (τ + T for SRP; for shifted-threshold IF the largest T of a layer, which is
            the period of a pipeline).
        pipelined_latency: steps from input to output where each layer waits for the one before: for shifted-threshold
            IF the sum of T over the spiking layers on the longest path, else ``latency``.
        samples: inputs measured.
        notes: what was left out of the count.
        bits_per_step: log₂ of the number of values that a neuron may send in one step; None where it is not known.
        products: cost of each product of two computed tensors.
        comparisons: of ladders at neurons, over all steps, silent or not, beside each neuron's own with its threshold.
        functions: evaluations of functions at neurons.
        evaluated: functions that are evaluated outside neurons, such as a softmax or a normalisation.
        ann_functions: evaluations in the source network: activations that are no ReLU, and the same functions.
        function_macs: multiply-accumulates that an evaluation is priced at.
    """

    sites: list[SiteActivity]
    layers: list[LayerCost]
    ann_macs: float
    sops: float | None
    snn_macs: float | None
    latency: int
    pipelined_latency: int | None
    samples: int
    notes: list[str] = field(default_factory=list)
    bits_per_step: float | None = None
    products: list[ProductCost] = field(default_factory=list)
    comparisons: float = 0.0
    functions: float = 0.0
    evaluated: list[FunctionCost] = field(default_factory=list)
    ann_functions: float = 0.0
    function_macs: float = FUNCTION_MACS

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return sum(site.neurons for site in self.sites)

    @property
    def spikes(self) -> float:
        """Spikes per inference; −1 counts as one."""
        return sum(site.spikes for site in self.sites)

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes per neuron and inference."""
        return self.spikes / max(self.neurons, 1)

    @property
    def rates(self) -> dict[str, float]:
        """Spikes per neuron and step, by site."""
        return {site.name: site.rate for site in self.sites}

    @property
    def ann_energy(self) -> float:
        """Joules per inference of the source network: 4.6 pJ per MAC, functions priced in these."""
        macs = self.ann_macs + sum(p.ann_macs for p in self.products) + self.function_macs * self.ann_functions
        return MAC_JOULES * macs

    @property
    def snn_energy(self) -> float | None:
        """Joules per inference of the SNN: 0.9 pJ per addition or comparison, 4.6 pJ per remaining MAC."""
        return None if self.classes is None else sum(joules for _, joules in self.classes.values())

    @property
    def classes(self) -> dict[str, tuple[float, float]] | None:
        """Operations and joules per inference in four classes; None where they were not counted.

        ``spike x weight``: synaptic operations; ``spike x spike``: additions of coincidences in products; ``at the
        neuron``: comparisons of ladders and evaluations of functions; ``analog``: multiplications of layers and
        products that read no spikes, and functions evaluated outside neurons.
        """
        if self.sops is None or self.snn_macs is None:
            return None
        pairs = sum(p.pairs for p in self.products)
        macs = self.snn_macs + sum(p.snn_macs for p in self.products)
        outside = sum(f.snn for f in self.evaluated)
        priced = MAC_JOULES * self.function_macs
        return {
            "spike x weight": (self.sops, AC_JOULES * self.sops),
            "spike x spike": (pairs, AC_JOULES * pairs),
            "at the neuron": (
                self.comparisons + self.functions, AC_JOULES * self.comparisons + priced * self.functions
            ),
            "analog": (macs + outside, MAC_JOULES * macs + priced * outside),
        }  # fmt: skip

    @property
    def energy_ratio(self) -> float | None:
        """SNN energy over ANN energy."""
        return None if self.snn_energy is None or not self.ann_energy else self.snn_energy / self.ann_energy

    def to_dict(self) -> dict[str, Any]:
        """All figures, the derived ones too, as plain values."""
        derived = ("neurons", "spikes", "spikes_per_neuron", "ann_energy", "snn_energy", "energy_ratio")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}

    def __str__(self) -> str:
        sites = [(s.name, s.neurons, f"{s.spikes:.1f}", f"{s.rate:.4f}") for s in self.sites]
        costs = [(c.name, c.reads, f"{c.ann_macs:.4g}", f"{c.sops:.4g}", f"{c.snn_macs:.4g}") for c in self.layers]
        latency = f"{self.latency} steps"
        if self.pipelined_latency is None:
            latency += ", pipelined not known"
        elif self.pipelined_latency != self.latency:
            latency = f"{self.latency} steps per layer, {self.pipelined_latency} pipelined"
        totals: list[tuple[Any, ...]] = [
            ("neurons", f"{self.neurons}"),
            ("spikes", f"{self.spikes:.1f}"),
            ("spikes per neuron", f"{self.spikes_per_neuron:.4f}"),
            ("SOPs", _number(self.sops)),
            ("MACs, SNN", _number(self.snn_macs)),
            ("MACs, ANN", _number(self.ann_macs)),
            ("energy, SNN", _number(self.snn_energy, " J")),
            ("energy, ANN", _number(self.ann_energy, " J")),
            ("energy ratio", _number(self.energy_ratio)),
            ("latency", latency),
            ("bits a step", _number(self.bits_per_step)),
        ]
        parts = [table(("site", "neurons", "spikes", "rate"), sites)]
        if costs:
            parts.append(table(("layer", "reads", "ANN MACs", "SOPs", "SNN MACs"), costs))
        if self.products:
            rows = [(p.name, ", ".join(p.reads), f"{p.ann_macs:.4g}", f"{p.pairs:.4g}", f"{p.snn_macs:.4g}")
                    for p in self.products]  # fmt: skip
            parts.append(table(("product", "reads", "ANN MACs", "pairs of spikes", "SNN MACs"), rows))
        if self.classes is not None:
            whole = max(sum(count for count, _ in self.classes.values()), 1e-300)
            shares = [(name, f"{count:.4g}", f"{100 * count / whole:.3g} %", f"{joules:.4g} J")
                      for name, (count, joules) in self.classes.items()]  # fmt: skip
            parts.append(table(("operations", "number", "share", "energy"), shares))
        parts.append(table((f"per inference ({self.samples} inputs)", ""), totals))
        return "\n\n".join(parts) + "".join(f"\nnote: {note}" for note in self.notes)


def _number(value: float | None, unit: str = "") -> str:
    return "not counted" if value is None else f"{value:.4g}{unit}"


def profile(
    model: nn.Module | None,
    snn: SpikingNetwork,
    loader: Any,
    limit: int | None = 128,
    progress: Progress | None = None,
    function_macs: float = FUNCTION_MACS,
) -> Profile:
    """Count spikes, synaptic operations and multiplications, and turn them into energy (METHODS: Accounting).

    A spike is a non-zero neuron output of any of the steps that run, a phase before the read-out included; one that
    holds several powers of two (hierarchical multi-threshold neurons) is as many spikes. It
    causes one synaptic operation at each connection of the layer that reads it; a connection into the padding
    is none, in the SNN and in the ANN. A residual add or an average pooling is not a layer: its spikes go
    on to the layer behind it, each into every cell that it contributes to. A max-pooling behind neurons sends
    its own spikes.

    Args:
        model: the source network; ``None``: the layers of the converted one stand for its, where it traces.
        snn: the network converted from it.
        loader: a tensor, a list of tensors, or a loader giving tensors, (input, target) or dicts; of a network of
            several inputs as for :func:`snnconv.convert`.
        limit: inputs to use at most.
        progress: called with a title, the number of inputs done, and their total.
        function_macs: what an evaluation of a function is priced at, at a neuron or outside, in the SNN and in the ANN.

    Raises:
        ConversionError: no inputs, or ones that the network does not take.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=16), calibration=torch.randn(64, 4))
    >>> costs = profile(model, snn, torch.randn(16, 4))
    >>> costs.sops == 2 * costs.spikes, costs.snn_macs, costs.ann_macs, costs.latency
    (True, 32.0, 48.0, 16)
    """
    model = None if model is None else unwrap(model).model
    parts = network_batches(snn, loader, limit)
    sizes = {tuple(tuple(v.shape[1:]) for v in entries(part).values()) for part in parts}
    if len(sizes) > 1:
        raise ConversionError(f"operations are counted for one input shape, the data has {sorted(sizes)}: profile each")
    counter = ProductCounter(snn, snn.program.source) if isinstance(snn.program, GraphProgram) else None
    counts, pooled = _count_spikes(snn, parts, progress, counter)
    samples = sum(map(len, parts))
    steps = snn.method.latency
    sites = []
    for site in snn.program.sites:
        neurons, spikes = counts[site].numel(), float(counts[site].double().sum()) / samples
        own = snn.method.at(site).latency
        sites.append(SiteActivity(site, neurons, spikes, spikes / max(neurons * own, 1)))
    if not isinstance(snn.program, GraphProgram):
        if model is None:
            raise ConversionError(
                "this network does not trace: its operations are counted beside its source's, give it"
            )
        return _untraced(model, snn, sites, parts[0][:1], samples)
    source = snn.program.source
    costs, notes = _layer_costs(snn, source, counts, pooled, parts[0][:1], samples)
    ann_macs = sum(c.ann_macs for c in costs)
    missing: list[str] = []
    if model is not None:
        ann_macs, missing = _ann_macs(model, snn, source, parts[0][:1])
    return Profile(
        sites, costs, ann_macs, sum(c.sops for c in costs), sum(c.snn_macs for c in costs),
        steps, latencies(snn)["network"], samples, notes + missing, snn.method.bits_per_step,
        *beside_layers(snn, {s.name: s.neurons for s in sites}, parts[0][:1], counter, samples), function_macs,
    )  # fmt: skip


def _count_spikes(
    snn: SpikingNetwork, parts: list[Any], progress: Progress | None, counter: ProductCounter | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Spikes ``[1, ...]`` of each site, and of each max-pooling behind neurons, over all steps and inputs."""
    counts: dict[str, Tensor] = {}
    pooled: dict[str, Tensor] = {}

    def observe(site: str, out: Tensor) -> None:
        pulses = _pulses(snn, site, out)
        spikes = pulses.sum((0, 1)).unsqueeze(0).float().contiguous()
        counts[site] = counts[site] + spikes if site in counts else spikes

    def observe_pool(node: fx.Node, value: Any) -> None:
        if node.name in pools and isinstance(value, Temporal):
            # differences of accumulated maxima: rounding leaves dust where nothing was added
            size = value.data.abs()
            spikes = (size > 1e-6 * size.max()).sum(0, keepdim=True).float() if size.numel() else size
            pooled[node.name] = pooled[node.name] + spikes if node.name in pooled else spikes

    def watch(node: fx.Node, value: Any) -> None:
        observe_pool(node, value)
        if counter:
            counter(node, value)

    pools: set[str] = set()
    if isinstance(snn.program, GraphProgram):
        flow = SpikeFlow(snn.program.source, {}, {})
        pools = {
            n.name
            for n, origin in flow.origin.items()
            if origin in ("spikes", "sum of spikes") and role(n, flow.flow.kinds[n]) == "choose"
        }
    total, done = sum(map(len, parts)), 0
    for part in parts:
        if counter is not None:
            counter.start(len(part))
        steps = "steps" if pools or counter else "auto"
        snn.run(part, steps, observe, operators=watch if pools or counter else None)
        done += len(part)
        if progress:
            progress("counting spikes", done, total)
    return counts, pooled


def _pulses(snn: SpikingNetwork, site: str, out: Tensor) -> Tensor:
    """How many spikes each output ``[T, B, ...]`` is: one, or the powers of two that it holds."""
    record, node = snn.method.record, snn.neurons[site]
    if record.pulses is None:
        return out != 0
    if node.scaled:
        out = out / broadcast(torch.as_tensor(node.v_threshold).to(out), out.dim() - 1, node.channel_axis)
    return record.pulses(out.round())


def _layer_costs(
    snn: SpikingNetwork,
    source: SourceGraph,
    counts: dict[str, Tensor],
    pooled: dict[str, Tensor],
    example: Any,
    samples: int,
) -> tuple[list[LayerCost], list[str]]:
    flow = SpikeFlow(source, counts, pooled)
    arrived = flow.send(example)
    origins = reads(flow.flow)
    once = SpikeFlow(source, {k: v * 0 for k, v in counts.items()}, {k: v * 0 for k, v in pooled.items()}, 1.0).send(
        example
    )
    costs = []
    for name, (spikes, fan) in arrived.items():
        macs = float(fan.expand(spikes.shape).sum())
        sops = float((spikes.double() * fan).sum()) / samples
        origin = origins[name]
        if origin in ("currents", "analog"):
            remaining = macs * snn.method.latency
        else:  # the input itself, also where it is concatenated with spikes, is computed once
            remaining = float(((once[name][0] != 0) * fan).sum())
        costs.append(LayerCost(name, origin, macs, sops, remaining))
    notes = [f"{name}: spikes end here, in an operator without counted synapses" for name in flow.lost]
    return costs, notes + _not_counted(source, "SNN")


def _not_counted(source: SourceGraph, what: str) -> list[str]:
    """Layers kept whole, whose operations are not in the count."""
    kept = [str(n.target) for n in source.graph.nodes if n.op == "call_module"]
    return [f"{what} operations of {', '.join(kept)} are not counted: kept whole"] if kept else []


def _ann_macs(model: nn.Module, snn: SpikingNetwork, converted: SourceGraph, example: Any) -> tuple[float, list[str]]:
    source = captured_as(converted, model, snn.signature, example)
    program = GraphProgram(source)
    device, dtype = placement(snn)
    program.store().to(device=device, dtype=dtype)
    return sum(multiplications(source, example).values()), _not_counted(source, "ANN")


def _untraced(model: nn.Module, snn: SpikingNetwork, sites: list[SiteActivity], example: Any, samples: int) -> Profile:
    device, _ = placement(model)
    training = {m: m.training for m in model.modules()}
    try:
        with torch.no_grad(), WatchedMacs() as macs:
            call(model.eval(), example.to(device) if device is not None else example)
    finally:
        for module, was in training.items():
            module.training = was
    note = (
        "SOPs, remaining MACs and SNN energy are not counted: this network does not trace, so which layer "
        "reads which neurons is not known"
    )
    steps, bits = snn.method.latency, snn.method.bits_per_step
    return Profile(sites, [], macs.total, None, None, steps, latencies(snn)["network"], samples, [note], bits)
