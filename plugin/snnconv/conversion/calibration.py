"""From calibration data to the thresholds of every site, and the delay of the readout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnconv.conversion.given import home_of
from snnconv.conversion.histogram import Histogram, histograms
from snnconv.conversion.ranks import Ranks
from snnconv.conversion.statistics import Calibration
from snnconv.conversion.thresholds import Seen, balanced_thresholds
from snnconv.graph.source import Site
from snnconv.methods.base import Method
from snnconv.methods.statistics import STATISTICS
from snnconv.progress import ProgressFn
from snnconv.report import ConversionReport
from snnconv.runtime.program import Program

__all__ = ["Activations", "activations_of", "delay_estimate", "threshold_at", "thresholds_of"]

BALANCING_VALUES = 2**24  # samples times neurons of one update of balanced thresholds


@dataclass(frozen=True)
class Activations:
    """What calibration says of the activations.

    Attributes:
        histograms: of each site; none, where all thresholds are trained and there are no data.
        means: the data mean of a site's largest element, where the readout's delay is to be found.
    """

    histograms: dict[str, Histogram]
    means: dict[str, float]


def activations_of(
    ann: Program,
    method: Method,
    batches: Sequence[Any],
    tell: ProgressFn,
    report: ConversionReport,
    ranks: Ranks,
    known: Calibration | None = None,
) -> Activations:
    """Statistics of every site's activation: ``known`` ones, or of one pass over ``batches``."""
    if not batches and known is None:
        return Activations({}, {})
    if known is None:
        delayed = method.delay_ == "auto"
        found = histograms(ann, batches, True, tell, ranks, elements=delayed)
        means = {name: h.largest_mean(ranks) for name, h in found.items()} if delayed else {}
    else:
        found, means = known.of(ann.sites, home_of(ann.store())[0]), known.means
    silent = [name for name, h in found.items() if not bool((h.peak > 0).any())]
    if silent:
        report.notes.append(f"never active on the calibration data: {', '.join(silent)}")
    return Activations(found, means)


def thresholds_of(
    ann: Program,
    method: Method,
    found: Mapping[str, Histogram],
    batches: Sequence[Any],
    spec: dict[str, Any],
    tell: ProgressFn,
    report: ConversionReport,
    ranks: Ranks,
) -> dict[str, Tensor]:
    """θ of every site, as the method says where from."""
    thresholds = _trained(ann, method, report)
    if len(thresholds) == len(ann.sites):
        return thresholds
    if method.thresholds == "ltb":
        options = {k: getattr(method, k) for k in ("k", "max_batches", "tolerance") if hasattr(method, k)}
        # hundreds of updates are needed whatever the size of a batch, so large networks take small ones
        size = max(1, BALANCING_VALUES // max(1, int(spec.get("neurons", 0))) // ranks.size)
        parts = [part for batch in batches for part in batch.split(size)]
        balanced, used = balanced_thresholds(ann, parts, method.per_channel, progress=tell, ranks=ranks, **options)
        apart = {k for k in balanced if method.per_channel and ann.sites[k].axis}
        thresholds |= {k: v if k in apart else v.reshape(()) for k, v in balanced.items()}
        report.notes.append(f"threshold balancing used {used} batches")
    else:
        for done, (name, h) in enumerate(found.items(), start=1):
            if name not in thresholds:
                thresholds[name] = threshold_at(method.at(name), h, ann.sites[name])
            tell("thresholds: search", done, len(found))
    return thresholds | _unreached(ann, thresholds, report)


def threshold_at(method: Method, histogram: Histogram, site: Site) -> Tensor:
    """θ of one site from its activations, by the statistic that the method names: one, or one a channel."""
    seen = Seen(histogram if method.per_channel else histogram.merged(), site.cap, site.function.signed)
    if method.percent is not None:
        theta = seen.percentile(method.percent)
    else:  # an encoder between trained activations has no threshold of its own
        theta = STATISTICS.get(method.thresholds, STATISTICS["mse"]).of(seen, method)
    return theta if method.per_channel and site.axis else theta.reshape(())


def _trained(ann: Program, method: Method, report: ConversionReport) -> dict[str, Tensor]:
    """Thresholds that the network was trained with, at the sites that keep them."""
    thresholds: dict[str, Tensor] = {}
    for name, site in ann.sites.items():
        own = method.at(name)
        if own.thresholds != "trained" or site.threshold is None:  # an encoder has none
            continue
        thresholds[name] = site.threshold.detach().clone()
        if site.levels is not None and site.levels != own.levels:
            report.notes.append(
                f"{name} was trained with {site.levels} levels; T = {own.timesteps} carries {own.levels}"
            )
    return thresholds


def _unreached(ann: Program, thresholds: dict[str, Tensor], report: ConversionReport) -> dict[str, Tensor]:
    """Thresholds of sites that the calibration data did not come to: the mean of the others'."""
    absent = [name for name in ann.sites if name not in thresholds]
    if not absent:
        return {}
    mean = torch.stack([theta.mean() for theta in thresholds.values()]).mean() if thresholds else torch.tensor(1.0)
    report.notes.append(
        f"the calibration data did not come to {', '.join(absent)}: thresholds there are the mean of the others', "
        f"{float(mean):.3g}; calibrate with inputs that take this path"
    )
    return {name: mean.clone() for name in absent}


def delay_estimate(
    method: Method, sites: Mapping[str, Site], thresholds: Mapping[str, Tensor], means: Mapping[str, float]
) -> float:
    """Σ_l mean_c(θ_c − v₀) / max_i(data mean of element i), with v₀ = θ/2 or 0 (arXiv 2409.03368, eq. 19)."""
    units = {name: 1.0 if sites[name].function.unit else float(v.mean()) for name, v in thresholds.items()}
    below = {name: 1.0 if method.at(name).neuron_options.get("start") == "zero" else 0.5 for name in units}
    return sum(below[name] * theta / means[name] for name, theta in units.items() if means.get(name, 0) > 0)
