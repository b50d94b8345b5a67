"""Threshold statistics: what a threshold is of a site's activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from snnconv.tables import add

__all__ = ["STATISTICS", "Statistic", "register"]


@dataclass(frozen=True)
class Statistic:
    """Where thresholds come from, one a channel.

    Attributes:
        name: the word for it, in files and on the command line.
        of: ``of(seen, method)``, θ of each channel ``[C]``, in units of the activations.
            :class:`~snnconv.conversion.thresholds.Seen` has the histogram of the calibration data, and what the other
            statistics make of it; ``method`` says how many levels a neuron has.

    >>> from snnconv import methods
    >>> _ = register(Statistic("half", lambda seen, method: 0.5 * seen.largest()))
    >>> methods.IF(timesteps=8, thresholds="half").thresholds
    'half'
    >>> del STATISTICS["half"]
    """

    name: str
    of: Callable[[Any, Any], Tensor] = field(hash=False)


STATISTICS: dict[str, Statistic] = {}
"""Every known statistic by its name; percentiles, ``"99.9%"``, have their number for a name."""


def register(statistic: Statistic, *, replace: bool = False) -> Statistic:
    """Make a statistic known by its name; returns it.

    Args:
        replace: take the place of another one of this name.

    Raises:
        ValueError: the name is another one's.
    """
    return add(STATISTICS, statistic.name, statistic, "threshold statistic", replace=replace)


register(Statistic("mse", lambda seen, method: seen.least_error(method)))
register(Statistic("max", lambda seen, method: seen.largest()))
