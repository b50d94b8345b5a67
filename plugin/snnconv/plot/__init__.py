"""Plots of accuracy, layers, spikes and energy. Needs matplotlib: ``pip install "snnconv-plugin[plot]"``."""

from snnconv.plot.curves import accuracy, fit_curve
from snnconv.plot.layers import energy, layer_energy, layer_error, thresholds, unevenness
from snnconv.plot.neurons import ladder, membrane, raster

__all__ = [
    "accuracy", "energy", "fit_curve", "ladder", "layer_energy", "layer_error", "membrane", "raster", "thresholds",
    "unevenness",
]  # fmt: skip
