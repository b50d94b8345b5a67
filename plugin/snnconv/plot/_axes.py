"""Axes: new ones, their names and numbers, colours."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["colours_of", "name_axis", "new_axes", "plain", "step_axis"]

LONGEST = 40
"""Characters of a name that are drawn."""


def new_axes(axes: Axes | None) -> Axes:
    """The axes that were given, else those of a new figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if axes is not None:
        return axes
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "snnconv-plugin[plot]"') from error
    return Figure(layout="constrained").subplots()


def colours_of(count: int) -> list[tuple[float, ...]]:
    """Colours of so many lines."""
    from matplotlib import colormaps

    return [tuple(colormaps["tab10" if count <= 10 else "tab20"](i % 20)) for i in range(count)]


def plain(name: str) -> str:
    """A name as it is written: no mathematics between dollar signs, nothing unprintable, not longer than fits."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(name)[: 2 * LONGEST])
    shown = shown if len(shown) <= LONGEST else f"{shown[: LONGEST // 2]}…{shown[1 - LONGEST // 2 :]}"
    return shown.replace("$", r"\$")


def name_axis(axes: Axes, names: Sequence[str]) -> None:
    """Names of layers below the axis; of many, evenly picked ones that do not overlap."""
    every = max(1, math.ceil(len(names) / 60))
    places = range(0, len(names), every)
    labels = [plain(names[place]) for place in places]
    upright = sum(map(len, labels)) > 50
    axes.set_xticks(places, labels=labels, rotation=90 if upright else 0, fontsize=7 if upright else 9)


def step_axis(axes: Axes, steps: Collection[int]) -> None:
    """Numbers of steps on a logarithmic axis, labelled where labels do not overlap: powers of two before others."""
    every = sorted(set(steps))
    gap = 0.055 * max(1.0, math.log2(every[-1] / every[0]))
    labelled: list[int] = []
    for t in sorted(every, key=lambda t: (t & (t - 1) != 0, t)):
        if all(abs(math.log2(t / other)) >= gap for other in labelled):
            labelled.append(t)
    axes.set_xscale("log", base=2)
    axes.set_xticks(every, labels=[str(t) if t in labelled else "" for t in every])
    axes.minorticks_off()
