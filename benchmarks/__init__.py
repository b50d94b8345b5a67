"""Measured comparisons of conversion methods: ``benchmarks.quick`` and ``benchmarks.cifar10``."""
