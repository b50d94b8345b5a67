"""Statistics over the ranks of a torch.distributed job: each rank holds a share of the calibration data."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Ranks"]


class Ranks:
    """Reductions over all ranks, or over this process alone.

    Args:
        distributed: reduce over the default process group.

    Raises:
        RuntimeError: ``distributed`` without an initialised process group.

    >>> Ranks(False).total(torch.ones(2))
    tensor([1., 1.])
    """

    def __init__(self, distributed: bool = False) -> None:
        if distributed and not torch.distributed.is_initialized():
            raise RuntimeError(
                "distributed=True needs torch.distributed: start with torchrun and call init_process_group first"
            )
        self.size = torch.distributed.get_world_size() if distributed else 1

    def total(self, value: Tensor) -> Tensor:
        """Sum over the ranks."""
        return self._reduce(value, torch.distributed.ReduceOp.SUM)

    def largest(self, value: Tensor) -> Tensor:
        """Maximum over the ranks."""
        return self._reduce(value, torch.distributed.ReduceOp.MAX)

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the ranks, whose shares are of one size."""
        return self.total(value) / self.size if self.size > 1 else value

    def _reduce(self, value: Tensor, operation: torch.distributed.ReduceOp.RedOpType) -> Tensor:
        if self.size > 1:
            value = value.contiguous()
            torch.distributed.all_reduce(value, operation)
        return value
