"""Tiny YOLOv2 of Fast-SNN trained with rate norm layers."""

_base_ = "./yolov2_tiny_strided.py"
act_cfg = dict(type="RateNorm")
model = dict(backbone=dict(act_cfg=act_cfg), bbox_head=dict(act_cfg=act_cfg))
bench = dict(
    architecture="Tiny YOLOv2, strided convolutions, rate norm layers",
    methods=[dict(label="RNL", type="RateNorm", timesteps=[8, 16, 32, 64])],
)
