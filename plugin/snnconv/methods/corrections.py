"""Corrections: what follows the thresholds, on the calibration inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from snnconv.tables import add, named

__all__ = ["CORRECTIONS", "Correction", "get", "register"]


@dataclass(frozen=True)
class Correction:
    """One way to take away what thresholds leave of the error.

    Attributes:
        name: the word for it, in files and on the command line.
        run: adjusts the network that is being converted, of which it is given the state
            (:class:`snnconv.conversion.convert.Conversion`): the source network ``ann``, the one that is to spike
            ``snn``, ``thresholds`` by site and ``batches`` of inputs. None: nothing is done.
        fits_quantiser: it fits the quantiser of even levels that a neuron is, its threshold included; so trained
            thresholds do not go with it, nor neurons that are no such quantiser.

    >>> from snnconv import methods
    >>> mine = register(Correction("softer", lambda work: work.thresholds.update(
    ...     {site: 0.9 * theta for site, theta in work.thresholds.items()})))
    >>> methods.IF(timesteps=8, correction="softer").correction
    'softer'
    >>> del CORRECTIONS["softer"]
    """

    name: str
    run: Callable[[Any], None] | None = field(hash=False)
    fits_quantiser: bool = False


CORRECTIONS: dict[str, Correction] = {}
"""Every known correction by its name."""


def register(correction: Correction, *, replace: bool = False) -> Correction:
    """Make a correction known by its name; returns it.

    Args:
        replace: take the place of another one of this name.

    Raises:
        ValueError: the name is another one's.
    """
    return add(CORRECTIONS, correction.name, correction, "correction", replace=replace)


def get(name: str) -> Correction:
    """The correction of this name.

    Raises:
        ValueError: there is none; the message lists those that are.

    >>> get("bias").fits_quantiser
    False
    """
    return named(
        CORRECTIONS, name, "correction",
        "one of your own is known once the module that registers it has been imported",
    )  # fmt: skip


register(Correction("none", None))
register(Correction("bias", lambda work: work.correct_biases()))
register(Correction("reconstruct", lambda work: work.reconstruct(), fits_quantiser=True))
