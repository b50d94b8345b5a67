"""Weights, biases and thresholds as a chip holds them: whole numbers."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from snnconv.export.chain import Layer, Link, Neurons, links
from snnconv.graph.activation import RateNorm
from snnconv.graph.source import ConversionError
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

__all__ = ["integer_weights"]


def integer_weights(snn: SpikingNetwork, bits: int = 8) -> SpikingNetwork:
    """The network whose weights, biases and thresholds are whole numbers, as a chip of convolution cores holds them.

    For a layer of weights W that reads spikes worth a, with biases b and neurons of threshold θ: s = max |a·W| / L with
    L = 2^(bits−1) − 1; n = round(a·W/s), round(b/s), max(1, round(kθ/s)), k the cells of an average pooling that the
    neurons are behind, else 1. Spikes are 1, so that all sums are whole numbers and nothing is rounded. The last layer,
    which no neurons read, keeps its units: s is the next power of two.

    Args:
        snn: a network of ``methods.IF`` with ``per_channel=False`` that runs as a graph, layer behind layer.
        bits: of a weight, its sign included.

    Returns:
        Another network, which runs, saves and exports as any; ``snn`` stays as it is.

    Raises:
        ValueError: fewer than 2 bits, or more than 16.
        ConversionError: what :func:`snnconv.to_sinabs` refuses; two layers with one weight; a layer of zeros.

    Example:
        >>> import snnconv
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=8, per_channel=False), torch.rand(16, 4))
        >>> weight = snnconv.integer_weights(snn).program.source.tensors["0.weight"]
        >>> bool((weight == weight.round()).all()), float(weight.abs().max())
        (True, 127.0)
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"bits is {bits!r}: a weight has 2 to 16, its sign included")
    chain = links(snn, "a chip")
    program = copy.deepcopy(snn.program)
    assert isinstance(program, GraphProgram)
    source, thresholds = program.source, {name: snn.thresholds[name] for name in snn.program.sites}
    written: set[str] = set()
    for place, link in enumerate(chain):
        if not isinstance(link, Layer):
            continue
        shared = next((name for name in (link.tensor, link.bias) if name in written), None)
        if shared is not None:
            raise ConversionError(f"{link.name} shares {shared} with another layer, and a core has weights of its own")
        written |= {name for name in (link.tensor, link.bias) if name is not None}
        weight = source.tensors[link.tensor].double() * link.worth.double() / link.area
        largest = float(weight.abs().max())
        if not largest:
            raise ConversionError(f"{link.name}: all weights are 0, which no scale makes whole numbers of")
        scale = largest / (2 ** (bits - 1) - 1)
        behind = _neurons(chain[place + 1 :])
        unit = 1.0
        if behind is None:
            scale = unit = 2.0 ** math.ceil(math.log2(scale))
        else:
            unit = float(link.behind)  # neurons behind an average pooling read sums of whole numbers
            theta = torch.round(thresholds[behind.name].double() * link.behind / scale)
            theta = theta.clamp(min=1).to(thresholds[behind.name])
            thresholds[behind.name] = theta
            source.sites[behind.name] = source.sites[behind.name].with_(function=RateNorm(theta.detach().clone()))
        source.tensors[link.tensor] = _like(torch.round(weight / scale) * unit * link.area, source.tensors[link.tensor])
        if link.bias is not None:
            bias = source.tensors[link.bias]
            source.tensors[link.bias] = _like(torch.round(bias.double() / scale) * unit, bias)
    report = copy.deepcopy(snn.report)
    if report is not None:
        report.notes.append(f"weights, biases and thresholds are whole numbers, weights of {bits} bits")
    program = GraphProgram(source, program.coding, program.max_pool)
    return SpikingNetwork(program, snn.method, thresholds, snn.framework, report, snn.delay, snn.input_spec)


def _neurons(behind: list[Link]) -> Neurons | None:
    """The neurons that a layer's currents go to: those before the next layer."""
    for link in behind:
        if isinstance(link, Neurons):
            return link
        if isinstance(link, Layer):
            return None
    return None


def _like(value: Tensor, other: Tensor) -> Tensor:
    return value.to(other.dtype)
