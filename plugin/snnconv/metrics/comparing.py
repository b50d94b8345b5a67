"""Where a converted network departs from its source: the error of every layer."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from snnconv.graph.activation import Activation
from snnconv.graph.cover import Cover
from snnconv.graph.source import ConversionError, SourceGraph, activation_site
from snnconv.graph.unwrap import unwrap
from snnconv.inputs import Progress, network_batches, placement
from snnconv.network import SpikingNetwork
from snnconv.report import table
from snnconv.runtime.capture import captured_as
from snnconv.runtime.covering import encode
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.tree import TreeProgram

__all__ = ["Comparison", "SiteError", "compare", "compare_programs", "cover_of", "covered_graph", "reference_program"]


@dataclass(frozen=True)
class SiteError:
    """Error of one site.

    Attributes:
        name: the site.
        error: ‖rate − activation‖ / ‖activation‖.
        norm: ‖activation‖, root mean square over neurons and inputs.
        increase: how much larger the error is than the largest one among the sites that feed this one.
    """

    name: str
    error: float
    norm: float
    increase: float


@dataclass(frozen=True)
class Comparison:
    """Per-layer errors of a converted network against its source; prints as a table.

    Attributes:
        rows: one :class:`SiteError` per site, in execution order.
        output_error: ‖snn(x) − model(x)‖ / ‖model(x)‖ over all outputs.
        agreement: fraction of inputs whose largest output is the same in both, where it is ``[B, classes]``.
        samples: inputs compared.
    """

    rows: list[SiteError]
    output_error: float
    agreement: float | None
    samples: int

    @property
    def worst(self) -> SiteError | None:
        """The site with the largest error."""
        return max(self.rows, key=lambda row: row.error, default=None)

    @property
    def departs(self) -> SiteError | None:
        """The site whose error grows most over that of the sites that feed it."""
        return max(self.rows, key=lambda row: row.increase, default=None)

    def __str__(self) -> str:
        rows = [(r.name, f"{r.error:.4f}", f"{r.increase:+.4f}", f"{r.norm:.4g}") for r in self.rows]
        lines = [table(("site", "relative error", "increase", "rms activation"), rows)]
        if self.worst is not None and self.departs is not None:
            lines.append(
                f"The worst layer is {self.worst.name} (relative error {self.worst.error:.4f}); the largest "
                f"increase over the layers before is at {self.departs.name} ({self.departs.increase:+.4f})."
            )
        lines.append(f"Output: relative error {self.output_error:.4f} on {self.samples} inputs.")
        if self.agreement is not None:
            lines.append(f"Predictions agree on {100 * self.agreement:.2f} % of them.")
        return "\n".join(lines)


def compare(
    model: nn.Module,
    snn: SpikingNetwork,
    loader: Any,
    limit: int | None = 256,
    progress: Progress | None = None,
) -> Comparison:
    """Relative error ‖rate − activation‖ / ‖activation‖ of every site, the SNN on its own activations.

    The rate is the readout's: the mean over the steps after the delay, or the sum of the weighted spikes. A
    max-pooling that was moved in front of its neurons stands there on both sides.

    Args:
        model: the source network.
        snn: the network converted from it.
        loader: a tensor, a list of tensors, or a loader giving tensors, (input, target) or dicts.
        limit: inputs to use at most.
        progress: called with a title, the number of inputs done, and their total.

    Raises:
        ConversionError: the two networks do not have the same sites.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=16), calibration=torch.randn(64, 4))
    >>> compare(model, snn, torch.randn(16, 4)).worst.name
    '1'
    """
    batches = network_batches(snn, loader, limit)
    return compare_programs(reference_program(model, snn, batches[0]), snn, batches, progress)


def compare_programs(
    reference: Program, snn: SpikingNetwork, batches: list[Any], progress: Progress | None = None
) -> Comparison:
    """:func:`compare` for a source network that is a program already, on batches that fit."""
    errors: dict[str, float] = defaultdict(float)
    powers: dict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    output_error = output_power = 0.0
    agreed, ranked, samples = 0, True, 0
    total = sum(map(len, batches))
    for batch in batches:
        activations: dict[str, Tensor] = {}
        steps: Counter[str] = Counter()

        def activate(site: str, z: Tensor, kept: dict[str, Tensor] = activations) -> Tensor:
            kept[site] = reference.sites[site].activation(z)
            return kept[site]

        def read(site: str, out: Tensor, kept: dict[str, Tensor] = activations, seen: Counter[str] = steps) -> None:
            seen[site] += out.shape[0]
            if seen[site] <= snn.method.pre_timesteps_:
                return
            activation = kept.pop(site).double()
            errors[site] += _squared(snn.readout.of_site(out).double(), activation)
            powers[site] += float(activation.square().sum())
            counts[site] += activation.numel()

        with torch.no_grad():
            wanted = reference.static(batch, activate)
            got = snn.readout.final(snn.run(batch, observe=read))
        pairs = [
            (g.double(), w.double())
            for g, w in zip(tree_leaves(got), tree_leaves(wanted), strict=True)
            if isinstance(g, Tensor) and g.is_floating_point()
        ]
        output_error += sum(_squared(g, w) for g, w in pairs)
        output_power += sum(float(w.square().sum()) for _, w in pairs)
        ranked = ranked and len(pairs) == 1 and pairs[0][0].dim() == 2
        if ranked and pairs[0][0].shape == pairs[0][1].shape:
            agreed += int((pairs[0][0].argmax(1) == pairs[0][1].argmax(1)).sum())
        samples += len(batch)
        if progress:
            progress("comparing layers", samples, total)
    relative = {site: _ratio(errors[site], powers[site]) for site in snn.program.sites}
    rows = [
        SiteError(
            site,
            relative[site],
            (powers[site] / max(counts[site], 1)) ** 0.5,
            relative[site] - max((relative[p] for p in before), default=0.0),
        )
        for site, before in _predecessors(snn.program).items()
    ]
    return Comparison(rows, _ratio(output_error, output_power), agreed / samples if ranked else None, samples)


def _squared(got: Tensor, wanted: Tensor) -> float:
    """The squared error of all values; infinite where a network picks others, so that there are more or fewer."""
    return float((got - wanted).square().sum()) if got.shape == wanted.shape else math.inf


def _ratio(error: float, power: float) -> float:
    if power:
        return math.sqrt(error / power)
    return float("inf") if error else 0.0


def cover_of(snn: SpikingNetwork) -> Cover:
    """Where the neurons of a converted network stand.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.ShiftedThreshold(4), torch.randn(64, 4), progress=False)
    >>> cover_of(snn).synapses
    False
    """
    functions = [site.function for site in snn.program.sites.values()]

    def wanted(kind: Activation) -> bool:
        return any(type(f) is type(kind) and f.signed == kind.signed for f in functions)

    report = snn.report
    if report is None:
        return Cover(wanted=wanted)
    return Cover(report.cover, report.encode_input, report.signed, report.normalisation, wanted)


def covered_graph(model: nn.Module, snn: SpikingNetwork, example: Any) -> SourceGraph:
    """The graph of ``model`` with sites and encoders where the converted network has its neurons."""
    cover = cover_of(snn)
    assert isinstance(snn.program, GraphProgram)
    source = captured_as(snn.program.source, model, snn.signature, example, cover)
    encode(source, cover, example[:1])
    return source


def reference_program(model: nn.Module, snn: SpikingNetwork, example: Any) -> Program:
    """The source network with its sites open, where the converted network is.

    Raises:
        ConversionError: an activation that one of the two does not have, by its name.
    """
    model = unwrap(model).model
    device, dtype = placement(snn)
    program: Program
    if not isinstance(snn.program, GraphProgram):
        own, _ = placement(model)
        program = TreeProgram(model, example.to(own) if own is not None else example)
    else:
        program = GraphProgram(covered_graph(model, snn, example))
    program.store().to(device=device, dtype=dtype)
    for one, other, owner in ((snn.program, program, "model"), (program, snn.program, "converted network")):
        for name in one.sites:
            if name not in other.sites:
                raise ConversionError(
                    f"{name}: the {owner} has no activation of this name, so the two cannot be compared "
                    "layer by layer; pass the model that the network was converted from"
                )
    for site in program.sites.values():
        if site.threshold is not None and device is not None:
            program.sites[site.name] = site.with_(function=site.function.to(device))
    return program


def _predecessors(program: Program) -> dict[str, list[str]]:
    """The sites that feed each site; in a network that does not trace, the one that fired before."""
    if not isinstance(program, GraphProgram):
        names = list(program.sites)
        return {name: names[max(i - 1, 0) : i] for i, name in enumerate(names)}
    feeding: dict[fx.Node, set[str]] = {}
    found: dict[str, list[str]] = {}
    for node in program.source.graph.nodes:
        before: set[str] = set().union(*(feeding[n] for n in node.all_input_nodes))
        if node.target is activation_site:
            name = str(node.kwargs["site"])
            found[name] = sorted(before)
            before = {name}
        feeding[node] = before
    return found
