"""Tiny YOLOv2 of Fast-SNN trained with 4-bit activations (15 levels), COCO 2017."""

_base_ = ["./yolov2_tiny_strided.py", "../../_base_/quant15.py"]
model = dict(backbone=dict(act_cfg={{_base_.act_cfg}}), bbox_head=dict(act_cfg={{_base_.act_cfg}}))
bench = dict(
    architecture="Tiny YOLOv2, strided convolutions, 4-bit activations (15 levels)",
    methods={{_base_.methods}},
)
