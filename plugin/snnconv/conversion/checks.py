"""Agreement of a converted network with the one it was made from, and of a batch with its parts."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from snnconv.activations.quant import quantised
from snnconv.graph.source import ConversionError, Site, broadcast
from snnconv.network import SpikingNetwork
from snnconv.report import Agreement
from snnconv.runtime.capture import agree
from snnconv.runtime.program import Program
from snnconv.runtime.readout import join_batches, output_leaves
from snnconv.runtime.values import channels_last, numbers

__all__ = ["ConversionWarning", "check_result", "mixes_batch"]

TIMES_QUANTISED = 3.0
SAME = 1e-4
"""Relative difference of a site's sums from its quantised activation: rounding of 32-bit sums."""
BORDER = 1e-3
"""Levels from the border of two within which rounding decides which one a value falls to."""


class ConversionWarning(UserWarning):
    """A converted network is further from its source than its number of time steps accounts for.

    It may be made an error by Python's own means:

    >>> import warnings
    >>> warnings.simplefilter("error", ConversionWarning)
    >>> warnings.simplefilter("default", ConversionWarning)
    """


def mixes_batch(program: Program, x: Any) -> bool:
    """Whether the inputs of a batch have to do with one another: two together are not each alone.

    ``x`` holds two inputs or more. Quantised activations are taken without their levels, which rounding decides.
    """

    def smooth(site: str, z: Tensor) -> Tensor:
        place = program.sites[site]
        if place.levels is None or place.threshold is None:
            return place.activation(z)
        theta = broadcast(place.threshold.to(z), z.dim(), place.axis)
        return torch.clamp(z, -theta if place.function.signed else torch.zeros_like(theta), theta)

    together = program.static(x[:2], smooth)
    try:
        apart = join_batches([program.static(x[i : i + 1], smooth) for i in (0, 1)])
    except (RuntimeError, ValueError, IndexError, TypeError):
        return True  # it takes no single input
    return not agree(together, apart)


# --- the converted network and its source ------------------------------------------------------------------


def check_result(network: SpikingNetwork, expected: Any, x: Any, stacklevel: int = 2) -> Agreement:
    """Compare a converted network's outputs with those of its source on a few inputs.

    Structure, shapes and dtypes are the source's, and what is finite there is finite. In sum coding every site says
    what the quantiser says that its neuron is. In rate coding the outputs' error may be three times as large as that
    of the quantised network, or what neurons that are one spike off amount to.

    Args:
        network: the converted network.
        expected: outputs of the source network.
        x: its inputs.
        stacklevel: of the warning.

    Returns:
        how far both are from the source.

    Raises:
        ConversionError: other structure, shapes, dtypes, values that are not finite; sum coding that differs.

    Warns:
        ConversionWarning: rate coding that is further off.
    """
    got = network(*x) if isinstance(x, tuple) else network(x)
    _same_form(expected, got)
    quantise = _Quantiser(network)
    with torch.no_grad():
        quantised = network.program.static(channels_last(x), quantise)
    for site, off in quantise.differences.items():
        if off > SAME:
            raise ConversionError(
                f"{site}: its neurons' sums differ from the quantised activation by {off:.2g} of its norm, which is a "
                "fault of the conversion, not of the network: please report it with the model"
            )
    agreement = Agreement(_distance(got, expected), _distance(quantised, expected), quantise.one_spike())
    bound = max(TIMES_QUANTISED * agreement.quantised, agreement.one_spike)
    if network.method.coding == "rate" and agreement.error > bound:
        warnings.warn(
            f"the converted network's outputs are {100 * agreement.error:.3g} % off the source network's on "
            f"{len(x)} inputs; quantised to {network.method.levels} levels they would be "
            f"{100 * agreement.quantised:.3g} % off, and neurons that are one spike off account for "
            f"{100 * agreement.one_spike:.3g} %. snnconv.compare(model, snn, inputs) shows where it begins",
            ConversionWarning,
            stacklevel=stacklevel,
        )
    return agreement


def _same_form(expected: Any, got: Any) -> None:
    wanted, found = dict(output_leaves(expected)), dict(output_leaves(got))
    if list(wanted) != list(found):
        raise ConversionError(
            f"the converted network returns {', '.join(found) or 'nothing'}, where the model returns "
            f"{', '.join(wanted) or 'nothing'}: its forward returns something that a conversion does not carry over; "
            "return tensors, or tuples, lists, dictionaries and dataclasses of them"
        )
    for name, one in wanted.items():
        other = found[name]
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            continue
        for what, a, b in (("shape", list(one.shape), list(other.shape)), ("dtype", one.dtype, other.dtype)):
            if a != b:
                raise ConversionError(
                    f"{name} of the converted network has {what} {b}, where the model's has {a}: an operator on the "
                    "way to it picks as many values as pass a test (nonzero, a boolean mask), which spikes change, so "
                    "convert the part of the network before it; or it does not act on values over time as it does on "
                    "one: please report it with the model"
                )
        if one.is_floating_point() and bool((torch.isfinite(one) & ~torch.isfinite(other)).any()):
            raise ConversionError(
                f"{name} of the converted network is NaN or infinite where the model's is finite: an operator on the "
                "way to it divides by what is zero without spikes, or takes its logarithm; add a small number there"
            )


def _distance(got: Any, expected: Any) -> float:
    """‖got − expected‖ / ‖expected‖ over all floating outputs that are finite."""
    difference = power = 0.0
    for (_, a), (_, b) in zip(output_leaves(got), output_leaves(expected), strict=True):
        if isinstance(b, Tensor) and (b.is_floating_point() or b.is_complex()):
            finite = torch.isfinite(b) & torch.isfinite(a)
            difference += float((a[finite] - b[finite]).abs().double().square().sum())
            power += float(b[finite].abs().double().square().sum())
    if power:
        return math.sqrt(difference / power)
    return math.inf if difference else 0.0


class _Quantiser:
    """clip(⌊f(z)L/θ + 1/2⌋, −L or 0, L)·θ/L at every site; in sum coding what the neurons say, compared with it.

    Attributes:
        differences: of sums from the quantised activation, relative to its norm, by site.
        spikes: mean square of what a spike more or less amounts to, relative to the activation's.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self.thresholds = dict(network.thresholds)
        self.differences: dict[str, float] = {}
        self.spikes: dict[str, float] = {}

    def __call__(self, site: str, z: Tensor) -> Tensor:
        place: Site = self.network.program.sites[site]
        method = self.network.method.at(site)
        theta = broadcast(self.thresholds[site].to(z), z.dim(), place.axis)
        levels = method.levels if method.coding == "sum" else max(1, method.levels - self.network.delay)
        out = quantised(place.function, z, self.thresholds[site], levels, place.axis)
        power = float(out.double().square().mean()) if out.numel() else 0.0
        if power:
            unit = torch.ones_like(theta) if place.function.unit else theta
            step = float((unit.double() / levels).square().mean())
            self.spikes[site] = step / 3 / power
        if not method.record.quantises:
            return out
        said = numbers(self.network.population.fire_total(site, z))
        y = z if place.function.linear else place.activation(z)
        places = y * levels / theta + 0.5
        near = (places - places.round()).abs() < max(BORDER, 4 * torch.finfo(z.dtype).eps * levels)
        self.differences[site] = _distance(torch.where(near, said, out), said) if power else 0.0
        return said

    def one_spike(self) -> float:
        """Relative error where the rate of each neuron is off by up to a spike, evenly: their squares add up."""
        return math.sqrt(sum(self.spikes.values()))
