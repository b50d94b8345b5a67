"""One command that tells whether everything runs on a GPU, and how fast: ``python -m benchmarks.gpu_check``.

Five parts: kernels, networks, speed, 8-bit products, training. Each has a limit in seconds, and together they stay
under five minutes. ``--device cpu --small`` runs the same on a processor, in small.
"""
