"""A converted network as a sinabs network, whose neurons are those of SynSense's chips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snnconv.export.chain import Flatten, Layer, Neurons, SumPool, Worth, links
from snnconv.export.integers import integer_weights
from snnconv.graph.source import ConversionError, SourceGraph, unique_name
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["to_sinabs"]


def to_sinabs(snn: SpikingNetwork, timesteps: int | None = None, *, weight_bits: int | None = None) -> nn.Sequential:
    """A chain of layers, integrate-and-fire neurons and sum poolings in sinabs' classes, for its simulator and chips.

    Neurons are ``IAFSqueeze`` with the soft reset, one spike a step and one threshold a layer; they start at θ/2 as the
    network's do. What a spike is worth, and the division of an average pooling, are in the weights that read it. Input
    is ``[B·T, ...]``, the T steps of a sample one behind the other: ``x.repeat_interleave(T, 0)`` for a constant one.
    The output is the last layer's currents of every step; their mean over the steps, behind ``snn.delay``, is the
    network's answer. A network that ends in neurons gives their spikes, times what one is worth; with ``weight_bits``
    the spikes themselves.

    Args:
        snn: a network of ``methods.IF`` with ``per_channel=False`` that runs as a graph, layer behind layer.
        timesteps: T of a call of the result; the network's by default.
        weight_bits: whole-number weights of so many bits, as a chip holds them: the network that is written
            is ``snnconv.integer_weights(snn, weight_bits)``, which our own executor runs spike for spike alike.

    Returns:
        ``nn.Sequential`` whose children have the names of the layers and sites.

    Raises:
        ImportError: sinabs is not installed.
        ValueError: T below 1.
        ConversionError: another neuron, several thresholds a layer, an operator or a shortcut that a chain has no place
            for; names it.

    Example:
        >>> import snnconv
        >>> model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3))
        >>> method = snnconv.methods.IF(timesteps=8, per_channel=False)
        >>> snn = snnconv.convert(model, method, torch.rand(16, 2, 8, 8))
        >>> [type(m).__name__ for m in snnconv.to_sinabs(snn)]
        ['Conv2d', 'Population', 'SumPool2d', 'Flatten', 'Linear']
        >>> chip = snnconv.to_sinabs(snn, weight_bits=8)
        >>> bool((chip[0].weight == chip[0].weight.round()).all()), float(chip[0].weight.abs().max())
        (True, 127.0)
    """
    try:
        from sinabs.layers import SumPool2d
    except ImportError as error:
        raise ImportError('sinabs is not installed: pip install "snnconv-plugin[exchange]"') from error
    if timesteps is not None and timesteps < 1:
        raise ValueError(f"timesteps is a whole number from 1, got {timesteps}")
    if weight_bits is not None:
        snn = integer_weights(snn, weight_bits)
    chain = links(snn, "sinabs")
    assert isinstance(snn.program, GraphProgram)
    source, steps = snn.program.source, snn.timesteps if timesteps is None else timesteps
    result = nn.Sequential()

    def add(name: str, module: nn.Module) -> None:
        name = (name or "layer").replace(".", "_").replace(":", "_")
        result.add_module(unique_name(name.replace(":", "_"), result._modules, mark="_"), module)

    for link in chain:
        if isinstance(link, Layer):
            add(link.name, _layer(link, source))
        elif isinstance(link, Neurons):
            theta = link.threshold.cpu()
            add(link.name, _population(theta, 0.5 * float(theta) if link.half else 0.0, steps))
        elif isinstance(link, SumPool):
            add(link.name, SumPool2d(link.kernel, link.stride))
            if link.flat:
                add(f"{link.name}_flat", nn.Flatten(1))
        elif isinstance(link, Flatten):
            add(link.name, nn.Flatten(1))
        elif isinstance(link, Worth):
            add(link.name, _Scaled(link.value))
        else:
            raise ConversionError(f"{link.name}: sinabs has no {type(link).__name__}")
    return result.eval()


class _Scaled(nn.Module):
    """Spikes times what one is worth, behind the neurons that a chain ends in."""

    def __init__(self, worth: float) -> None:
        super().__init__()
        self.worth = worth

    def forward(self, x: Tensor) -> Tensor:
        return x * self.worth


def _layer(link: Layer, source: SourceGraph) -> nn.Module:
    values = source.tensors[link.tensor]
    offset = None if link.bias is None else source.tensors[link.bias]
    given: dict[str, Any] = {"bias": offset is not None, "dtype": values.dtype}
    layer: nn.Module
    if link.settings is None:
        layer = nn.Linear(values.shape[1], values.shape[0], **given)
    else:
        size = int(values.shape[2]), int(values.shape[3])
        channels = values.shape[1] * int(link.settings["groups"])
        layer = nn.Conv2d(channels, values.shape[0], size, **given, **link.settings)
    with torch.no_grad():
        layer.get_parameter("weight").copy_(values * link.worth.to(values) / (link.area * link.behind))
        if offset is not None:
            layer.get_parameter("bias").copy_(offset / link.behind)
    return layer.requires_grad_(False)


def _population(theta: Tensor, start: float, timesteps: int) -> nn.Module:
    """sinabs' integrate-and-fire neurons that begin at ``start``."""
    from sinabs.activation import MembraneSubtract, SingleSpike
    from sinabs.layers import IAFSqueeze

    base: Callable[..., Any] = IAFSqueeze

    class Population(base):  # type: ignore[misc, valid-type]
        """Integrate-and-fire neurons, one spike a step, that begin where the converted network's do."""

        def init_state_with_shape(self, shape: Any, randomize: bool = False) -> None:
            super().init_state_with_shape(shape, randomize)
            self._begin()

        def reset_states(self, *given: Any, **named: Any) -> None:
            super().reset_states(*given, **named)
            self._begin()

        def forward(self, x: Tensor) -> Tensor:
            self.reset_states()  # every call is a run of its own, as the network's are
            result: Tensor = super().forward(x)
            return result.to(x.dtype)  # sinabs' spikes are float32, whatever comes in

        def _begin(self) -> None:
            if self.is_state_initialised():
                with torch.no_grad():
                    self.v_mem.fill_(start)

    return Population(num_timesteps=timesteps, spike_threshold=theta,
                      spike_fn=SingleSpike, reset_fn=MembraneSubtract(), min_v_mem=None)  # fmt: skip
