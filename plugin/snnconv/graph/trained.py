"""What conversion and training need to know of a trained activation."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Self

from torch import Tensor, nn

from snnconv.graph.activation import Activation, ReLU
from snnconv.graph.source import Site

__all__ = ["TrainedActivation"]


class TrainedActivation(nn.Module):
    """Base of activations that carry their own threshold; capture keeps them whole.

    Attributes:
        cap: upper clip of the activation that this one stands for (6 for ReLU6), or ``None``.
        per_channel: whether :func:`snnconv.prepare` gives it one threshold per channel.
    """

    cap: float | None = None
    per_channel: bool = False

    @abstractmethod
    def site(self, name: str) -> Site:
        """The activation site that stands for this module in a source graph."""

    def plain(self) -> Activation:
        """The activation that this one stands for, without its threshold."""
        return ReLU(self.cap)

    @abstractmethod
    def start_at(self, theta: Tensor) -> None:
        """Begin training from the threshold ``theta``, a scalar or one value per channel."""

    def placed(self, site: Site, channels: int | None, first: Self | None) -> Self:
        """A copy for one site of a network.

        Args:
            site: where it will stand.
            channels: number of channels there, for thresholds per channel.
            first: the copy at the network's first site, with which a parameter may be shared.
        """
        twin = copy.deepcopy(self)
        twin.cap = site.cap
        return twin
