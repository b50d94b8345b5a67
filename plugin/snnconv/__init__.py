"""snnconv: convert a trained PyTorch network into a spiking one.

>>> import torch, snnconv
>>> from snnconv import methods
>>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
>>> snn = snnconv.convert(model, methods.SignedIF(timesteps=8), calibration=torch.randn(64, 4))
>>> snn(torch.randn(3, 4)).shape
torch.Size([3, 2])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from snnconv import _moved
from snnconv._version import __version__

if TYPE_CHECKING:
    from snnconv import activations, methods, training
    from snnconv.conversion.checks import ConversionWarning
    from snnconv.conversion.convert import convert
    from snnconv.conversion.statistics import Calibration, calibrate
    from snnconv.export.fitting import fits
    from snnconv.export.integers import integer_weights
    from snnconv.export.nir import from_nir, to_nir
    from snnconv.export.onnx import to_onnx
    from snnconv.export.onnx_in import from_onnx
    from snnconv.export.sinabs import to_sinabs
    from snnconv.export.stepwise import stepwise
    from snnconv.export.twin import quantised_twin
    from snnconv.graph.source import ConversionError
    from snnconv.integrations.register import register
    from snnconv.metrics import audit, compare, evaluate, profile
    from snnconv.metrics.saturating import saturation
    from snnconv.network import SpikingNetwork
    from snnconv.page import write_page
    from snnconv.report import ConversionReport
    from snnconv.selection import recommend
    from snnconv.storage.network_file import load, save
    from snnconv.training.finetune import finetune_layerwise
    from snnconv.training.prepare import prepare
    from snnconv.training.rate_scale import train_rate_scale
    from snnconv.training.trainable import trainable

__all__ = [
    "Calibration",
    "ConversionError",
    "ConversionReport",
    "ConversionWarning",
    "SpikingNetwork",
    "__version__",
    "activations",
    "audit",
    "calibrate",
    "compare",
    "convert",
    "evaluate",
    "finetune_layerwise",
    "fits",
    "from_nir",
    "from_onnx",
    "integer_weights",
    "load",
    "methods",
    "prepare",
    "profile",
    "quantised_twin",
    "recommend",
    "register",
    "saturation",
    "save",
    "stepwise",
    "to_nir",
    "to_onnx",
    "to_sinabs",
    "train_rate_scale",
    "trainable",
    "training",
    "write_page",
]

_LATER = {
    "Calibration": "snnconv.conversion.statistics",
    "ConversionError": "snnconv.graph.source",
    "ConversionReport": "snnconv.report",
    "ConversionWarning": "snnconv.conversion.checks",
    "SpikingNetwork": "snnconv.network",
    "audit": "snnconv.metrics",
    "calibrate": "snnconv.conversion.statistics",
    "compare": "snnconv.metrics",
    "convert": "snnconv.conversion.convert",
    "evaluate": "snnconv.metrics",
    "finetune_layerwise": "snnconv.training.finetune",
    "fits": "snnconv.export.fitting",
    "from_nir": "snnconv.export.nir",
    "from_onnx": "snnconv.export.onnx_in",
    "integer_weights": "snnconv.export.integers",
    "load": "snnconv.storage.network_file",
    "prepare": "snnconv.training.prepare",
    "profile": "snnconv.metrics",
    "quantised_twin": "snnconv.export.twin",
    "recommend": "snnconv.selection",
    "register": "snnconv.integrations.register",
    "saturation": "snnconv.metrics",
    "save": "snnconv.storage.network_file",
    "stepwise": "snnconv.export.stepwise",
    "to_nir": "snnconv.export.nir",
    "to_onnx": "snnconv.export.onnx",
    "to_sinabs": "snnconv.export.sinabs",
    "train_rate_scale": "snnconv.training.rate_scale",
    "trainable": "snnconv.training.trainable",
    "write_page": "snnconv.page",
}

_PACKAGES = ("activations", "methods", "training")

_moved.install()


def __getattr__(name: str) -> object:
    # imported where used, torch among it: `snnconv --help` needs none of it
    if name in _LATER:
        found = globals()[name] = getattr(import_module(_LATER[name]), name)
        return found
    if name in _PACKAGES:
        return import_module(f"snnconv.{name}")
    raise AttributeError(f"module 'snnconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
