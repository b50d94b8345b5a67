"""What single neurons do: spikes and membrane potentials over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snnconv.plot._axes import colours_of, new_axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snnconv.dynamics.function import Function
    from snnconv.metrics import Trace

__all__ = ["ladder", "membrane", "raster"]


def raster(trace: Trace, sample: int = 0, neurons: Sequence[int] | None = None, axes: Axes | None = None) -> Axes:
    """Spikes of a layer over time: one row a neuron, one mark a spike, negative ones in red.

    Args:
        trace: of the layer, from :func:`snnconv.metrics.trace`.
        sample: which input of the batch.
        neurons: positions in the flattened layer; by default 80 of those that spike, evenly over the layer.
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
    picked = sorted(trace.spread(sample, 80) if neurons is None else trace.neurons(neurons, sample))
    axes = new_axes(axes)
    rows = trace.spikes[:, sample].flatten(1)[:, picked]
    across, up = _points(axes)
    height = min(14.0, max(3.0, 0.8 * up / max(1, len(picked))))  # of a mark
    width = min(6.0, max(1.5, 0.35 * across / max(1, len(rows))))
    for sign, colour, name in ((1, "0.15", "spike"), (-1, "tab:red", "negative spike")):
        steps, which = (rows.sign() == sign).nonzero(as_tuple=True)
        if sign > 0 or len(steps):
            axes.scatter(steps + 1, which, s=height**2, marker="|", color=colour, linewidths=width, label=name)
    if len(picked) <= 24:
        axes.set_yticks(range(len(picked)), labels=[str(i) for i in picked], fontsize=7)
    axes.set_xlim(0.5, len(rows) + 0.5)
    axes.set_ylim(-1, len(picked))
    axes.set_xlabel("time step")
    axes.set_ylabel("neuron")
    count = int((rows != 0).sum())
    axes.set_title(f"{plain(trace.site)}: {count:,} spikes of {len(picked):,} neurons", fontsize=10, loc="left")
    if len(axes.collections) > 1:  # above the data, which may be anywhere
        axes.legend(
            fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, markerscale=8 / height
        )
    return axes


def membrane(trace: Trace, sample: int = 0, neurons: Sequence[int] | None = None, axes: Axes | None = None) -> Axes:
    """Membrane potentials of chosen neurons after each step, in units of their thresholds.

    A thin line goes up to where the potential stood before a spike: over the threshold (dashed), or below zero before a
    negative spike.

    Args:
        trace: of the layer, from :func:`snnconv.metrics.trace`.
        sample: which input of the batch.
        neurons: positions in the flattened layer; by default three that spike at about half of the steps.
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
    picked = trace.deciding(sample, 3) if neurons is None else trace.neurons(neurons, sample)
    axes = new_axes(axes)
    theta = trace.threshold[sample].flatten()
    steps = range(1, len(trace.membrane) + 1)
    worth = trace.worth.tolist()
    colours = colours_of(len(picked))
    after, spikes = (values[:, sample].flatten(1) for values in (trace.membrane, trace.spikes))
    for i, colour in zip(picked, colours, strict=True):
        axes.plot(steps, (after[:, i] / theta[i]).tolist(), color=colour, marker=".", linewidth=1.4, label=str(i))
    for i, colour in zip(picked, colours, strict=True):
        v = (after[:, i] / theta[i]).tolist()
        before = [potential + spike * w for potential, spike, w in zip(v, spikes[:, i].tolist(), worth, strict=True)]
        for sign, marker in ((1, "^"), (-1, "v")):
            fired = (spikes[:, i].sign() == sign).nonzero().flatten().tolist()
            axes.vlines(
                [t + 1 for t in fired], [v[t] for t in fired], [before[t] for t in fired], color=colour, linewidth=0.9
            )
            axes.scatter(
                [t + 1 for t in fired], [before[t] for t in fired], color=colour, marker=marker, s=30, zorder=3
            )
    edges = [step - 0.5 for step in (*steps, len(worth) + 1)]
    axes.stairs(worth, edges, color="black", linewidth=1, linestyle="--", baseline=None)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel("time step")
    axes.set_ylabel("membrane potential (thresholds)")
    axes.set_title(f"{plain(trace.site)}: before a spike ▲, a negative one ▼", fontsize=10, loc="left")
    axes.legend(fontsize=8, title="neuron", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return axes


def _points(axes: Axes) -> tuple[float, float]:
    """Width and height of the axes, in points."""
    inches = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted())
    return 72 * inches.width, 72 * inches.height


def ladder(function: Function, lsb: float, timesteps: int, axes: Axes | None = None) -> Axes:
    """A function and what a ladder neuron says of it: its steps, and the thresholds at which they begin.

    Args:
        function: an activation kind of :mod:`snnconv.graph.functions`, or one's own.
        lsb: q, the value of the smallest spike.
        timesteps: T, bits.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: a function that does not state its extrema.

    Example:
        >>> from snnconv.graph.functions import SiLU
        >>> len(ladder(SiLU(), 0.5, 3).collections[0].get_segments())  # thresholds that an input can reach
        9
    """
    import torch

    from snnconv import dynamics

    steps = dynamics.ladder_thresholds(function, lsb, timesteps, function.signed, torch.float32, 1)
    reached = (steps.values * steps.direction.unsqueeze(-1)).flatten()
    reached = reached[reached.isfinite()]
    least, most = float(reached.min()), float(reached.max())
    room = 0.15 * (most - least) or 1.0
    z = torch.linspace(least - room, most + room, 2001)
    spikes, _ = dynamics.ladder_fire(z, lsb, timesteps, function, function.signed, 0)
    worth = lsb * 2.0 ** torch.arange(timesteps - 1, -1, -1).unsqueeze(1)
    axes = new_axes(axes)
    axes.vlines(reached.tolist(), 0, 0.06, "tab:red", transform=axes.get_xaxis_transform(), label="thresholds")
    axes.plot(z, function(z.double(), 0), color="0.6", label="the function")
    axes.step(z, (spikes * worth).sum(0), where="mid", color="tab:blue", label=f"sum of {timesteps} weighted spikes")
    axes.set_xlabel("accumulated input z")
    axes.set_ylabel("value")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return axes
