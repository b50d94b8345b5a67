"""CIFAR-100, ResNet-20 with option A shortcuts."""

_base_ = "../../_base_/cifar100.py"

model = dict(network=dict(type="CifarResNet", depth=20, num_classes=100))
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))  # as He et al.: few parameters
bench = dict(architecture="ResNet-20")
