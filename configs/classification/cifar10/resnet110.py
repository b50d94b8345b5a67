"""CIFAR-10, ResNet-110 with option A shortcuts."""

_base_ = "./resnet20.py"

model = dict(network=dict(depth=110))
bench = dict(architecture="ResNet-110")
