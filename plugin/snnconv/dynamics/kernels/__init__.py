"""Whole-sequence scans of the neuron equations: `scan`, with an eager and a numba backend."""

from .dispatch import NEURONS, scan, srp_phase

__all__ = ["NEURONS", "scan", "srp_phase"]
