"""Scans as Triton kernels: one file a neuron, imported where it is first wanted."""
