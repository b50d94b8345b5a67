"""DeepLabv3-ResNet-34+ASPP of Fast-SNN trained with 3-bit activations (7 levels), COCO 2017 with its 80 classes."""

_base_ = ["./deeplabv3_aspp_r34.py", "../../_base_/quant7.py"]
model = dict(backbone=dict(act_cfg={{_base_.act_cfg}}), decode_head=dict(act_cfg={{_base_.act_cfg}}))
bench = dict(
    architecture="DeepLabv3 ResNet-34 + ASPP, 3-bit activations (7 levels)",
    methods={{_base_.methods}},
)
