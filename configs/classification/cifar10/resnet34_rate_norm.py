"""CIFAR-10, ResNet-34 with rate norm layers in place of ReLU (arXiv 2105.11654), first stage: p stays fixed."""

_base_ = "./vgg16_rate_norm.py"

model = dict(network=dict(_delete_=True, type="CifarResNet34", act_cfg=dict(type="RateNorm")))
bench = dict(architecture="ResNet-34, rate norm")
