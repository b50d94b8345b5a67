"""CIFAR-10, ResNet-34 with a 3x3 stem."""

_base_ = "../../_base_/cifar10.py"

model = dict(network=dict(type="CifarResNet34"))
bench = dict(architecture="ResNet-34")
