"""How many steps an answer takes, by what is counted: a layer's, the network's, or those of a pipeline."""

from __future__ import annotations

from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

__all__ = ["LATENCIES", "latencies"]

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
    if whole:
        added = snn.program.source.longest_path(lambda site: snn.method.at(site).latency)
        return {"layer": steps, "network": added, "pipelined": added}
    return {"layer": steps, "network": steps, "pipelined": steps + snn.program.source.longest_path(lambda site: 1) - 1}
