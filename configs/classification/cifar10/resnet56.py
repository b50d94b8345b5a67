"""CIFAR-10, ResNet-56 with option A shortcuts."""

_base_ = "./resnet20.py"

model = dict(network=dict(depth=56))
bench = dict(architecture="ResNet-56")
