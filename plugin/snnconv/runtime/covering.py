"""Encoders in a captured network, with the shapes of its values from a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from snnconv.graph.cover import Cover
from snnconv.graph.encoders import place_encoders
from snnconv.graph.source import SourceGraph
from snnconv.runtime.executor import Executor
from snnconv.runtime.ladder_pass import drop_encoders

__all__ = ["encode", "shapes_of"]


def shapes_of(source: SourceGraph, x: Any) -> dict[fx.Node, tuple[int, ...]]:
    """Shape of every value of a network for inputs ``[B, ...]``.

    >>> from torch import nn
    >>> from snnconv.graph.capture.fx import source_graph
    >>> source = source_graph(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    >>> list(shapes_of(source, torch.zeros(3, 4)).values())[-1]
    (3, 2)
    """
    found: dict[fx.Node, tuple[int, ...]] = {}

    def note(node: fx.Node, value: Any) -> None:
        data = getattr(value, "data", None)
        if isinstance(data, Tensor):
            found[node] = tuple(data.shape)

    run = Executor(source, lambda site, z: source.sites[site].activation(z))
    run.observers.append(note)
    with torch.no_grad():
        run(x)
    return found


def encode(source: SourceGraph, cover: Cover, x: Any) -> None:
    """Put encoders where ``cover`` wants them; ``x``: inputs ``[B, ...]``, a few.

    Raises:
        ConversionError: values of both signs, and neurons that know no negative spike.
    """
    if cover.synapses:
        source.notes += place_encoders(source, cover, shapes_of(source, x))
    if cover.ladders:
        drop_encoders(source, shapes_of(source, x))
