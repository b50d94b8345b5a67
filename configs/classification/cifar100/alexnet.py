"""CIFAR-100, AlexNet with BatchNorm and average pooling."""

_base_ = "../../_base_/cifar100.py"

model = dict(network=dict(type="CifarAlexNet", num_classes=100))
optim_wrapper = dict(optimizer=dict(lr=0.05))
bench = dict(architecture="AlexNet")
