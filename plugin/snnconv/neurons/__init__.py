"""Spiking neuron modules for SpikingJelly and snnTorch, over the equations in `snnconv.dynamics`."""

from snnconv.neurons.spikingjelly import ChannelIFNode, ShiftedThresholdIFNode, SignedIFNode, SRPIFNode

__all__ = ["ChannelIFNode", "SRPIFNode", "ShiftedThresholdIFNode", "SignedIFNode"]
