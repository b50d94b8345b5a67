"""CIFAR-10, VGG-11 with strides in place of pooling and BatchNorm throughout, as in Fast-SNN (arXiv 2305.19868)."""

_base_ = "../../_base_/cifar10.py"

model = dict(network=dict(type="StridedVGG11"))
optim_wrapper = dict(optimizer=dict(lr=0.05))
bench = dict(architecture="VGG-11 with strides")
