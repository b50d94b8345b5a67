"""How long a time step takes: ``python -m benchmarks.speed``.

The unit is one forward pass of the source network in float32 with BatchNorm folded, channels-last, on the same batch
and threads in the same run.
"""
