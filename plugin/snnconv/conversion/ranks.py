"""Statistics over the ranks of a torch.distributed job: each rank holds a share of the calibration data."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Ranks"]

T = TypeVar("T", bound=Sized)
V = TypeVar("V")


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

    def mean(self, value: Tensor, weight: float = 1.0) -> Tensor:
        """Mean over the ranks, each with the weight that `aligned` gives; these are 1 on the whole."""
        return self.total(value * weight) / self.size if self.size > 1 else value

    def aligned(self, parts: Sequence[T]) -> list[tuple[T, float]]:
        """Parts of this rank's share with their weights in a mean, as many on every rank.

        Shares need not be of one size: a part counts by the samples in it, and a rank that has fewer parts takes its
        first ones again, which then count nothing.

        >>> Ranks(False).aligned(["abc", "d"])
        [('abc', 1.0), ('d', 1.0)]
        """
        if self.size == 1:
            return [(part, 1.0) for part in parts]
        most = int(self.largest(torch.tensor(len(parts))))
        own = torch.tensor([len(part) for part in parts] + [0] * (most - len(parts)), dtype=torch.float64)
        weights = (own * self.size / self.total(own.clone())).tolist()  # exactly 1 where all are of one size
        return [(parts[k % len(parts)], weight) for k, weight in enumerate(weights)]

    def agreed(self, value: V) -> V:
        """What the first rank says, on every rank."""
        if self.size == 1:
            return value
        said = [value]
        torch.distributed.broadcast_object_list(said)
        return said[0]

    def _reduce(self, value: Tensor, operation: torch.distributed.ReduceOp.RedOpType) -> Tensor:
        if self.size > 1:
            value = value.contiguous()
            torch.distributed.all_reduce(value, operation)
        return value
