"""ONNX files as PyTorch modules that a conversion takes.

Needs ``pip install "snnconv-plugin[onnx]"``.
"""

from snnconv.export.onnx_in.calls import register_onnx_operator
from snnconv.export.onnx_in.reader import from_onnx

__all__ = ["from_onnx", "register_onnx_operator"]
