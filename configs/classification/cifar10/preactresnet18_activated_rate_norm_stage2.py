"""CIFAR-10, PreActResNet-18 with rate norm layers and shortcuts of activations, second stage: only p learns.

Starts from the weights that `snnconv train` of preactresnet18_activated_rate_norm.py leaves in its work folder.
"""

_base_ = "./preactresnet18_activated_rate_norm.py"

model = dict(checkpoint="work_dirs/classification/cifar10/preactresnet18_activated_rate_norm/weights.safetensors")
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
bench = dict(architecture="PreActResNet-18, shortcuts of activations, rate norm, second stage")
