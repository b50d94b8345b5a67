"""CIFAR-10, ResNet-18 with a 3x3 stem."""

_base_ = "../../_base_/cifar10.py"

model = dict(network=dict(type="CifarResNet18"))
bench = dict(architecture="ResNet-18")
