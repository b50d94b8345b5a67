"""CIFAR-10, ResNet-20 with rate norm layers, second stage: weights are frozen, p learns.

Starts from the weights that `snnconv train` of resnet20_rate_norm.py leaves in its work folder.
"""

_base_ = "./resnet20_rate_norm.py"

model = dict(
    network=dict(checkpoint=None),
    checkpoint="work_dirs/classification/cifar10/resnet20_rate_norm/weights.safetensors",
)
train_cfg = dict(
    _delete_=True,
    type="RateScaleLoop",
    statistics="frozen",  # of BatchNorm: layers with scaled=True keep the size of their outputs as p falls
    epochs=1,
    weight=0.1,
    learning_rate=0.01,
    tolerance=0.5,
    every=50,
    validation=5000,
)
param_scheduler = None
custom_hooks = []
bench = dict(
    architecture="ResNet-20, rate norm, second stage",
    methods=[dict(label="RNL", type="RateNorm", timesteps=[4, 8, 16, 32, 64, 128, 256])],
)
