"""CIFAR-10, VGG-16 with rate norm layers, second stage: weights are frozen, p learns, BatchNorm follows.

Starts from the weights that `snnconv train` of vgg16_rate_norm.py leaves in its work folder.
"""

_base_ = "./vgg16_rate_norm.py"

model = dict(checkpoint="work_dirs/classification/cifar10/vgg16_rate_norm/weights.safetensors")
train_cfg = dict(
    _delete_=True,
    type="RateScaleLoop",
    epochs=10,
    weight=0.1,
    learning_rate=0.01,
    tolerance=0.5,
    every=100,
    validation=5000,
)
param_scheduler = None
custom_hooks = []
bench = dict(architecture="VGG-16, rate norm, second stage")
