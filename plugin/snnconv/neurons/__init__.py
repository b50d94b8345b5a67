"""Spiking neuron modules for SpikingJelly and snnTorch, over the equations in `snnconv.dynamics`."""

from snnconv.neurons.spikingjelly import (
    ChannelIFNode,
    FunctionIFNode,
    HierarchicalMultiThresholdNode,
    LadderNode,
    MultiThresholdNode,
    ShiftedThresholdIFNode,
    SignedIFNode,
    SRPIFNode,
)

__all__ = [
    "ChannelIFNode", "FunctionIFNode", "HierarchicalMultiThresholdNode", "LadderNode", "MultiThresholdNode",
    "SRPIFNode", "ShiftedThresholdIFNode", "SignedIFNode",
]  # fmt: skip
