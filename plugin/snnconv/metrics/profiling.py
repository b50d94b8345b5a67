"""What a converted network costs: spikes, synaptic operations, energy, latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconv.graph.ops import role
from snnconv.graph.origin import reads
from snnconv.graph.source import ConversionError, SourceGraph, broadcast
from snnconv.graph.unwrap import unwrap
from snnconv.inputs import Progress, network_batches, placement
from snnconv.metrics import costs
from snnconv.metrics.counts import FUNCTION_MACS, Counts, LayerCost, SiteActivity
from snnconv.metrics.ladders import LadderCost
from snnconv.metrics.latency import latencies
from snnconv.metrics.operations import ProductCounter, beside_layers
from snnconv.metrics.synapses import SpikeFlow, WatchedMacs, multiplications
from snnconv.network import SpikingNetwork
from snnconv.report import table
from snnconv.runtime.batch import call, entries
from snnconv.runtime.capture import captured_as
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.values import Temporal

__all__ = [
    "AC_JOULES", "MAC_JOULES", "LayerCost", "Profile", "SiteActivity", "maxima_of", "profile", "pulses_of",
    "spikes_behind_maximum",
]  # fmt: skip

MAC_JOULES = 4.6e-12
"""A 32-bit multiply-accumulate at 45 nm (Horowitz 2014)."""
AC_JOULES = 0.9e-12
"""A 32-bit accumulate at 45 nm (Horowitz 2014)."""


@dataclass(frozen=True)
class Profile(Counts):
    """Spikes, operations, energy and latency of a converted network, per inference; prints as tables.

    Where a number cannot be counted it is ``None``, and ``notes`` says why.

    Attributes:
        cost: name of the cost model of the energies (`snnconv.metrics.costs`).
    """

    cost: str = "45nm"

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes per neuron and inference."""
        return self.spikes / max(self.neurons, 1)

    @property
    def rates(self) -> dict[str, float]:
        """Spikes per neuron and step, by site."""
        return {site.name: site.rate for site in self.sites}

    @property
    def ann_energy(self) -> float | None:
        """The source network's cost in the cost model's unit; None where the model has no place for it."""
        return costs.get(self.cost).of_ann(self)

    @property
    def snn_energy(self) -> float | None:
        """The SNN's cost in the cost model's unit; None where it was not counted, or has no equations."""
        return costs.get(self.cost).of_snn(self)

    @property
    def classes(self) -> Mapping[str, tuple[float, float]] | None:
        """Numbers and costs by the cost model's classes; None where they were not counted.

        For arithmetic alone these are the classes of ``operations``.
        """
        return costs.get(self.cost).classes(self)

    @property
    def energies(self) -> dict[str, dict[str, Any]]:
        """The costs of both networks under every cost model, by its name."""
        return {
            name: {"unit": model.unit, "snn": model.of_snn(self), "ann": model.of_ann(self)}
            for name, model in costs.COSTS.items()
        }

    def under(self, cost: str) -> Profile:
        """The same counts under another cost model.

        Raises:
            ValueError: there is no such model; the message lists those that are.
        """
        return replace(self, cost=costs.get(cost).name)

    @property
    def energy_ratio(self) -> float | None:
        """SNN energy over ANN energy."""
        snn, ann = self.snn_energy, self.ann_energy
        return None if snn is None or not ann else snn / ann

    def to_dict(self) -> dict[str, Any]:
        """All figures, the derived ones too, as plain values."""
        derived = (
            "neurons", "spikes", "spikes_per_neuron", "ann_energy", "snn_energy", "energy_ratio", "energies",
            "pipelined_latency",
        )  # fmt: skip
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}

    def __str__(self) -> str:
        sites = [(s.name, s.neurons, f"{s.spikes:.1f}", f"{s.rate:.4f}") for s in self.sites]
        layers = [(c.name, c.reads, f"{c.ann_macs:.4g}", f"{c.sops:.4g}", f"{c.snn_macs:.4g}") for c in self.layers]
        latency = f"{self.latency} steps a layer, {self.network_latency or 'unknown'} of the network"
        if self.pipeline is not None:
            latency += "; pipelined {}, then every {}".format(*self.pipeline)
        unit = f" {costs.get(self.cost).unit}"
        totals: list[tuple[Any, ...]] = [
            ("neurons", f"{self.neurons}"),
            ("spikes", f"{self.spikes:.1f}"),
            ("spikes per neuron", f"{self.spikes_per_neuron:.4f}"),
            ("SOPs", _number(self.sops)),
            ("MACs, SNN", _number(self.snn_macs)),
            ("MACs, ANN", _number(self.ann_macs)),
            (f"energy, SNN ({self.cost})", _number(self.snn_energy, unit)),
            (f"energy, ANN ({self.cost})", _number(self.ann_energy, unit)),
            ("energy ratio", _number(self.energy_ratio)),
            ("latency", latency),
            ("bits a step", _number(self.bits_per_step)),
        ]
        parts = [table(("site", "neurons", "spikes", "rate"), sites)]
        if layers:
            parts.append(table(("layer", "reads", "ANN MACs", "SOPs", "SNN MACs"), layers))
        if self.products:
            rows = [(p.name, ", ".join(p.reads), f"{p.ann_macs:.4g}", f"{p.pairs:.4g}", f"{p.snn_macs:.4g}")
                    for p in self.products]  # fmt: skip
            parts.append(table(("product", "reads", "ANN MACs", "pairs of spikes", "SNN MACs"), rows))
        if self.ladders:
            rows = [(row.name, row.kind, f"{row.spikes:.4g}", f"{row.comparisons:.4g}", f"{row.additions:.4g}")
                    for row in self.ladders]  # fmt: skip
            parts.append(table(("by ladders", "", "spikes", "comparisons", "additions"), rows))
        if self.classes is not None:
            whole = max(sum(count for count, _ in self.classes.values()), 1e-300)
            shares = [(name, f"{count:.4g}", f"{100 * count / whole:.3g} %", f"{joules:.4g}{unit}")
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
    cost: str = "45nm",
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
        cost: name of the cost model (`snnconv.metrics.costs`): ``"45nm"`` and ``"int8"``, arithmetic alone;
            ``"lemaire"``, with memory accesses and neuron updates; ``"loihi"``, a chip's published constants;
            ``"bit-operations"``. The result holds all of them (``energies``).

    Raises:
        ValueError: no such cost model.
        ConversionError: no inputs, or ones that the network does not take.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=16), calibration=torch.randn(64, 4))
    >>> found = profile(model, snn, torch.randn(16, 4))
    >>> found.sops == 2 * found.spikes, found.snn_macs, found.ann_macs, found.latency
    (True, 32.0, 48.0, 16)
    >>> found.ann_energy == 48 * MAC_JOULES, found.under("bit-operations").ann_energy
    (True, 3072.0)
    """
    costs.get(cost)
    model = None if model is None else unwrap(model).model
    batches = network_batches(snn, loader, limit)
    sizes = {tuple(tuple(v.shape[1:]) for v in entries(batch).values()) for batch in batches}
    if len(sizes) > 1:
        raise ConversionError(f"operations are counted for one input shape, the data has {sorted(sizes)}: profile each")
    counter = ProductCounter(snn, snn.program.source) if isinstance(snn.program, GraphProgram) else None
    counts, pooled = _count_spikes(snn, batches, progress, counter)
    samples = sum(map(len, batches))
    steps = snn.method.latency
    sites = []
    for site in snn.program.sites:
        neurons, spikes = counts[site].numel(), float(counts[site].double().sum()) / samples
        own = snn.method.at(site).latency
        sites.append(SiteActivity(site, neurons, spikes, spikes / max(neurons * own, 1), own))
    if not isinstance(snn.program, GraphProgram):
        if model is None:
            raise ConversionError(
                "this network does not trace: its operations are counted beside its source's, give it"
            )
        return replace(_untraced(model, snn, sites, batches[0][:1], samples), cost=cost)
    source = snn.program.source
    layers, notes = _layer_costs(snn, source, counts, pooled, batches[0][:1], samples)
    ann_macs = sum(c.ann_macs for c in layers)
    missing: list[str] = []
    if model is not None:
        ann_macs, missing = _ann_macs(model, snn, source, batches[0][:1])
    assert counter is not None
    ladders = counter.ladders.costs(samples)
    return Profile(
        sites + [_of_codes(row) for row in ladders], layers, ann_macs, sum(c.sops for c in layers),
        sum(c.snn_macs for c in layers), steps, latencies(snn)["network"], samples, notes + missing,
        snn.method.bits_per_step,
        *beside_layers(snn, {s.name: s.neurons for s in sites}, batches[0][:1], counter, samples), function_macs,
        cost=cost, pipeline=_pipeline(snn), ladders=ladders,
    )  # fmt: skip


def _of_codes(row: LadderCost) -> SiteActivity:
    """The codes of a softmax or a normalisation by ladders, as neurons."""
    rate = row.spikes / max(row.neurons * row.timesteps, 1)
    return SiteActivity(f"{row.name} ({row.kind})", round(row.neurons), row.spikes, rate, row.timesteps)


def _pipeline(snn: SpikingNetwork) -> tuple[int, int] | None:
    """Steps until a pipeline's first answer, and from one answer to the next: a layer's, since each runs so many."""
    first = latencies(snn)["pipelined"]
    return None if first is None else (first, snn.method.latency)


def _count_spikes(
    snn: SpikingNetwork, batches: list[Any], progress: Progress | None, counter: ProductCounter | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Spikes ``[1, ...]`` of each site, and of each max-pooling behind neurons, over all steps and inputs."""
    counts: dict[str, Tensor] = {}
    pooled: dict[str, Tensor] = {}

    def observe(site: str, out: Tensor) -> None:
        pulses = pulses_of(snn, site, out)
        spikes = pulses.sum((0, 1)).unsqueeze(0).float().contiguous()
        counts[site] = counts[site] + spikes if site in counts else spikes

    def observe_pool(node: fx.Node, value: Any) -> None:
        if node.name in pools and isinstance(value, Temporal):
            spikes = spikes_behind_maximum(value.data).sum(0, keepdim=True).float()
            pooled[node.name] = pooled[node.name] + spikes if node.name in pooled else spikes

    def watch(node: fx.Node, value: Any) -> None:
        observe_pool(node, value)
        if counter:
            counter(node, value)

    pools = maxima_of(snn.program.source) if isinstance(snn.program, GraphProgram) else set()
    total, done = sum(map(len, batches)), 0
    for batch in batches:
        if counter is not None:
            counter.start(len(batch))
        steps = "steps" if pools or counter else "auto"
        snn.run(batch, steps, observe, operators=watch if pools or counter else None)
        done += len(batch)
        if progress:
            progress("counting spikes", done, total)
    return counts, pooled


