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
    # the flag that torch.compiler.is_exporting() returns, which torch 2.11's torch.compile takes for true always
    return torch.compiler.is_dynamo_compiling() and bool(getattr(torch.compiler, "_is_exporting_flag", False))


def traced() -> bool:
    """Whether TorchScript records what runs.

    >>> traced()
    False
    """
    return bool(torch.jit.is_tracing())
