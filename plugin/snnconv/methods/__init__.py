"""The conversion methods: one frozen dataclass each.

A method says where thresholds come from, which neuron stands at each site, and how the output is read.
"""

from snnconv.methods.base import METHODS, Method, get, register
from snnconv.methods.integrate_fire import IF
from snnconv.methods.local_threshold_balancing import LocalThresholdBalancing
from snnconv.methods.multi_threshold import HierarchicalMultiThreshold, MultiThreshold
from snnconv.methods.rate_norm import RateNorm
from snnconv.methods.shifted_threshold import ShiftedThreshold
from snnconv.methods.signed_if import SignedIF
from snnconv.methods.srp import SRP

__all__ = [
    "IF",
    "METHODS",
    "SRP",
    "HierarchicalMultiThreshold",
    "LocalThresholdBalancing",
    "Method",
    "MultiThreshold",
    "RateNorm",
    "ShiftedThreshold",
    "SignedIF",
    "get",
    "register",
]
