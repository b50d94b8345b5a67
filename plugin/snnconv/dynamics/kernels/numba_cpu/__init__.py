"""Scans for the CPU, compiled by numba: one file a neuron, imported where it is first wanted."""