def maxima_of(source: SourceGraph) -> set[str]:
    """Names of the max-poolings that spikes reach: they send spikes of their own."""
    flow = SpikeFlow(source, {}, {})
    return {
        node.name
        for node, origin in flow.origin.items()
        if origin in ("spikes", "sum of spikes") and role(node, flow.flow.kinds[node]) == "choose"
    }


def spikes_behind_maximum(steps: Tensor) -> Tensor:
    """Where a max-pooling sends a spike; differences of accumulated maxima leave rounding dust where it does not."""
    size = steps.abs()
    return size > 1e-6 * size.max() if size.numel() else size.bool()


def pulses_of(snn: SpikingNetwork, site: str, out: Tensor) -> Tensor:
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
    layers = []
    for name, (spikes, fan) in arrived.items():
        macs = float(fan.expand(spikes.shape).sum())
        sops = float((spikes.double() * fan).sum()) / samples
        origin = origins[name]
        if origin in ("currents", "analog"):
            remaining = macs * snn.method.latency
        else:  # the input itself, also where it is concatenated with spikes, is computed once
            remaining = float(((once[name][0] != 0) * fan).sum())
        sent = float(spikes.double().sum()) / samples
        layers.append(LayerCost(name, origin, macs, sops, remaining, sent, flow.sizes[name]))
    notes = [f"{name}: spikes end here, in an operator without counted synapses" for name in flow.lost]
    return layers, notes + _not_counted(source, "SNN")


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
