"""A converted network that runs one step a call."""

from __future__ import annotations

from snnconv.export.neurons import neuron_settings
from snnconv.graph.source import ConversionError
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.stepwise import Stepwise

__all__ = ["stepwise"]


def stepwise(snn: SpikingNetwork) -> Stepwise:
    """The network as ordinary modules, one step a call, its states inputs and outputs.

    Equations and thresholds are those of the network, which is not changed; the result is a copy. It can be exported
    (``torch.export``, TorchScript by tracing, ONNX by :func:`snnconv.to_onnx`), hooked and taken apart.

    Args:
        snn: a network that runs as a graph.

    Returns:
        A :class:`~snnconv.runtime.stepwise.Stepwise`: ``forward(*inputs, *states)`` gives ``(output, *states)``.

    Raises:
        ConversionError: a network that runs call by call, differential coding, or neurons that were put in by hand.

    Example:
        >>> import torch, snnconv
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> x = torch.randn(16, 4)
        >>> step = snnconv.stepwise(snnconv.convert(model, snnconv.methods.ShiftedThreshold(timesteps=4), x))
        >>> step.timesteps, step.names
        (4, ('step', '1.v'))
        >>> [type(module).__name__ for module in step.program.children()]
        ['Clock', 'Linear', 'Once', 'SumNeurons', 'Linear', 'Once']
    """
    program = snn.program
    if not isinstance(program, GraphProgram):
        why = "; ".join(snn.report.notes) if snn.report is not None else "it runs call by call"
        raise ConversionError(f"only a network that runs as a graph has single steps: {why}")
    if snn.method.coding == "differential":
        raise ConversionError(
            f"single steps add up to a mean or a sum, and those of {snn.method.neuron!r} neurons do not (differential "
            "coding): snn.stream(x) gives the answer after every step; convert with methods.SignedIF for single steps"
        )
    return Stepwise(program.source, snn.method, neuron_settings(snn), snn.readout)
