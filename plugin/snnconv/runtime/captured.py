"""Whether a network is being captured: by ``torch.export``, ONNX, TorchScript or ``torch.compile``."""

from __future__ import annotations

import torch

__all__ = ["captured", "strictly_exported", "traced"]


def captured() -> bool:
    """Whether operators are recorded, not only run, so that all must be PyTorch's own.

    >>> captured()
    False
    """
    return torch.compiler.is_compiling() or traced()


def strictly_exported() -> bool:
    """Whether ``torch.export`` reads the code itself (``strict=True``); an older torch cannot tell.

    >>> strictly_exported()
    False
    """
    exports = getattr(torch.compiler, "is_exporting", None)
    return exports is not None and torch.compiler.is_dynamo_compiling() and bool(exports())


def traced() -> bool:
    """Whether TorchScript records what runs.

    >>> traced()
    False
    """
    return bool(torch.jit.is_tracing())
