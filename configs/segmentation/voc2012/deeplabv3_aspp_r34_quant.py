"""DeepLabv3-ResNet-34+ASPP of Fast-SNN trained with 4-bit activations (15 levels), Pascal VOC 2012."""

_base_ = ["./deeplabv3_aspp_r34.py", "../../_base_/quant15.py"]
model = dict(backbone=dict(act_cfg={{_base_.act_cfg}}), decode_head=dict(act_cfg={{_base_.act_cfg}}))
bench = dict(
    architecture="DeepLabv3 ResNet-34 + ASPP, 4-bit activations (15 levels)",
    methods={{_base_.methods}},
)
