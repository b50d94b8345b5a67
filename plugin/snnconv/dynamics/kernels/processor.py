"""What the processor can do: one function each, called where it decides, so that a test can pretend either answer."""

from __future__ import annotations

import torch

__all__ = ["FEATURES", "has_vnni", "native_bfloat16"]


def has_vnni() -> bool:
    """Whether products of bytes are summed in 32 bits (AVX-512 VNNI, AVX-VNNI); without it 8-bit sums overflow."""
    return bool(torch.cpu._is_vnni_supported())


def native_bfloat16(device: str = "cpu") -> bool:
    """Whether ``device`` (its type, such as ``"cpu"``) computes in bfloat16; where it does not, emulation is slower."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        if not hasattr(torch.cpu, "get_capabilities"):  # an older torch, which asks about this one alone
            return bool(torch.cpu._is_avx512_bf16_supported())
        return any(on and "bf16" in name for name, on in torch.cpu.get_capabilities().items())
    return False


FEATURES = {"vnni": "has_vnni", "bfloat16": "native_bfloat16"}
"""Feature → the function of this module that says whether it is there."""
