"""The neurons of a converted network as exporters read them: what they hold, not what the method would give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snnconv.graph.source import ConversionError
from snnconv.network import SpikingNetwork

__all__ = ["neuron_settings", "to_be_plain"]


def neuron_settings(snn: SpikingNetwork) -> dict[str, Mapping[str, Any]]:
    """Arguments of :func:`snnconv.dynamics.scan` for the neurons of each site.

    Raises:
        ConversionError: a neuron that was put in by hand, by its site and class.

    >>> import torch, snnconv
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=4), torch.randn(16, 4), progress=False)
    >>> neuron_settings(snn)["1"]["neuron"], neuron_settings(snn)["1"]["start"]
    ('if', 'half')
    """
    found: dict[str, Mapping[str, Any]] = {}
    for name in snn.program.sites:
        node = snn.neurons[name]
        settings = snn.method.scan_arguments(node)
        if settings is None:
            raise ConversionError(
                f"{name}: {type(node).__name__} is not the neuron that {snn.method.name!r} puts there"
            )
        found[name] = settings
    return found


def to_be_plain(settings: Mapping[str, Any], with_methods: str) -> str:
    """What to do for integrate-and-fire neurons in place of others: at a function of its own no method has them.

    >>> to_be_plain({"neuron": "signed_if"}, "methods.IF")
    'convert with methods.IF'
    """
    function = settings.get("function")
    if function is None:
        return f"convert with {with_methods}"
    return (
        f"they follow {getattr(function, 'name', function)} there, for which no method has others: train with nn.ReLU"
    )
