"""DeepLabv1-VGG9 trained with rate norm layers, Pascal VOC 2012."""

_base_ = "./deeplabv1_vgg9.py"
act_cfg = dict(type="RateNorm")
model = dict(backbone=dict(act_cfg=act_cfg), decode_head=dict(act_cfg=act_cfg))
bench = dict(
    architecture="DeepLabv1 VGG-9, rate norm layers",
    methods=[dict(label="RNL", type="RateNorm", timesteps=[8, 16, 32, 64])],
)
