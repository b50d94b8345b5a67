"""CIFAR-100, VGG-11 with BatchNorm, average pooling and one fully connected layer."""

_base_ = "../../_base_/cifar100.py"

model = dict(network=dict(type="CifarVGG", depth=11, num_classes=100))
optim_wrapper = dict(optimizer=dict(lr=0.05))
bench = dict(architecture="VGG-11")
