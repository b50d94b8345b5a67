"""Which classes a framework's neurons have, imported where they are asked for."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from torch import Tensor, nn

__all__ = ["FRAMEWORKS", "neuron", "neuron_class"]


class Framework(NamedTuple):
    """A framework that networks can be built for.

    Attributes:
        module: where its neuron classes are, given by ``node_class(name)``.
        options: arguments with which a converted network's neurons are made.
    """

    module: str
    options: dict[str, Any]


FRAMEWORKS = {
    "spikingjelly": Framework("snnconv.neurons.spikingjelly", {"step_mode": "m"}),
    "snntorch": Framework("snnconv.neurons.snntorch", {"init_hidden": True, "listed": False}),
}


def neuron_class(kind: str, framework: str) -> type[nn.Module]:
    """The class of a neuron, by its name (`snnconv.dynamics.neuron`), in a framework.

    Raises:
        ValueError: an unknown framework or neuron.
        ImportError: the framework is not installed.

    >>> neuron_class("signed_if", "spikingjelly").__name__
    'SignedIFNode'
    """
    if framework not in FRAMEWORKS:
        raise ValueError(f"framework must be one of {tuple(FRAMEWORKS)}, got {framework!r}")
    found: type[nn.Module] = importlib.import_module(FRAMEWORKS[framework].module).node_class(kind)
    return found


def neuron(kind: str, framework: str, threshold: Tensor, **options: Any) -> nn.Module:
    """A converted network's neuron: per-channel thresholds, ready for whole sequences.

    >>> import torch
    >>> neuron("if", "spikingjelly", torch.ones(3), channel_axis=1, scaled=True)
    ChannelIFNode(...)
    """
    return neuron_class(kind, framework)(threshold, **FRAMEWORKS[framework].options, **options)
