"""Two classifiers on the same inputs: whether one is right more often beyond chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["McNemar", "mcnemar"]


@dataclass(frozen=True)
class McNemar:
    """McNemar's test: inputs that both answer alike say nothing, the others are a coin that should be fair.

    Attributes:
        samples: inputs.
        only_first, only_second: inputs that this one alone answers right.
        p_value: how likely a fair coin is at least as uneven as that.
    """

    samples: int
    only_first: int
    only_second: int
    p_value: float

    @property
    def difference(self) -> float:
        """Accuracy of the first minus that of the second, in percent."""
        return 100 * (self.only_first - self.only_second) / self.samples

    def __str__(self) -> str:
        return (
            f"{self.difference:+.2f} points on {self.samples:,} inputs; right alone: {self.only_first} and "
            f"{self.only_second}; p = {self.p_value:.3g} (McNemar, exact)"
        )


def mcnemar(first: Tensor | Sequence[Any], second: Tensor | Sequence[Any]) -> McNemar:
    """Whether two classifiers differ on the same inputs (McNemar, Psychometrika 12, 1947; the exact test).

    Of the n = b + c inputs that one alone answers right, b are the first's. Were both equally good, b would be of a
    binomial distribution of n with 1/2: p = 2·P(X ≤ min(b, c)), at most 1.

    Args:
        first, second: whether each input was answered right, ``[N]``, in the same order.

    Raises:
        ValueError: not one truth value an input, or as many of one as of the other.

    >>> right, other = torch.tensor([1, 1, 1, 1, 1, 1, 0]).bool(), torch.tensor([0, 0, 0, 0, 0, 1, 0]).bool()
    >>> print(mcnemar(right, other))
    +71.43 points on 7 inputs; right alone: 5 and 0; p = 0.0625 (McNemar, exact)
    """
    a, b = (torch.as_tensor(values) for values in (first, second))
    for name, values in (("first", a), ("second", b)):
        if values.dim() != 1 or not len(values) or not bool(((values == 0) | (values == 1)).all()):
            raise ValueError(
                f"{name}: McNemar's test takes one truth value an input, [N], got {values.dtype} of shape "
                f"{tuple(values.shape)}; give predictions == labels"
            )
    if len(a) != len(b):
        raise ValueError(f"first has {len(a)} inputs and second {len(b)}: both are to be tested on the same ones")
    a, b = a.bool(), b.bool()
    alone = int((a & ~b).sum()), int((b & ~a).sum())
    return McNemar(len(a), *alone, _two_sided(*alone))


def _two_sided(b: int, c: int) -> float:
    """2·P(X ≤ min(b, c)) of a binomial distribution of b + c with 1/2, at most 1."""
    n = b + c
    k = torch.arange(min(b, c) + 1, dtype=torch.float64)
    logs = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1) - n * math.log(2)
    return min(1.0, 2 * float(logs.exp().sum()))
