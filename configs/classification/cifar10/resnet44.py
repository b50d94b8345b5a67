"""CIFAR-10, ResNet-44 with option A shortcuts."""

_base_ = "./resnet20.py"

model = dict(network=dict(depth=44))
bench = dict(architecture="ResNet-44")
