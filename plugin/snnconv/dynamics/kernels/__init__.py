"""Whole-sequence scans of the neuron equations: `scan`, with an eager and a numba backend."""

from .backends import BACKENDS
from .dispatch import NEURONS, resume, scan, shifted_threshold_total, srp_phase

__all__ = ["BACKENDS", "NEURONS", "resume", "scan", "shifted_threshold_total", "srp_phase"]
