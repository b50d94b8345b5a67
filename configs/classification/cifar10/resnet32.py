"""CIFAR-10, ResNet-32 with option A shortcuts."""

_base_ = "./resnet20.py"

model = dict(network=dict(depth=32))
bench = dict(architecture="ResNet-32")
