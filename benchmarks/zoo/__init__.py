"""Which architectures of timm convert, how they are captured, and what stays analog: ``python -m benchmarks.zoo``."""
