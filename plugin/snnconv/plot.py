"""Plots of accuracy, per-layer error and energy. Needs matplotlib: ``pip install "snnconv-plugin[plot]"``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snnconv.metrics import FitCurve, Trace, Unevenness

__all__ = ["accuracy", "energy", "fit_curve", "layer_error", "membrane", "raster", "unevenness"]


def accuracy(
    curves: Mapping[str, Mapping[int, float]],
    ann: float | None = None,
    dashed: Collection[str] = (),
    axes: Axes | None = None,
) -> Axes:
    """Accuracy against time steps, one line a method, and the ANN's accuracy as a horizontal line.

    Args:
        curves: label → number of steps → accuracy (percent).
        ann: accuracy of the source network (percent).
        dashed: labels drawn dashed, for instance baselines.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: no curve, or a curve without points or with a number of steps below 1.

    Example:
        >>> ax = accuracy({"signed IF": {4: 80.1, 8: 88.0}}, ann=88.3)
        >>> ax.get_xlabel()
        'time steps T'
    """
    if not curves:
        raise ValueError("no curve to plot")
    for label, points in curves.items():
        if not points or min(points) < 1:
            raise ValueError(f"curve {label!r} needs points at 1 time step or more")
    axes = _axes(axes)
    colours = _colours(len(curves))
    for i, (label, points) in enumerate(curves.items()):
        steps = sorted(points)
        axes.plot(
            steps,
            [points[t] for t in steps],
            label=label,
            color=colours[i],
            marker="os^Dv<>P"[i % 8],
            markersize=4.5,
            linewidth=1.6,
            linestyle="--" if label in dashed else "-",
        )
    if ann is not None:
        axes.axhline(ann, color="black", linewidth=1, linestyle=":", label=f"ANN {ann:.1f} %")
    every = sorted({t for points in curves.values() for t in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(every, labels=[str(t) for t in every])
    axes.minorticks_off()
    axes.set_xlabel("time steps T")
    axes.set_ylabel("top-1 accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")
    return axes


def layer_error(errors: Mapping[str, float], axes: Axes | None = None) -> Axes:
    """Relative error of every layer, in the network's order; the largest one is marked.

    Args:
        errors: layer name → relative error of the SNN's activation (0 is exact).
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: no layer.

    Example:
        >>> ax = layer_error({"relu1": 0.02, "relu2": 0.05})
        >>> len(ax.patches)
        2
    """
    if not errors:
        raise ValueError("no layer to plot")
    axes = _axes(axes)
    names = list(errors)
    worst = max(names, key=lambda name: errors[name])
    axes.bar(
        range(len(names)),
        [errors[name] for name in names],
        color=["tab:red" if name == worst else "tab:blue" for name in names],
    )
    axes.set_xticks(range(len(names)), labels=names, rotation=90, fontsize=7)
    axes.set_ylabel("relative error, SNN against ANN")
    axes.set_title(f"largest at {worst}: {errors[worst]:.3g}", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    return axes


def fit_curve(curve: FitCurve, layers: Collection[str] = (), axes: Axes | None = None) -> Axes:
    """Error of every layer's rate against time steps (full lines), and its bound (dashed), both axes logarithmic.

    Args:
        curve: what :func:`snnconv.metrics.fit_curve` measured.
        layers: draw these only.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: no layer of these names.

    Example:
        >>> from snnconv.metrics.fit import FitCurve, LayerFit
        >>> layer = LayerFit("relu", 2.0, {1: 0.5, 2: 0.25}, {1: 1.0, 2: 0.5})
        >>> len(fit_curve(FitCurve((layer,), (1, 2), 16)).lines)
        2
    """
    shown = [layer for layer in curve.layers if not layers or layer.name in layers]
    if not shown:
        raise ValueError(f"no layer to plot; there are {', '.join(layer.name for layer in curve.layers)}")
    axes = _axes(axes)
    for layer, colour in zip(shown, _colours(len(shown)), strict=True):
        steps = list(curve.timesteps)
        # an error of 0 has no place on a logarithmic axis
        errors = [layer.errors[t] or float("nan") for t in steps]
        axes.plot(steps, errors, label=layer.name, color=colour, marker="o", markersize=3, linewidth=1.4)
        axes.plot(steps, [layer.bounds[t] for t in steps], color=colour, linestyle="--", linewidth=0.9)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(curve.timesteps), labels=[str(t) for t in curve.timesteps])
    axes.set_xlabel("time steps T")
    axes.set_ylabel("‖y − φ(T)‖² / ‖y‖²")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, ncols=2, title="dashed: bound", title_fontsize=7)
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
    axes = _axes(axes)
    places = list(range(len(found.layers)))
    below = [0.0] * len(places)
    categories = list(found.total.counts)
    for category, colour in zip(categories, _colours(len(categories)), strict=True):
        heights = [100 * layer.shares[category] for layer in found.layers]
        axes.bar(places, heights, bottom=below, label=category, color=colour, width=0.8)
        below = [b + h for b, h in zip(below, heights, strict=True)]
    axes.set_xticks(places, labels=[layer.name for layer in found.layers], rotation=90, fontsize=7)
    axes.set_ylabel("neurons (%)")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    return axes


def energy(ann: float, snn: Mapping[str, float], axes: Axes | None = None) -> Axes:
    """Energy an inference of the ANN and of each SNN, in microjoules, with its ratio to the ANN's.

    Args:
        ann: energy of the source network, picojoules.
        snn: label → energy, picojoules.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: ``ann`` is not above zero.

    Example:
        >>> ax = energy(4.6e6, {"T=8": 1.2e6})
        >>> [t.get_text() for t in ax.texts]
        ['1.00', '0.26']
    """
    if not ann > 0:
        raise ValueError(f"the ANN's energy must be above zero, got {ann}")
    axes = _axes(axes)
    names = ["ANN", *snn]
    values = [ann, *snn.values()]
    bars = axes.bar(names, [value * 1e-6 for value in values], color=["0.6", *["tab:blue"] * len(snn)])
    axes.bar_label(bars, labels=[f"{value / ann:.2f}" for value in values], fontsize=8)
    axes.set_ylabel("energy an inference (µJ)")
    axes.tick_params(axis="x", rotation=30)
    return axes


def raster(trace: Trace, sample: int = 0, neurons: Sequence[int] | None = None, axes: Axes | None = None) -> Axes:
    """Spikes of a layer over time: one row a neuron, one mark a spike, negative ones in red.

    Args:
        trace: of the layer, from :func:`snnconv.metrics.trace`.
        sample: which input of the batch.
        neurons: positions in the flattened layer; by default the 200 that spike most, in the layer's order.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: a neuron that the layer does not have.

    Example:
        >>> import torch, snnconv
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=6), calibration=torch.randn(64, 4))
        >>> raster(snnconv.metrics.trace(snn, torch.randn(1, 4), "1")).get_ylabel()
        'neuron'
    """
    picked = sorted(trace.neurons(neurons, sample, 200))
    axes = _axes(axes)
    rows = trace.spikes[:, sample].flatten(1)[:, picked]
    for sign, colour, label in ((1, "black", "spike"), (-1, "tab:red", "negative spike")):
        steps, which = (rows.sign() == sign).nonzero(as_tuple=True)
        if sign > 0 or len(steps):
            height = max(0.5, min(40.0, 2000 / max(1, len(picked)) ** 1.5))
            axes.scatter(steps + 1, which, s=height, marker="|", color=colour, linewidths=1.2, label=label)
    if len(picked) <= 24:
        axes.set_yticks(range(len(picked)), labels=[str(i) for i in picked], fontsize=7)
    axes.set_xlim(0.5, len(rows) + 0.5)
    axes.set_ylim(-1, len(picked))
    axes.set_xlabel("time step")
    axes.set_ylabel("neuron")
    axes.set_title(f"{trace.site}: {int(rows.abs().sum()):,} spikes of {len(picked):,} neurons", fontsize=10)
    if len(axes.collections) > 1:
        axes.legend(fontsize=8, loc="upper right")
    return axes


def membrane(trace: Trace, sample: int = 0, neurons: Sequence[int] | None = None, axes: Axes | None = None) -> Axes:
    """Membrane potentials of chosen neurons after each step, in units of their thresholds; spikes are marked.

    Args:
        trace: of the layer, from :func:`snnconv.metrics.trace`.
        sample: which input of the batch.
        neurons: positions in the flattened layer; by default the four that spike most.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: a neuron that the layer does not have.

    Example:
        >>> import torch, snnconv
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=6), calibration=torch.randn(64, 4))
        >>> ax = membrane(snnconv.metrics.trace(snn, torch.randn(1, 4), "1"), neurons=[2, 5])
        >>> [line.get_label() for line in ax.lines][:2]
        ['2', '5']
    """
    picked = trace.neurons(neurons, sample)
    axes = _axes(axes)
    theta = trace.threshold[sample].flatten()
    steps = range(1, len(trace.membrane) + 1)
    colours = _colours(len(picked))
    for i, colour in zip(picked, colours, strict=True):
        v = trace.membrane[:, sample].flatten(1)[:, i] / theta[i]
        axes.plot(steps, v.tolist(), color=colour, marker=".", linewidth=1.4, label=str(i))
        for sign, marker in ((1, "^"), (-1, "v")):
            fired = (trace.spikes[:, sample].flatten(1)[:, i].sign() == sign).nonzero().flatten()
            axes.scatter(fired + 1, v[fired], color=colour, marker=marker, s=36, zorder=3)
    axes.axhline(1, color="black", linewidth=1, linestyle="--")
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel("time step")
    axes.set_ylabel("membrane potential (thresholds)")
    axes.set_title(f"{trace.site}: ▲ spike, ▼ negative spike", fontsize=10)
    axes.legend(fontsize=8, title="neuron")
    return axes


def _axes(axes: Axes | None) -> Axes:
    if axes is not None:
        return axes
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "snnconv-plugin[plot]"') from error
    return Figure(layout="constrained").subplots()


def _colours(count: int) -> list[tuple[float, ...]]:
    from matplotlib import colormaps

    return [tuple(colormaps["tab10" if count <= 10 else "tab20"](i % 20)) for i in range(count)]
