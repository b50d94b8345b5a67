"""snnconv: convert a trained PyTorch network into a spiking one.

>>> import torch, snnconv
>>> from snnconv import methods
>>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
>>> snn = snnconv.convert(model, methods.SignedIF(timesteps=8), calibration=torch.randn(64, 4))
>>> snn(torch.randn(3, 4)).shape
torch.Size([3, 2])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnconv import activations, methods
from snnconv.conversion.checks import ConversionWarning
from snnconv.convert import convert
from snnconv.graph.source import ConversionError
from snnconv.network import SpikingNetwork
from snnconv.neurons import register
from snnconv.prepare import prepare
from snnconv.report import ConversionReport

if TYPE_CHECKING:
    from snnconv.finetune import finetune_layerwise
    from snnconv.io import load, save
    from snnconv.metrics import audit, compare, profile
    from snnconv.nir import from_nir, to_nir
    from snnconv.rate_scale import train_rate_scale
    from snnconv.selection import recommend

__version__ = "0.1.0"

__all__ = [
    "ConversionError",
    "ConversionReport",
    "ConversionWarning",
    "SpikingNetwork",
    "activations",
    "audit",
    "compare",
    "convert",
    "finetune_layerwise",
    "from_nir",
    "load",
    "methods",
    "prepare",
    "profile",
    "recommend",
    "register",
    "save",
    "to_nir",
    "train_rate_scale",
]

_LATER = {
    "audit": "metrics",
    "compare": "metrics",
    "finetune_layerwise": "finetune",
    "from_nir": "nir",
    "load": "io",
    "profile": "metrics",
    "recommend": "selection",
    "save": "io",
    "to_nir": "nir",
    "train_rate_scale": "rate_scale",
}


def __getattr__(name: str) -> Any:
    # imported where used: they pull in packages that a conversion does not need
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"snnconv.{_LATER[name]}"), name)
    raise AttributeError(f"module 'snnconv' has no attribute {name!r}")
