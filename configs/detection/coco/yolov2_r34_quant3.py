"""YOLOv2-ResNet-34 of Fast-SNN trained with 2-bit activations (3 levels), COCO 2017."""

_base_ = ["./yolov2_r34.py", "../../_base_/quant3.py"]
model = dict(
    backbone=dict(act_cfg={{_base_.act_cfg}}),
    neck=dict(act_cfg={{_base_.act_cfg}}),
    bbox_head=dict(act_cfg={{_base_.act_cfg}}),
)
bench = dict(
    architecture="YOLOv2 ResNet-34, 2-bit activations (3 levels)",
    methods={{_base_.methods}},
)
