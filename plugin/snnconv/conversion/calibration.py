"""From calibration data to the thresholds of every site, and the delay of the readout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from snnconv.conversion import thresholds as calibrate
from snnconv.conversion.given import home_of
from snnconv.conversion.histogram import histograms as histograms_of
from snnconv.conversion.ranks import Ranks
from snnconv.conversion.statistics import Calibration
from snnconv.graph.source import Site
from snnconv.methods.base import Method
from snnconv.progress import ProgressFn
from snnconv.report import ConversionReport
from snnconv.runtime.program import Program

__all__ = ["delay_estimate", "thresholds_of"]

BALANCING_VALUES = 2**24  # samples times neurons of one update of balanced thresholds


def thresholds_of(
    ann: Program,
    method: Method,
    batches: Sequence[Any],
    spec: dict[str, Any],
    tell: ProgressFn,
    report: ConversionReport,
    ranks: Ranks,
    known: Calibration | None = None,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """θ of every site, and the data mean of its largest element (for the delay); from ``known`` statistics if any."""
    if method.thresholds == "trained":
        thresholds: dict[str, Tensor] = {}
        for name, site in ann.sites.items():
            assert site.threshold is not None
            thresholds[name] = site.threshold.detach().clone()
            if site.levels is not None and site.levels != method.levels:
                report.notes.append(
                    f"{name} was trained with {site.levels} levels; T = {method.timesteps} carries {method.levels}"
                )
        if not batches and known is None:
            return thresholds, {}
    delayed = method.delay_ == "auto"
    if known is None:
        histograms = histograms_of(ann, batches, method.per_channel, tell, ranks, elements=delayed)
        means = {name: h.largest_mean(ranks) for name, h in histograms.items()} if delayed else {}
    else:
        histograms, means = known.of(ann.sites, method.per_channel, home_of(ann.store())[0]), known.means
    silent = [name for name, h in histograms.items() if not bool((h.peak > 0).any())]
    if silent:
        report.notes.append(f"never active on the calibration data: {', '.join(silent)}")
    if method.thresholds == "trained":
        return thresholds, means
    if method.thresholds == "ltb":
        options = {k: getattr(method, k) for k in ("k", "max_batches", "tolerance") if hasattr(method, k)}
        # hundreds of updates are needed whatever the size of a batch, so large networks take small ones
        size = max(1, BALANCING_VALUES // max(1, int(spec.get("neurons", 0))) // ranks.size)
        parts = [part for batch in batches for part in batch.split(size)]
        thresholds, used = calibrate.balanced_thresholds(
            ann, parts, method.per_channel, progress=tell, ranks=ranks, **options
        )
        report.notes.append(f"threshold balancing used {used} batches")
    elif method.thresholds == "max":
        thresholds = {name: calibrate.max_threshold(h) for name, h in histograms.items()}
    elif method.percent is not None:
        thresholds = {name: calibrate.percentile_threshold(h, method.percent) for name, h in histograms.items()}
    else:
        caps = {name: site.cap for name, site in ann.sites.items()}
        thresholds = {}
        for done, (name, h) in enumerate(histograms.items(), start=1):
            thresholds[name] = calibrate.mse_threshold(h, method.levels, cap=caps[name])
            tell("thresholds: search", done, len(histograms))
    thresholds = {k: v if method.per_channel else v.reshape(()) for k, v in thresholds.items()}
    return thresholds | _unreached(ann, thresholds, report), means


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
    units = {name: 1.0 if sites[name].kind == "rate_norm" else float(v.mean()) for name, v in thresholds.items()}
    below = 1.0 if method.neuron_options.get("start") == "zero" else 0.5
    return sum(below * theta / means[name] for name, theta in units.items() if means.get(name, 0) > 0)
