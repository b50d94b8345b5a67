"""How sure a figure is: sampling error, spread over seeds, and whether two entries can be told apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from snnconv.metrics import mcnemar

__all__ = ["ACCURACIES", "Z95", "Estimate", "comparable", "differ", "estimate", "rank_range"]

ACCURACIES = ("top1", "top5")
"""Metrics that are percentages of inputs: each input is right or wrong."""
Z95 = 1.959964
"""97.5 % quantile of the normal distribution."""
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % quantiles of Student's t for 1 … 30 degrees of freedom."""


@dataclass(frozen=True)
class Estimate:
    """A metric with what is known of its error.

    Attributes:
        value: the metric; with several seeds, their mean.
        samples: inputs measured, for each seed.
        seeds: number of seeds.
        std: standard deviation over the seeds (n − 1 in the denominator); ``None`` for one seed.
        sampling: standard error from the finite test set, in the metric's unit; ``None`` where the result file does
            not allow to compute it.
        accuracy: whether the metric is a percentage of inputs.
        right: whether each input was answered right, ``[N]``, of one seed; ``None`` where the answers are not kept.
    """

    value: float
    samples: int
    seeds: int = 1
    std: float | None = None
    sampling: float | None = None
    accuracy: bool = False
    right: Any = field(default=None, compare=False, repr=False)


def estimate(
    values: Sequence[float],
    samples: int,
    metric: str,
    others: Sequence[Mapping[str, float | None]] = (),
    errors: Sequence[float | None] = (),
    right: Any = None,
) -> Estimate:
    """The metric of one point, from one value a seed.

    An accuracy of p percent on N inputs has the binomial standard error √(p(100 − p)/N). For a mean over samples, such
    as the return of an episode, the file may give the samples' standard deviation σ as ``<metric>_std``; the standard
    error is then σ/√N. For any other metric (mIoU, AP) it is the file's own, by bootstrap, or none.

    Args:
        values: one a seed.
        samples: inputs measured.
        metric: its name.
        others: all metrics of each seed, for ``<metric>_std``.
        errors: standard error in the file of each seed.
        right: whether each input was answered right, where one seed was measured.

    >>> round(estimate([88.0], 10_000, "top1").sampling, 3)
    0.325
    >>> estimate([88.0], 100, "mIoU").sampling is None
    True
    """
    mean = statistics.fmean(values)
    std = statistics.stdev(values) if len(values) > 1 else None
    accuracy = metric in ACCURACIES
    spreads = [spread for other in others if (spread := other.get(f"{metric}_std")) is not None]
    sampling = None
    if accuracy:
        share = min(max(mean / 100, 0.0), 1.0)
        sampling = 100 * math.sqrt(share * (1 - share) / samples)
    elif spreads and len(spreads) == len(values):
        sampling = math.sqrt(statistics.fmean([s * s for s in spreads]) / samples)
    elif len(errors) == len(values) and None not in errors:
        sampling = math.sqrt(statistics.fmean([e * e for e in errors if e is not None]))
    return Estimate(mean, samples, len(values), std, sampling, accuracy, right)


def differ(a: Estimate, b: Estimate) -> bool | None:
    """Whether two values differ at the 95 % level; ``None`` where the files say nothing on their error.

    Two accuracies whose single answers are known, of one network on the same inputs, are compared by McNemar's exact
    test. Others are compared as independent samples with Agresti and Caffo's interval (The American Statistician 54,
    2000: one right and one wrong answer are added to each), widened by the seeds' std²/n. Both were measured on the
    same inputs, which usually makes the true error of the difference smaller: "cannot be told apart" is the cautious
    answer. Any other metric needs a standard error on both sides, or seeds on both sides (Welch's t-test).

    >>> differ(estimate([88.3], 10_000, "top1"), estimate([88.1], 10_000, "top1"))
    False
    >>> differ(estimate([88.3], 10_000, "top1"), estimate([85.0], 10_000, "top1"))
    True
    """
    if not comparable(a, b):
        return None
    gap = abs(a.value - b.value)
    if a.right is not None and b.right is not None and len(a.right) == len(b.right):
        return mcnemar(a.right, b.right).p_value < 0.05
    if a.accuracy and b.accuracy:
        (p, v), (q, w) = _share(a), _share(b)
        return abs(p - q) > Z95 * math.sqrt(v + w)
    seeds = _seeds(a) + _seeds(b)
    if a.sampling is not None and b.sampling is not None:
        return gap > Z95 * math.sqrt(a.sampling**2 + b.sampling**2 + seeds)
    if not seeds:
        return gap > 0
    freedom = seeds**2 / (_seeds(a) ** 2 / (a.seeds - 1) + _seeds(b) ** 2 / (b.seeds - 1))
    quantile = _T95[max(int(freedom), 1) - 1] if freedom < 31 else Z95
    return gap > quantile * math.sqrt(seeds)


def comparable(a: Estimate, b: Estimate) -> bool:
    """Whether the files say enough on the error of both."""
    return (
        (a.accuracy and b.accuracy)
        or (a.sampling is not None and b.sampling is not None)
        or (a.std is not None and b.std is not None)
    )


def _seeds(e: Estimate) -> float:
    """Variance of the mean over the seeds."""
    return 0.0 if e.std is None else e.std**2 / e.seeds


def _share(e: Estimate) -> tuple[float, float]:
    """Share of right answers with one of each kind added, and its variance."""
    n = e.samples + 2
    share = (e.value / 100 * e.samples + 1) / n
    return share, share * (1 - share) / n + _seeds(e) / 1e4


def rank_range(own: Estimate, others: Sequence[Estimate], higher_is_better: bool = True) -> tuple[int, int]:
    """Best and worst rank that ``own`` may have among itself and ``others``.

    The best counts the entries that are better beyond the error, the worst leaves out those that are worse beyond it.
    Where nothing is known of the error, the values' order alone decides.

    >>> close = [estimate([v], 10_000, "top1") for v in (88.2, 88.1, 60.0)]
    >>> rank_range(estimate([88.3], 10_000, "top1"), close)
    (1, 3)
    """
    better = worse = 0
    sign = 1 if higher_is_better else -1
    for other in others:
        gap = sign * (other.value - own.value)
        if gap == 0 or differ(own, other) is False:
            continue
        better += gap > 0
        worse += gap < 0
    return 1 + better, 1 + len(others) - worse
