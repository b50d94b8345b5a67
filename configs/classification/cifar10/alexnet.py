"""CIFAR-10, AlexNet with BatchNorm and average pooling."""

_base_ = "../../_base_/cifar10.py"

model = dict(network=dict(type="CifarAlexNet"))
optim_wrapper = dict(optimizer=dict(lr=0.05))
bench = dict(architecture="AlexNet")
