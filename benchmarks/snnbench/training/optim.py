"""Mixed precision without loss scaling, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from snnbench.registry import OPTIM_WRAPPERS
from snnconv.dynamics.kernels import processor

__all__ = ["AutocastOptimWrapper"]

DTYPES = ("auto", "bfloat16", "float32")


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """`OptimWrapper` whose forward passes run under ``torch.autocast``; mmengine's `AmpOptimWrapper` refuses CPUs.

    Args:
        dtype: ``"bfloat16"``, whose range needs no loss scaling; ``"float32"``, which switches it off; ``"auto"``:
            bfloat16 on a device that computes in it.

    Raises:
        ValueError: another dtype.

    >>> weights = [nn.Parameter(torch.zeros(1))]
    >>> AutocastOptimWrapper(dtype="bfloat16", optimizer=torch.optim.SGD(weights, lr=0.1)).dtype_on("cpu")
    torch.bfloat16
    """

    def __init__(self, dtype: str = "auto", **settings: Any) -> None:
        super().__init__(**settings)
        if dtype not in DTYPES:
            raise ValueError(f"dtype is one of {', '.join(DTYPES)} (float16 needs AmpOptimWrapper), got {dtype!r}")
        self.dtype = dtype
        self._seen: dict[str, torch.dtype] = {}

    def dtype_on(self, device: str) -> torch.dtype:
        """What forward passes on a device of this type compute in."""
        if device not in self._seen:
            wide = self.dtype == "float32" or (self.dtype == "auto" and not processor.native_bfloat16(device))
            self._seen[device] = torch.float32 if wide else torch.bfloat16
            print_log(f"training on {device} in {self._seen[device]}", logger="current")
        return self._seen[device]

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        dtype = self.dtype_on(device)
        with super().optim_context(model), torch.autocast(device, dtype, enabled=dtype != torch.float32):
            yield
