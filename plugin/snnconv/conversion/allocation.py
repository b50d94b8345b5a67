"""Steps a layer (mixed T): each layer of a sum-coded network gets the bits that its output error is worth.

The error that a layer's quantisation causes at the network's output is, to second order, eᵀFe: e its quantisation error
without the channel's mean, which bias correction takes away, F the Fisher information of the outputs. F is not formed:
the gradient g of the logarithm of a class drawn from the outputs (of outputs along random directions, where they are no
class scores) has E[(g·e)²] = eᵀFe. A few backward passes thus tell all layers and all numbers of bits at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from snnconv.activations.quant import quantised
from snnconv.conversion.calibration import threshold_at
from snnconv.conversion.histogram import Histogram, channels_first
from snnconv.conversion.overrides import overridden
from snnconv.graph.source import ConversionError, Site, broadcast
from snnconv.methods.base import Method
from snnconv.progress import ProgressFn
from snnconv.runtime.program import GraphProgram, Program

__all__ = ["Budget", "allocated", "budget_of", "wanted_budget"]

LONGEST = 8
SAMPLES = 128
BATCH = 16
DRAWS = 2


@dataclass(frozen=True)
class Budget:
    """What steps a layer may cost, on average or in synaptic operations of an input; one of the two.

    Attributes:
        steps: mean T, each layer weighted by its neurons.
        sops: synaptic operations of an input, as the calibration data cause them.
    """

    steps: float | None = None
    sops: float | None = None


def budget_of(value: float | Mapping[str, float]) -> Budget:
    """A budget from a mean T, or from ``dict(sops=...)``.

    Raises:
        ConversionError: something else, or a number that is not positive.

    >>> budget_of(3.5), budget_of({"sops": 1e6})
    (Budget(steps=3.5, sops=None), Budget(steps=None, sops=1000000.0))
    """
    try:
        budget = Budget(**value) if isinstance(value, Mapping) else Budget(value)
        given = [float(v) for v in (budget.steps, budget.sops) if v is not None]
    except (TypeError, ValueError):
        given = []
    if len(given) != 1 or not given[0] > 0:
        raise ConversionError(
            f"budget is {value!r}: give the mean number of steps a layer, such as 4.0, or dict(sops=2e6)"
        )
    return budget


def wanted_budget(timesteps: str | None, budget: Any) -> Budget | None:
    """The budget of ``timesteps="auto"``, or None.

    Raises:
        ConversionError: one of the two without the other.
    """
    if timesteps not in (None, "auto"):
        raise ConversionError(f"timesteps is {timesteps!r}: 'auto', or leave it out: the method has its own")
    if (timesteps is None) != (budget is None):
        raise ConversionError("timesteps='auto' and budget=... go together: the budget is what the steps may cost")
    return None if timesteps is None else budget_of(budget)


@dataclass
class Costs:
    """What each site's steps cost and how much they err.

    Attributes:
        error: of the outputs, by site, for T = 1, 2, ...
        spikes: of a site on one input, likewise.
        neurons: by site.
        synapses: that a spike reaches, by site.
    """

    neurons: dict[str, int]
    synapses: dict[str, float]
    error: dict[str, list[float]] = field(default_factory=dict)
    spikes: dict[str, list[float]] = field(default_factory=dict)

    def steps(self, chosen: Mapping[str, int]) -> float:
        """Mean T, weighted by neurons."""
        return sum(self.neurons[s] * t for s, t in chosen.items()) / max(1, sum(self.neurons[s] for s in chosen))

    def sops(self, chosen: Mapping[str, int]) -> float:
        """Synaptic operations of an input."""
        return sum(self.spikes[s][t - 1] * self.synapses[s] for s, t in chosen.items())

    def total_error(self, chosen: Mapping[str, int]) -> float:
        """Sum of the layers' errors at the outputs."""
        return sum(self.error[s][t - 1] for s, t in chosen.items())


def allocated(
    ann: Program,
    method: Method,
    histograms: Mapping[str, Histogram],
    batches: Sequence[Any],
    budget: Budget,
    tell: ProgressFn,
    seed: int = 0,
) -> tuple[Method, list[tuple[float, float, float]]]:
    """The method with a T for each site, and the frontier it was found on: mean T, SOPs, error of the outputs.

    From `LONGEST` steps everywhere, a step is taken where the output error grows least for each operation (each step
    of a neuron) that it saves, until the budget is met.

    Raises:
        ConversionError: rate coding, a network that does not trace, no inputs, a budget that one step a layer exceeds.
    """
    if method.coding != "sum":
        raise ConversionError(
            f"timesteps='auto' gives each layer its own T, and with methods.{type(method).__name__} all layers step "
            "together; take methods.ShiftedThreshold"
        )
    if not isinstance(ann, GraphProgram):
        raise ConversionError("timesteps='auto' counts synapses, which a network that does not trace does not show")
    if not batches:
        raise ConversionError("timesteps='auto' runs on inputs, and there are none: give calibration data with samples")
    costs = measured(ann, method, histograms, batches, tell, seed)
    chosen = dict.fromkeys(costs.error, LONGEST)
    spent, limit = (costs.steps, budget.steps) if budget.sops is None else (costs.sops, budget.sops)
    assert limit is not None
    frontier = [(costs.steps(chosen), costs.sops(chosen), costs.total_error(chosen))]
    while spent(chosen) > limit:
        ways = {}
        for site, t in chosen.items():
            if t > 1:
                saved = spent(chosen) - spent({**chosen, site: t - 1})
                ways[site] = (costs.error[site][t - 2] - costs.error[site][t - 1]) / max(saved, 1e-12)
        if not ways:
            raise ConversionError(f"budget: {limit:g} is less than one step a layer takes, {spent(chosen):g}")
        cheapest = min(ways, key=lambda site: ways[site])
        chosen[cheapest] -= 1
        frontier.append((costs.steps(chosen), costs.sops(chosen), costs.total_error(chosen)))
    steps = {site: chosen.get(site, max(chosen.values())) for site in ann.sites}
    base = replace(method, timesteps=max(steps.values()), layers={})
    own = {s: {k: v for k, v in c.items() if k != "timesteps"} for s, c in method.layers.items()}
    changes = {site: own.get(site, {}) | {"timesteps": t} for site, t in steps.items()}
    return overridden(base, changes, list(ann.sites)), frontier


