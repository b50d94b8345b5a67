"""What layers err, cost and hold: error, energy, thresholds, unevenness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from snnconv.plot._axes import colours_of, name_axis, new_axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snnconv.metrics import Comparison, Profile, Unevenness
    from snnconv.report import ConversionReport

__all__ = ["energy", "layer_energy", "layer_error", "thresholds", "unevenness"]


def layer_error(errors: Comparison | Mapping[str, float], axes: Axes | None = None) -> Axes:
    """Relative error of every layer, in the network's order; the largest one is marked.

    Args:
        errors: what :func:`snnconv.compare` found, or layer name → relative error of the SNN's activation (0 is exact).
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: no layer.

    Example:
        >>> ax = layer_error({"relu1": 0.02, "relu2": 0.05})
        >>> len(ax.patches)
        2
    """
    if not isinstance(errors, Mapping):
        errors = {row.name: row.error for row in errors.rows}
    if not errors:
        raise ValueError("no layer to plot")
    axes = new_axes(axes)
    names = list(errors)
    worst = max(names, key=lambda name: errors[name])
    axes.bar(
        range(len(names)),
        [errors[name] for name in names],
        color=["tab:red" if name == worst else "tab:blue" for name in names],
    )
    name_axis(axes, names)
    axes.set_ylabel("relative error, SNN against ANN")
    axes.set_title(f"largest at {plain(worst)}: {errors[worst]:.3g}", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    return axes


def thresholds(report: ConversionReport, axes: Axes | None = None) -> Axes:
    """Thresholds of every spiking site, from the smallest to the largest channel's, with their mean; logarithmic.

    Args:
        report: ``snn.report``.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: no site.

    Example:
        >>> from snnconv.report import ConversionReport, SpikingSite
        >>> report = ConversionReport(spiking=[SpikingSite("relu", "if", 8, 0.5, 1.0, 2.0)])
        >>> thresholds(report).get_yscale()
        'log'
    """
    if not report.spiking:
        raise ValueError("no site to plot")
    axes = new_axes(axes)
    for place, site in enumerate(report.spiking):
        axes.plot([place, place], [site.threshold_min, site.threshold_max], color="tab:blue", linewidth=3, alpha=0.5)
        axes.plot([place], [site.threshold_mean], color="tab:blue", marker="o", markersize=4)
    axes.set_yscale("log")
    name_axis(axes, [site.name for site in report.spiking])
    axes.set_ylabel("threshold: smallest … mean … largest")
    axes.grid(axis="y", alpha=0.3)
    return axes


def energy(
    ann: Profile | Mapping[str, Profile] | float, snn: Mapping[str, float] | None = None, axes: Axes | None = None
) -> Axes:
    """Energy an inference of the ANN and of each SNN, in microjoules, with its ratio to the ANN's.

    Args:
        ann: what :func:`snnconv.profile` counted, one or several with labels; or the source network's energy, pJ.
        snn: beside a number: label → energy, picojoules.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: the source network's energy is not above zero, or a profile could not count the SNN's.

    Example:
        >>> ax = energy(4.6e6, {"T=8": 1.2e6})
        >>> [t.get_text() for t in ax.texts]
        ['1.00 ×', '0.26 ×']
    """
    if not isinstance(ann, (int, float)):
        profiles = ann if isinstance(ann, Mapping) else {f"SNN, {ann.latency} steps": ann}
        snn = {}
        for label, found in profiles.items():
            if found.snn_energy is None:
                raise ValueError(f"{label}: the SNN's energy was not counted: {'; '.join(found.notes)}")
            snn[label] = 1e12 * found.snn_energy
        ann = 1e12 * (next(iter(profiles.values())).ann_energy or 0.0)
    if not ann > 0:
        raise ValueError(f"the ANN's energy must be above zero, got {ann}")
    axes = new_axes(axes)
    names = ["ANN", *(snn or {})]
    values = [ann, *(snn or {}).values()]
    places = range(len(names))
    bars = axes.bar(places, [value * 1e-6 for value in values], color=["0.6", *["tab:blue"] * (len(names) - 1)])
    axes.bar_label(bars, labels=[f"{value / ann:.2f} ×" for value in values], fontsize=8)
    few = len(names) <= 4
    axes.set_xticks(
        places, labels=[plain(n) for n in names], rotation=0 if few else 30, ha="center" if few else "right"
    )
    axes.margins(y=0.1)
    axes.set_ylabel("energy an inference (µJ)")
    return axes


def layer_energy(profile: Profile, axes: Axes | None = None) -> Axes:
    """Energy of every layer with weights an inference: the ANN's beside the SNN's, of spikes and of multiplications.

    Args:
        profile: what :func:`snnconv.profile` counted.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: the layers' operations could not be counted.

    Example:
        >>> import torch, snnconv
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=6), calibration=torch.randn(64, 4))
        >>> len(layer_energy(snnconv.profile(model, snn, torch.randn(8, 4))).containers)
        3
    """
    from snnconv.metrics.profiling import AC_JOULES, MAC_JOULES

    if not profile.layers:
        raise ValueError(f"no layer to plot: {'; '.join(profile.notes) or 'none has weights'}")
    axes = new_axes(axes)
    layers, width = profile.layers, 0.4
    right = [place + width / 2 for place in range(len(layers))]
    ann = [1e6 * MAC_JOULES * layer.ann_macs for layer in layers]
    spikes = [1e6 * AC_JOULES * layer.sops for layer in layers]
    rest = [1e6 * MAC_JOULES * layer.snn_macs for layer in layers]
    axes.bar([place - width / 2 for place in range(len(layers))], ann, width, color="0.6", label="ANN")
    axes.bar(right, spikes, width, color="tab:blue", label="SNN, additions by spikes")
    axes.bar(right, rest, width, bottom=spikes, color="tab:orange", label="SNN, multiplications")
    name_axis(axes, [layer.name for layer in layers])
    axes.set_ylabel("energy an inference (µJ)")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    return axes


def unevenness(found: Unevenness, axes: Axes | None = None) -> Axes:
    """Share of neurons in each category of unevenness error, stacked, layer by layer.

    Args:
        found: what :func:`snnconv.metrics.unevenness` counted.
        axes: where to draw; a new figure by default.

    Example:
        >>> from snnconv.metrics.uneven import CATEGORIES, LayerUnevenness, Unevenness
        >>> layer = LayerUnevenness("relu", 100, dict(zip(CATEGORIES, (8, 2, 3, 1))))
        >>> len(unevenness(Unevenness((layer,), 10, "input")).containers)
        4
    """
    axes = new_axes(axes)
    places = list(range(len(found.layers)))
    below = [0.0] * len(places)
    categories = list(found.total.counts)
    for category, colour in zip(categories, colours_of(len(categories)), strict=True):
        heights = [100 * layer.shares[category] for layer in found.layers]
        axes.bar(places, heights, bottom=below, label=category, color=colour, width=0.8)
        below = [b + h for b, h in zip(below, heights, strict=True)]
    name_axis(axes, [layer.name for layer in found.layers])
    axes.set_ylabel("neurons (%)")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    return axes
