"""CIFAR-10, AlexNet with strides in place of pooling and BatchNorm throughout, as in Fast-SNN (arXiv 2305.19868)."""

_base_ = "../../_base_/cifar10.py"

model = dict(network=dict(type="StridedAlexNet"))
optim_wrapper = dict(optimizer=dict(lr=0.05))
bench = dict(architecture="AlexNet with strides")