def measured(
    ann: GraphProgram,
    method: Method,
    histograms: Mapping[str, Histogram],
    batches: Sequence[Any],
    tell: ProgressFn,
    seed: int,
) -> Costs:
    """Errors at the outputs and spikes of every site for T = 1 … `LONGEST`."""
    from snnconv.metrics.synapses import reached_by_site  # with it come all measurements, which a conversion needs not

    reached = reached_by_site(ann.source, batches[0][:1])
    costs = Costs({s: n for s, (_, n) in reached.items()}, {s: per for s, (per, _) in reached.items()})
    plain = replace(method, layers={})
    theta = {
        s: [threshold_at(replace(plain, timesteps=t), h, ann.sites[s]) for t in range(1, LONGEST + 1)]
        for s, h in histograms.items()
    }
    generator = torch.Generator().manual_seed(seed)
    few = [part for batch in batches for part in batch.split(BATCH)][: -(-SAMPLES // BATCH)]
    total = sum(len(part) for part in few)
    for done, part in enumerate(few, start=1):
        values: dict[str, tuple[Tensor, Tensor]] = {}
        with torch.enable_grad():
            leaves = tree_leaves(ann.static(part, partial(_noted, ann, values)))
            outputs = [v for v in leaves if isinstance(v, Tensor) and v.requires_grad]
            drawn = [_gradients(outputs, [y for _, y in values.values()], generator) for _ in range(DRAWS)]
        for place, (site, (z, y)) in enumerate(values.items()):
            for t in range(1, LONGEST + 1):
                error, spikes = _of_site(ann.sites[site], z, y.detach(), theta[site][t - 1], t)
                at_output = sum(float((g[place] * error).flatten(1).sum(1).square().sum()) for g in drawn)
                for table, value in ((costs.error, at_output / DRAWS), (costs.spikes, spikes)):
                    row = table.setdefault(site, [0.0] * LONGEST)
                    row[t - 1] += value / total
        tell("steps a layer", done, len(few))
    return costs


def _noted(ann: Program, values: dict[str, tuple[Tensor, Tensor]], site: str, z: Tensor) -> Tensor:
    """The source's activation, noted with its input, such that gradients are known for it."""
    y = ann.sites[site].activation(z)
    y = y + torch.zeros_like(y).requires_grad_()
    values[site] = z.detach(), y
    return y


def _of_site(place: Site, z: Tensor, y: Tensor, theta: Tensor, steps: int) -> tuple[Tensor, float]:
    """Quantisation error ``[B, ...]`` without each channel's mean, and spikes: the set bits of the codes."""
    levels = 2**steps - 1
    out = quantised(place.function, z, theta, levels, place.axis)
    rows = channels_first(out - y, place.axis, True)
    mean = rows.mean(1)
    error = out - y - broadcast(mean, y.dim(), place.axis)
    code = (out * levels / broadcast(theta.to(y), y.dim(), place.axis)).round().abs().to(torch.int32)
    return error, float(sum((((code >> k) & 1).sum() for k in range(steps)), torch.zeros(())))


def _gradients(outputs: list[Tensor], values: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """g of one draw for each value ``[B, ...]``."""
    scores = torch.zeros((), device=outputs[0].device)
    for out in outputs:
        flat = out.flatten(1) if out.dim() > 1 else out.reshape(-1, 1)
        if out.dim() == 2 and out.shape[1] > 1:
            probability = flat.detach().softmax(1).cpu().double()
            label = torch.multinomial(probability, 1, generator=generator).to(out.device)
            scores = scores + flat.log_softmax(1).gather(1, label).sum()
        elif out.is_floating_point():
            direction = torch.randn(flat.shape, generator=generator).to(flat)
            scores = scores + (flat * direction).sum() / flat.detach().square().sum(1).mean().clamp(min=1e-12).sqrt()
    found = torch.autograd.grad(scores, values, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(v) if g is None else g for g, v in zip(found, values, strict=True)]
