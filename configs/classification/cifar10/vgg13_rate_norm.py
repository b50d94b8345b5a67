"""CIFAR-10, VGG-13 with rate norm layers in place of ReLU (arXiv 2105.11654), first stage: p stays fixed."""

_base_ = "./vgg16_rate_norm.py"

model = dict(network=dict(type="CifarVGG", depth=13))
bench = dict(architecture="VGG-13, rate norm")
