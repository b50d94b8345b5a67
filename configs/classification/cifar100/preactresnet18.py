"""CIFAR-100, PreActResNet-18 with a 3x3 stem, BatchNorm and ReLU before each convolution."""

_base_ = "../../_base_/cifar100.py"

model = dict(network=dict(type="CifarPreActResNet18", num_classes=100))
bench = dict(architecture="PreActResNet-18")
