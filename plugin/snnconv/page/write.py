"""The page on one converted network: accuracy, errors, energy, spikes, thresholds, what stays analog."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from snnconv import plot
from snnconv._version import __version__
from snnconv.files.atomic import write_whole
from snnconv.graph.source import ConversionError
from snnconv.inputs import Reader, input_batches, placement
from snnconv.metrics.comparing import compare
from snnconv.metrics.evaluating import Evaluation, evaluate
from snnconv.metrics.profiling import profile
from snnconv.metrics.tracing import trace
from snnconv.network import SpikingNetwork
from snnconv.page.markup import escaped, page, paragraph, picture, table
from snnconv.report import ConversionReport, SpikingSite

__all__ = ["write_page"]

LOOKED_AT = 64
"""Inputs for errors and energy."""


def write_page(
    snn: SpikingNetwork,
    path: str | os.PathLike[str],
    *,
    data: Any = None,
    model: nn.Module | None = None,
    metric: str = "top1",
    name: str = "converted network",
    limit: int | None = 1000,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[str]:
    """Write one HTML page on a converted network: a file of its own that asks for nothing from elsewhere.

    Args:
        snn: the converted network.
        path: the file to write.
        data: inputs, with labels where accuracy is to be shown: batches, which are gone through twice, or a pair of
            tensors; without it the page says
            what the network's own report says.
        model: the source network, for its accuracy, the error of every layer on ``data``, and its energy.
        metric: as for :func:`snnconv.evaluate`.
        name: the page's title.
        limit: inputs to evaluate at most.
        progress: called with a title, the number of inputs done, and their total.

    Returns:
        What the page leaves out, each with the reason.

    Raises:
        OSError: the file cannot be written.

    >>> import tempfile, torch, snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> x = torch.randn(64, 4)
    >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=4), calibration=x)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_page(snn, f"{folder}/net.html", data=(x, model(x).argmax(1)), model=model)
    []
    """
    missing: list[str] = []
    sections: list[tuple[str, str]] = []

    def add(title: str, content: Callable[[], str]) -> None:
        try:
            sections.append((title, content()))
        except (ConversionError, ValueError) as error:
            missing.append(f"{title}: {error}")
            sections.append((title, paragraph(f"Left out: {error}")))

    report = snn.report or ConversionReport()
    some: list[Any] = []
    if data is None:
        missing.append("accuracy, energy and spikes: they need data")
    else:
        where, dtype = placement(snn)
        inputs = data[0] if _is_pair(data) else data
        some = input_batches(inputs, LOOKED_AT, where, dtype, name="the data", reader=Reader(snn.signature))
        add("Accuracy against time steps", lambda: _accuracy(snn, data, model, metric, limit, progress))
    add("Error of every layer", lambda: _errors(report, snn, model, some))
    if some:
        add("Energy by layer", lambda: _energy(snn, model, some))
        add("Spikes", lambda: _spikes(snn, some[0]))
    add("Thresholds", lambda: _thresholds(report))
    add("What stays analog", lambda: _analog(report))
    settings = ", ".join(f"{key}={value!r}" for key, value in snn.method.to_dict().items() if key != "name")
    facts = f"{snn.method.name}({settings}); {len(snn.neurons)} spiking sites, {snn.framework}; snnconv {__version__}"
    write_whole(path, page(name, facts, sections).encode())
    return missing


def _is_pair(data: Any) -> bool:
    return isinstance(data, tuple) and len(data) == 2


def _accuracy(
    snn: SpikingNetwork, data: Any, model: nn.Module | None, metric: str, limit: int | None, progress: Any
) -> str:
    found: Evaluation = evaluate(snn, data, metric, model=model, limit=limit, progress=progress)
    curve = {"SNN": found.curve}
    drawn = picture(
        lambda axes: plot.accuracy(curve, found.ann, axes=axes, label=found.metric.label),
        f"{found.metric.label} after each of {len(found.curve)} steps, {found.final:.2f} after the last",
    )
    beside = "" if found.ann is None else f"; the source network reaches {found.ann:.2f}"
    before = f" {found.pre_timesteps} steps run before each T." if found.pre_timesteps else ""
    said = f"{found.final:.2f} after {max(found.curve)} steps on {found.samples:,} inputs{beside}.{before}"
    rows = [[t, value] for t, value in found.curve.items()]
    return drawn + paragraph(said) + _folded("Figures", table(["T", found.metric.label], rows))


def _errors(report: ConversionReport, snn: SpikingNetwork, model: nn.Module | None, some: list[Any]) -> str:
    if model is not None and some:
        found = compare(model, snn, some)
        errors = {row.name: row.error for row in found.rows}
        said = f"Relative to the source network's activations, on {found.samples} inputs of the data."
    else:
        errors = {site.name: site.error for site in report.spiking if site.error is not None}
        said = "Relative to the source network's activations, as measured on calibration inputs when it was converted."
    if not errors:
        raise ValueError("no error was measured when the network was converted; give its source network and data")
    drawn = picture(lambda axes: plot.layer_error(errors, axes), f"relative error of each of {len(errors)} layers")
    return drawn + paragraph(said) + _folded("Figures", table(["site", "error"], [[k, v] for k, v in errors.items()]))


def _energy(snn: SpikingNetwork, model: nn.Module | None, some: list[Any]) -> str:
    found = profile(model, snn, some)
    ratio = "not counted" if found.energy_ratio is None else f"{found.energy_ratio:.3f}"
    said = (
        f"{ratio} of the source network's energy an inference: 0.9 pJ for an addition that a spike causes, 4.6 pJ for "
        f"a multiplication (45 nm, Horowitz 2014). {found.spikes_per_neuron:.2f} spikes a neuron. Traffic to memory is "
        "left out."
    )
    rows = [[c.name, c.reads, c.ann_macs, c.sops, c.snn_macs] for c in found.layers]
    figures = table(["layer", "reads", "MACs of the ANN", "additions by spikes", "MACs that remain"], rows)
    notes = "".join(map(paragraph, found.notes))
    drawn = picture(lambda axes: plot.layer_energy(found, axes), f"energy of each of {len(found.layers)} layers")
    return drawn + paragraph(said) + notes + _folded("Figures", figures)


def _spikes(snn: SpikingNetwork, x: Any) -> str:
    sites = list(snn.neurons)
    picked = list(dict.fromkeys((sites[0], sites[len(sites) // 2], sites[-1])))
    shown = []
    for site in picked:
        seen = trace(snn, x[:1], site)
        shown.append(picture(partial(plot.raster, seen, 0, None), f"spikes of {site} over time"))
    first = trace(snn, x[:1], picked[len(picked) // 2])
    potentials = picture(lambda axes: plot.membrane(first, axes=axes), "membrane potentials of three neurons")
    return paragraph(f"Of the first input, at {len(picked)} of {len(sites)} sites.") + "".join(shown) + potentials


def _thresholds(report: ConversionReport) -> str:
    def row(site: SpikingSite) -> list[Any]:
        return [site.name, site.neuron, site.channels, site.threshold_min, site.threshold_mean, site.threshold_max]

    head = ["site", "neuron", "thresholds", "smallest", "mean", "largest"]
    drawn = picture(lambda axes: plot.thresholds(report, axes), f"thresholds of {len(report.spiking)} sites")
    return drawn + _folded("Figures", table(head, [row(site) for site in report.spiking]))


def _analog(report: ConversionReport) -> str:
    notes = "".join(paragraph(note) for note in (*report.without_spikes, *report.notes))
    if not report.analog:
        return paragraph("No operator: every activation became spiking neurons.") + notes
    rows = [[site.name, site.operator, site.reason] for site in report.analog]
    return table(["where", "operator", "why"], rows) + notes


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escaped(title)}</summary>{content}</details>"
