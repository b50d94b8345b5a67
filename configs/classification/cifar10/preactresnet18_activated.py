"""CIFAR-10, PreActResNet-18 whose shortcuts carry activations (arXiv 2105.11654), not sums."""

_base_ = "../../_base_/cifar10.py"

model = dict(network=dict(type="CifarPreActResNet18", shortcut="activation"))
bench = dict(architecture="PreActResNet-18, shortcuts of activations")
