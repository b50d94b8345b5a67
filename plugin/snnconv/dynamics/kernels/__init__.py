"""Whole-sequence scans of the neuron equations, with a kernel for each neuron and backend, or the equation itself."""

from .backends import BACKENDS, Backend, check_backend, register_backend, register_kernel
from .dispatch import add_spikes_, resume, scan, shifted_threshold_total, srp_phase, total, two_phases
from .job import Job

__all__ = [
    "BACKENDS", "Backend", "Job", "add_spikes_", "check_backend", "register_backend", "register_kernel", "resume",
    "scan", "shifted_threshold_total", "srp_phase", "total", "two_phases",
]  # fmt: skip
