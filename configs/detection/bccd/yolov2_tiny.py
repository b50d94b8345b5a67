"""Tiny YOLOv2 with ReLU, BCCD."""

_base_ = [
    "../../_base_/det_bccd_416.py",
    "../../_base_/det_yolov2_tiny.py",
    "../../_base_/det_adamw_1500.py",
    "../../_base_/det_methods.py",
    "../../_base_/runtime.py",
]
anchors = [[0.81, 1.04], [1.87, 2.87], [2.06, 2.31], [2.38, 2.97], [4.30, 5.21]]  # k-means on BCCD, mean IoU 0.85
model = dict(data_preprocessor={{_base_.data_preprocessor}}, bbox_head=dict(num_classes=3, anchors=anchors))
bench = dict(dataset="BCCD", split="test", architecture="Tiny YOLOv2")
