"""CIFAR-10, PreActResNet-50 with rate norm layers and shortcuts of activations (arXiv 2105.11654), first stage."""

_base_ = "./preactresnet18_rate_norm.py"

model = dict(network=dict(type="CifarPreActResNet50", shortcut="activation"))
bench = dict(architecture="PreActResNet-50, shortcuts of activations, rate norm")
