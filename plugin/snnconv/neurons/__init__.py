"""Spiking neuron modules for SpikingJelly and snnTorch, over the equations in `snnconv.dynamics`."""

from snnconv.neurons.spikingjelly import (
    ChannelIFNode,
    HierarchicalMultiThresholdNode,
    MultiThresholdNode,
    ShiftedThresholdIFNode,
    SignedIFNode,
    SRPIFNode,
)

__all__ = [
    "ChannelIFNode", "HierarchicalMultiThresholdNode", "MultiThresholdNode", "SRPIFNode", "ShiftedThresholdIFNode",
    "SignedIFNode",
]  # fmt: skip
