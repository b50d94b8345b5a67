"""What conversion needs to know of a trained activation."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from snnconv.graph.source import Site

__all__ = ["TrainedActivation"]


class TrainedActivation(nn.Module):
    """Base of activations that carry their own threshold; tracing keeps them whole."""

    @abstractmethod
    def site(self, name: str) -> Site:
        """The activation site that stands for this module in a source graph."""
