"""Relative error of every site of a converted network against its source network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from snnconv.runtime.program import Program

if TYPE_CHECKING:
    from snnconv.network import SpikingNetwork

__all__ = ["site_errors"]


def site_errors(ann: Program, network: SpikingNetwork, batches: Sequence[Tensor]) -> dict[str, float]:
    """‖rate − activation‖ / ‖activation‖ of every site over ``batches``.

    The rate is the mean over the read-out steps (the sum in sum coding) of the site's outputs, when the spiking
    network feeds itself; the activation is the source network's.
    """
    square: dict[str, float] = {}
    norm: dict[str, float] = {}
    for batch in batches:
        wanted: dict[str, Tensor] = {}

        def record(site: str, z: Tensor, wanted: dict[str, Tensor] = wanted) -> Tensor:
            wanted[site] = ann.sites[site].activation(z)
            return wanted[site]

        ann.static(batch, record)
        for site, rate in network.rates(batch).items():
            difference = rate - wanted[site]
            square[site] = square.get(site, 0.0) + float((difference**2).sum())
            norm[site] = norm.get(site, 0.0) + float((wanted[site] ** 2).sum())
    return {site: (square[site] / norm[site]) ** 0.5 if norm[site] > 0 else 0.0 for site in square}
