"""Activations without data: what comes out of a BatchNorm is taken as normal.

Of each channel, a BatchNorm has learned the mean β and the standard deviation |γ| on its training data. Its output is
drawn from N(β, γ²), value by value, and everything behind it, sums, pooling, activations, up to the next BatchNorm acts
on what is drawn. (Thresholds from the normal distribution of BatchNorm: "Hierarchical multi-threshold", AAAI 2026.)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from snnconv.conversion.histogram import Histogram, channels_first, histograms
from snnconv.conversion.ranks import Ranks
from snnconv.graph.error import ConversionError
from snnconv.graph.fold import NORMAL, synapse_arguments
from snnconv.graph.ops import is_synapse
from snnconv.graph.source import SourceGraph, broadcast
from snnconv.progress import ProgressFn
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.readout import join_batches

__all__ = ["assumed", "normal"]

DRAWN = 2**15
"""Values of each channel that are drawn, if `INPUTS` are enough for it."""
INPUTS = 2**13
BATCH = 32


def normal(x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Independent normal values of the shape of ``x`` [B, C, ...], a mean and a standard deviation a channel.

    >>> normal(torch.full((2, 3), torch.nan), torch.ones(3), torch.zeros(3))
    tensor([[1., 1., 1.],
            [1., 1., 1.]])
    """
    return torch.randn_like(x) * broadcast(deviation.to(x), x.dim(), 1) + broadcast(mean.to(x), x.dim(), 1)


def assumed(source: SourceGraph, example: Any, progress: ProgressFn, seed: int = 0) -> dict[str, Histogram]:
    """Histograms of every site's activation where BatchNorms say what comes.

    Args:
        source: the network.
        example: inputs, of which the shape alone matters.
        seed: of what is drawn.

    Raises:
        ConversionError: an activation behind a layer with weights that no BatchNorm follows, by its name.
    """
    program = GraphProgram(_drawing(source))
    one = _unknown(example[:1])
    device = next((value.device for value in program.source.tensors.values()), torch.device("cpu"))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        values = _values(program, one)
        inputs = min(INPUTS, max(BATCH, math.ceil(DRAWN / max(1, values))))
        batch = join_batches([one] * (BATCH if values > 1 else 16 * BATCH))
        found = histograms(program, [batch] * math.ceil(inputs / len(batch)), True, progress, Ranks(), elements=True)
    return found


def _drawing(source: SourceGraph) -> SourceGraph:
    """The network with drawn values behind each BatchNorm, and NaN behind every layer with weights without one."""
    source = source.copy()
    for node in list(source.graph.nodes):
        if is_synapse(node) and (weight := synapse_arguments(node)[0]) is not None:
            source.tensors[str(weight.target)].fill_(torch.nan)
        if NORMAL not in node.meta:
            continue
        after = node.next
        with source.graph.inserting_before(after):
            mean, deviation = (
                source.new_tensor(f"{node.name}.{what}", value.float(), after)
                for what, value in zip(("mean", "deviation"), node.meta[NORMAL], strict=True)
            )
            drawn = source.graph.call_function(normal, (node, mean, deviation))
        drawn.meta = {key: value for key, value in node.meta.items() if key != NORMAL}
        node.replace_all_uses_with(drawn, delete_user_cb=lambda user, drawn=drawn: user is not drawn)
    return source


def _unknown(x: Any) -> Any:
    """NaN in the place of every number."""
    return torch.utils._pytree.tree_map_only(
        Tensor, lambda value: torch.full_like(value, torch.nan) if value.is_floating_point() else value, x
    )


def _values(program: GraphProgram, one: Any) -> int:
    """How many values a channel of the smallest activation has."""
    least = INPUTS
    unknown: list[str] = []

    def look(name: str, z: Tensor) -> Tensor:
        nonlocal least
        site = program.sites[name]
        y = site.activation(z)
        if bool(torch.isnan(y).any()):
            unknown.append(name)
        least = min(least, channels_first(y, site.axis, True).shape[1])
        return y

    program.static(one, look)
    if unknown:
        raise ConversionError(
            f"statistics='batch_norm': no BatchNorm says what comes to {', '.join(unknown):.300}, which lies behind a "
            "layer with weights that none follows; calibrate on data"
        )
    return least
