"""Whether a network is being captured: by ``torch.export``, ONNX, TorchScript or ``torch.compile``."""

from __future__ import annotations

import torch

__all__ = ["captured", "traced"]


def captured() -> bool:
    """Whether operators are recorded, not only run, so that all must be PyTorch's own.

    >>> captured()
    False
    """
    return torch.compiler.is_compiling() or traced()


def traced() -> bool:
    """Whether TorchScript records what runs.

    >>> traced()
    False
    """
    return bool(torch.jit.is_tracing())
