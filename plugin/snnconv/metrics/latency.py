"""How many steps an answer takes, by what is counted: a layer's, the network's, or those of a pipeline."""

from __future__ import annotations

from torch import fx

from snnconv.graph.source import SourceGraph, activation_site
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

__all__ = ["LATENCIES", "depth", "latencies"]

LATENCIES = ("layer", "network", "pipelined")
"""What may be counted (`latencies`)."""


def latencies(snn: SpikingNetwork) -> dict[str, int | None]:
    """Steps from the input to the answer; None where the network does not trace, so that its layers are not known.

    - ``"layer"``: steps that each layer runs, which is also how often a pipeline takes in an input: T, or τ + T.
    - ``"network"``: all layers step together, a step's spikes reaching all of them. In sum coding a layer waits for all
      bits of the one before, so that T steps of each on the longest path add up.
    - ``"pipelined"``: each layer a step behind the one before: T and the layers behind the first; in sum coding as
      ``"network"``.

    >>> import torch, snnconv
    >>> model = torch.nn.Sequential(*[m for _ in range(3) for m in (torch.nn.Linear(4, 4), torch.nn.ReLU())])
    >>> x = torch.rand(16, 4)
    >>> latencies(snnconv.convert(model, snnconv.methods.SignedIF(8), x, progress=False))
    {'layer': 8, 'network': 8, 'pipelined': 10}
    >>> latencies(snnconv.convert(model, snnconv.methods.ShiftedThreshold(4), x, progress=False))
    {'layer': 4, 'network': 12, 'pipelined': 12}
    """
    steps, whole = snn.method.latency, snn.method.coding == "sum"
    if not isinstance(snn.program, GraphProgram):
        return {"layer": steps, "network": None if whole else steps, "pipelined": None}
    layers = depth(snn.program.source)
    if whole:
        return {"layer": steps, "network": steps * layers, "pipelined": steps * layers}
    return {"layer": steps, "network": steps, "pipelined": steps + max(layers - 1, 0)}


def depth(source: SourceGraph) -> int:
    """Spiking layers on the longest path from input to output."""
    found: dict[fx.Node, int] = {}
    for node in source.graph.nodes:
        before = max((found[n] for n in node.all_input_nodes), default=0)
        found[node] = before + (node.target is activation_site)
    return max(found.values(), default=0)
