"""What the first run of a module tree finds: sites, layers with weights, operators without spiking equivalent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.graph.ops import SYNAPSES
from snnconv.graph.sites import is_activation_module, relu_of
from snnconv.graph.source import Site
from snnconv.runtime.tree.functions import Function
from snnconv.runtime.tree.values import CONSTANT, NEURONS, Value

__all__ = ["Found", "Place", "site_of"]


class Place(nn.Module):
    """Stands for a trained activation: one call that the run recognises."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

    def forward(self, z: Tensor) -> Tensor:
        return torch.relu(z)


@dataclass
class Found:
    """What a first run finds out about a network.

    Attributes:
        sites: the activations, by name, in execution order.
        synapses: paths of the modules in which layers with weights are.
        operators: calls without spiking equivalent: path, name, and whether they act on what neurons put out.
        inside: those of them that a layer with weights or a neuron reads, by number.
        at_output: those that the output reads.
    """

    sites: dict[str, Site] = field(default_factory=dict)
    synapses: list[str] = field(default_factory=list)
    operators: list[tuple[str, str, bool]] = field(default_factory=list)
    inside: set[int] = field(default_factory=set)
    at_output: set[int] = field(default_factory=set)

    def analog(self, what: Function, kind: str, values: Sequence[Value], origin: int, path: str) -> frozenset[int]:
        """Operators that the result of a call went through, this one among them, by their numbers."""
        before: frozenset[int] = frozenset().union(*(v.memory.analog for v in values))
        if not what.method and what.target in SYNAPSES and origin and kind != "nonlinear":
            self.inside |= before
            if path not in self.synapses:
                self.synapses.append(path)
            return frozenset()
        if kind != "nonlinear" or not origin:
            return before
        self.operators.append((path, what.bare, origin == NEURONS))
        return before | {len(self.operators) - 1}


def site_of(what: Function, args: Any, kwargs: dict[str, Any], path: str, module: nn.Module | None) -> Site | None:
    """The site that a call is, if it is one. What depends on weights alone is computed, not sent as spikes."""
    operand = args[0] if args else kwargs.get("input")
    if not isinstance(operand, Value) or operand.memory.origin == CONSTANT:
        return None
    relu = relu_of(what.target, what.method, args, kwargs)
    if relu is None:
        return None
    if isinstance(module, Place):
        return module.site.with_(name=path)
    base = path
    if not is_activation_module(type(module)):
        named = isinstance(getattr(module, what.bare, None), nn.Module)  # that name is a module's, which may be another
        base = f"{path}.functional.{what.bare}" if named else f"{path}.{what.bare}"
        base = base.lstrip(".")
    channels = operand.memory.channels
    if channels is None:
        channels = -1 if operand.dim() == 3 else 1
    return Site(base, relu, channels)
