"""Neuron equations as pure functions: ``(input, state, params) -> (spikes, state)``.

Every framework adapter, kernel and test refers to these. Spikes are unit spikes; an output of layer l is
``theta * s``. Sequences have a leading time axis ``[T, B, ...]``; a threshold is a float or a tensor that
broadcasts against one step ``[B, ...]``.
"""

from .function import Function, StandIn, Work, evaluate
from .function_if import FunctionIFState, function_if_fire, function_if_initial, function_if_multistep, function_if_step
from .integrate_fire import IFState, if_initial, if_multistep, if_step
from .kernels import (
    BACKENDS,
    add_spikes_,
    check_backend,
    resume,
    scan,
    shifted_threshold_total,
    srp_phase,
    total,
    two_phases,
)
from .ladder import LadderState, ladder_fire, ladder_initial, ladder_multistep, ladder_step
from .ladder_thresholds import Ladder, ladder_thresholds
from .multi_threshold import (
    MultiThresholdState,
    hierarchical_multi_threshold_step,
    multi_threshold_initial,
    multi_threshold_step,
)
from .neuron import NEURONS, Neuron, Option, PrePhase
from .placing import at_function
from .pooling import accumulated_max_pool, running_sum
from .shifted import (
    ShiftedThresholdState,
    shifted_threshold_amplitudes,
    shifted_threshold_bit,
    shifted_threshold_fire,
    shifted_threshold_initial,
    shifted_threshold_integrate,
    shifted_threshold_multistep,
    shifted_threshold_step,
)
from .signed import SignedIFState, signed_if_initial, signed_if_multistep, signed_if_step
from .srp import SRPState, srp_initial, srp_multistep, srp_step
from .threshold import Surrogate, broadcast_channels, check_threshold, membrane_dtype, per_channel

__all__ = [
    "BACKENDS",
    "NEURONS",
    "Function",
    "FunctionIFState",
    "IFState",
    "Ladder",
    "LadderState",
    "MultiThresholdState",
    "Neuron",
    "Option",
    "PrePhase",
    "SRPState",
    "ShiftedThresholdState",
    "SignedIFState",
    "StandIn",
    "Surrogate",
    "Work",
    "accumulated_max_pool",
    "add_spikes_",
    "at_function",
    "broadcast_channels",
    "check_backend",
    "check_threshold",
    "evaluate",
    "function_if_fire",
    "function_if_initial",
    "function_if_multistep",
    "function_if_step",
    "hierarchical_multi_threshold_step",
    "if_initial",
    "if_multistep",
    "if_step",
    "ladder_fire",
    "ladder_initial",
    "ladder_multistep",
    "ladder_step",
    "ladder_thresholds",
    "membrane_dtype",
    "multi_threshold_initial",
    "multi_threshold_step",
    "per_channel",
    "resume",
    "running_sum",
    "scan",
    "shifted_threshold_amplitudes",
    "shifted_threshold_bit",
    "shifted_threshold_fire",
    "shifted_threshold_initial",
    "shifted_threshold_integrate",
    "shifted_threshold_multistep",
    "shifted_threshold_step",
    "shifted_threshold_total",
    "signed_if_initial",
    "signed_if_multistep",
    "signed_if_step",
    "srp_initial",
    "srp_multistep",
    "srp_phase",
    "srp_step",
    "total",
    "two_phases",
]
