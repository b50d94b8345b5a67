"""Whole-sequence scans of the neuron equations: `scan`, with an eager and a numba backend."""

from .backends import BACKENDS
from .dispatch import NEURONS, add_spikes_, resume, scan, shifted_threshold_total, srp_phase

__all__ = ["BACKENDS", "NEURONS", "add_spikes_", "resume", "scan", "shifted_threshold_total", "srp_phase"]
