"""Tiny YOLOv2 of Fast-SNN trained with 2-bit activations (3 levels), Pascal VOC 2007."""

_base_ = ["./yolov2_tiny_strided.py", "../../_base_/quant3.py"]
model = dict(backbone=dict(act_cfg={{_base_.act_cfg}}), bbox_head=dict(act_cfg={{_base_.act_cfg}}))
bench = dict(
    architecture="Tiny YOLOv2, strided convolutions, 2-bit activations (3 levels)",
    methods={{_base_.methods}},
)
