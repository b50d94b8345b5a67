"""CIFAR-100, ResNet-18 with a 3x3 stem."""

_base_ = "../../_base_/cifar100.py"

model = dict(network=dict(type="CifarResNet18", num_classes=100))
bench = dict(architecture="ResNet-18")
