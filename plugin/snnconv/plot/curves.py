"""Accuracy and error against time steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from snnconv.plot._axes import colours_of, new_axes, plain, step_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snnconv.metrics import FitCurve

__all__ = ["accuracy", "fit_curve"]


def accuracy(
    curves: Mapping[str, Mapping[int, float]],
    ann: float | None = None,
    dashed: Collection[str] = (),
    axes: Axes | None = None,
    label: str = "top-1 accuracy (%)",
) -> Axes:
    """Accuracy against time steps, one line a method, and the ANN's accuracy as a horizontal line.

    Args:
        curves: label → number of steps → accuracy (percent).
        ann: accuracy of the source network (percent).
        dashed: labels drawn dashed, for instance baselines.
        axes: where to draw; a new figure by default.
        label: what is drawn, of another metric.

    Raises:
        ValueError: no curve, or a curve without points or with a number of steps below 1.

    Example:
        >>> ax = accuracy({"signed IF": {4: 80.1, 8: 88.0}}, ann=88.3)
        >>> ax.get_xlabel()
        'time steps T'
    """
    if not curves:
        raise ValueError("no curve to plot")
    for name, points in curves.items():
        if not points or min(points) < 1:
            raise ValueError(f"curve {name!r} needs points at 1 time step or more")
    axes = new_axes(axes)
    colours = colours_of(len(curves))
    for i, (name, points) in enumerate(curves.items()):
        steps = sorted(points)
        axes.plot(
            steps,
            [points[t] for t in steps],
            label=plain(name),
            color=colours[i],
            marker="os^Dv<>P"[i % 8],
            markersize=4.5,
            linewidth=1.6,
            linestyle="--" if name in dashed else "-",
        )
    if ann is not None:
        axes.axhline(
            ann,
            color="black",
            linewidth=1,
            linestyle=":",
            label=f"ANN {ann:.1f}{' %' if label.endswith('(%)') else ''}",
        )
    step_axis(axes, {t for points in curves.values() for t in points})
    axes.set_xlabel("time steps T")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")
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
    axes = new_axes(axes)
    for layer, colour in zip(shown, colours_of(len(shown)), strict=True):
        steps = list(curve.timesteps)
        # an error of 0 has no place on a logarithmic axis
        errors = [layer.errors[t] or float("nan") for t in steps]
        axes.plot(steps, errors, label=plain(layer.name), color=colour, marker="o", markersize=3, linewidth=1.4)
        axes.plot(steps, [layer.bounds[t] for t in steps], color=colour, linestyle="--", linewidth=0.9)
    axes.set_yscale("log")
    step_axis(axes, curve.timesteps)
    axes.set_xlabel("time steps T")
    axes.set_ylabel("‖y − φ(T)‖² / ‖y‖²")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, ncols=2, title="dashed: bound", title_fontsize=7)
    return axes
