"""CIFAR-10, VGG-16 with rate norm layers in place of ReLU (arXiv 2105.11654), first stage: p stays fixed."""

_base_ = "./vgg16.py"

model = dict(network=dict(act_cfg=dict(type="RateNorm")))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={".p": dict(lr_mult=0.0, decay_mult=0.0)}))
bench = dict(
    architecture="VGG-16, rate norm",
    methods=[dict(label="RNL", type="RateNorm", timesteps=[4, 8, 16, 32, 64, 128])],
)
