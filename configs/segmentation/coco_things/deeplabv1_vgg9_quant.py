"""DeepLabv1-VGG9 of Fast-SNN trained with 4-bit activations (15 levels), COCO 2017 with its 80 classes."""

_base_ = ["./deeplabv1_vgg9.py", "../../_base_/quant15.py"]
model = dict(backbone=dict(act_cfg={{_base_.act_cfg}}), decode_head=dict(act_cfg={{_base_.act_cfg}}))
bench = dict(
    architecture="DeepLabv1 VGG-9, 4-bit activations (15 levels)",
    methods={{_base_.methods}},
)
