"""Thresholds of a converted network, as its neurons hold them."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from snnconv.network import SpikingNetwork

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

    def __init__(self, network: SpikingNetwork) -> None:
        self._network = network

    def __getitem__(self, site: str) -> Tensor:
        if site not in self._network.neurons:
            raise KeyError(site)
        return self._network.method.threshold(self._network.neurons[site]).detach().clone()

    def __setitem__(self, site: str, theta: Tensor) -> None:
        """Give the neurons of a site other thresholds.

        Raises:
            KeyError: no such site.
            ValueError: thresholds that are not positive and finite.
        """
        network, before = self._network, self[site]
        place = network.program.sites[site]
        node = network.method.node(theta.to(before), place.axis, place.function, network.framework)
        network.neurons[site].v_threshold = node.v_threshold

    def __delitem__(self, site: str) -> None:
        raise TypeError("a site keeps its neurons, and with them its threshold")

    def __iter__(self) -> Iterator[str]:
        return iter(self._network.neurons)

    def __len__(self) -> int:
        return len(self._network.neurons)

    def __repr__(self) -> str:
        return repr(dict(self))
