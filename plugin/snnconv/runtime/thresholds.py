"""Thresholds of a converted network, as its neurons hold them."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from torch import Tensor

from snnconv.runtime.population import Population

__all__ = ["Thresholds"]


class Thresholds(MutableMapping[str, Tensor]):
    """θ of each site, scalar or per channel, in units of the source network's activations.

    A view: it reads the neurons, and an assignment sets them. What it gives is a copy.

    >>> import torch, snnconv
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=4), calibration=torch.randn(64, 4))
    >>> snn.thresholds["1"] = snn.thresholds["1"] * 2
    >>> bool((snn.neurons["1"].v_threshold == snn.thresholds["1"]).all())
    True
    """

    def __init__(self, population: Population) -> None:
        self._population = population

    def __getitem__(self, site: str) -> Tensor:
        return self._population.threshold(site)

    def __setitem__(self, site: str, theta: Tensor) -> None:
        self._population.set_threshold(site, theta)

    def __delitem__(self, site: str) -> None:
        raise TypeError("a site keeps its neurons, and with them its threshold")

    def __iter__(self) -> Iterator[str]:
        return iter(self._population.neurons)

    def __len__(self) -> int:
        return len(self._population.neurons)

    def __repr__(self) -> str:
        return repr(dict(self))
