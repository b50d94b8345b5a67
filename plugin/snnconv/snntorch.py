"""For snnTorch: neurons, a converter, and their names inside ``snntorch``.

>>> import torch, snnconv, snnconv.snntorch
>>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
>>> method = snnconv.methods.SignedIF(timesteps=8)
>>> snn = snnconv.snntorch.convert(model, method, calibration=torch.randn(64, 4))
>>> type(snn.neurons["1"]).__name__
'SignedIF'
"""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

from snnconv.conversion.convert import convert as _convert
from snnconv.integrations.register import SNNTORCH, add
from snnconv.methods import Method
from snnconv.network import SpikingNetwork
from snnconv.neurons.snntorch import (
    IF,
    SRPIF,
    FunctionIF,
    HierarchicalMultiThreshold,
    Ladder,
    MultiThreshold,
    ShiftedThresholdIF,
    SignedIF,
    SoftResetNeuron,
)

__all__ = [
    "IF",
    "SRPIF",
    "FunctionIF",
    "HierarchicalMultiThreshold",
    "Ladder",
    "MultiThreshold",
    "ShiftedThresholdIF",
    "SignedIF",
    "SoftResetNeuron",
    "convert",
    "register",
]  # fmt: skip


@functools.wraps(_convert, assigned=("__doc__",))
def convert(model: nn.Module, method: Method, calibration: Any = None, **options: Any) -> SpikingNetwork:
    """`snnconv.convert` with ``framework="snntorch"``."""
    return _convert(model, method, calibration, **{**options, "framework": "snntorch"})


def register() -> None:
    """Add the neurons and `convert` to the ``snntorch`` namespace; calling it again changes nothing.

    A name that snnTorch already uses for something else keeps its meaning, and a warning names it.

    Example:
        >>> import snntorch
        >>> register()
        >>> snntorch.SignedIF(init_hidden=True)
        SignedIF(...)
    """
    add(SNNTORCH)
