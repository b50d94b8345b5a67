"""Calls of changing batch, time steps, method and framework, for minutes: what a process takes stays what it is."""
