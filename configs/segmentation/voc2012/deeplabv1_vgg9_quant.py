"""DeepLabv1-VGG9 trained with 4-bit activations (15 levels), Pascal VOC 2012."""

_base_ = "./deeplabv1_vgg9.py"
act_cfg = dict(type="QuantReLU", levels=15)
model = dict(backbone=dict(act_cfg=act_cfg), decode_head=dict(act_cfg=act_cfg))
bench = dict(
    architecture="DeepLabv1 VGG-9, 4-bit activations (15 levels)",
    methods=[
        dict(label="shifted threshold, trained", type="ShiftedThreshold", timesteps=[4], thresholds="trained"),
        dict(label="signed IF, trained", type="SignedIF", timesteps=[15], thresholds="trained"),
        dict(label="SRP, trained", type="SRP", timesteps=[15], pre_timesteps=4, thresholds="trained"),
    ],
)
