"""Tiny YOLOv2 of Fast-SNN trained with 4-bit activations (15 levels)."""

_base_ = "./yolov2_tiny_strided.py"
act_cfg = dict(type="QuantReLU", levels=15)
model = dict(backbone=dict(act_cfg=act_cfg), bbox_head=dict(act_cfg=act_cfg))
bench = dict(
    architecture="Tiny YOLOv2, strided convolutions, 4-bit activations (15 levels)",
    methods=[
        dict(label="shifted threshold, trained", type="ShiftedThreshold", timesteps=[4], thresholds="trained"),
        dict(label="signed IF, trained", type="SignedIF", timesteps=[15], thresholds="trained"),
        dict(label="SRP, trained", type="SRP", timesteps=[15], pre_timesteps=4, thresholds="trained"),
    ],
)
