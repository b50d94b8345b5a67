"""YOLOv2-ResNet-34 of Fast-SNN trained with 3-bit activations (7 levels), Pascal VOC 2007."""

_base_ = ["./yolov2_r34.py", "../../_base_/quant7.py"]
model = dict(
    backbone=dict(act_cfg={{_base_.act_cfg}}),
    neck=dict(act_cfg={{_base_.act_cfg}}),
    bbox_head=dict(act_cfg={{_base_.act_cfg}}),
)
bench = dict(
    architecture="YOLOv2 ResNet-34, 3-bit activations (7 levels)",
    methods={{_base_.methods}},
)
