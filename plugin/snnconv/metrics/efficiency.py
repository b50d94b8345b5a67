"""Operations until most of the accuracy is reached, and inferences for a joule, as papers on conversion report them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from snnconv.metrics.costs.operations import FLOP_JOULES, SOP_JOULES

__all__ = ["FLOP_JOULES", "SOP_JOULES", "frames_per_watt", "operations_until"]


def operations_until(curve: Mapping[float, float], ann: float, part: float = 0.9) -> float | None:
    """Operations an inference at which the accuracy reaches a part of the source network's (SOP90, SOP95).

    Between two measurements the accuracy is a straight line over the operations; the first crossing counts.

    Args:
        curve: operations of an inference → accuracy there, one entry a number of steps.
        ann: accuracy of the source network.
        part: of it, above 0 and at most 1.

    Returns:
        The operations, those of the first measurement where it is reached there already; ``None`` where it never is.

    Raises:
        ValueError: an empty curve, operations below 0, a ``part`` or ``ann`` out of range.

    >>> operations_until({1e6: 40.0, 2e6: 80.0, 4e6: 88.0}, ann=90.0, part=0.9)
    2250000.0
    """
    if not curve or min(curve) < 0:
        raise ValueError("the curve needs at least one measurement, with operations of 0 or more")
    if not 0 < part <= 1 or not ann > 0:
        raise ValueError(f"part must be in (0, 1] and ann above 0, got {part} and {ann}")
    goal = part * ann
    points = sorted(curve.items())
    if points[0][1] >= goal:
        return float(points[0][0])
    for (before, low), (after, high) in itertools.pairwise(points):
        if high >= goal:
            return before + (after - before) * (goal - low) / (high - low)
    return None


def frames_per_watt(operations: float, joules: float = SOP_JOULES) -> float:
    """Inferences a second for each watt, which are inferences for each joule: 1 / (operations · joules).

    Args:
        operations: of one inference: SOPs of the spiking network, FLOPs of the source network.
        joules: of one operation, `SOP_JOULES` or `FLOP_JOULES`.

    Raises:
        ValueError: operations or joules that are not above 0.

    >>> round(frames_per_watt(1e9))
    12987
    """
    if not operations > 0 or not joules > 0:
        raise ValueError(f"operations and joules must be above 0, got {operations} and {joules}")
    return 1 / (operations * joules)
