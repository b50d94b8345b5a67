"""Tiny YOLOv2, strided convolutions with ReLU, COCO 2017."""

_base_ = [
    "../../_base_/det_coco_416.py",
    "../../_base_/det_yolov2_tiny_strided.py",
    "../../_base_/det_yolov2_250e.py",
    "../../_base_/det_methods.py",
    "../../_base_/runtime.py",
]
anchors = [[0.53, 0.79], [1.71, 2.36], [2.89, 6.44], [6.33, 3.79], [9.03, 9.74]]  # k-means on COCO, as in Fast-SNN
model = dict(data_preprocessor={{_base_.data_preprocessor}}, bbox_head=dict(num_classes=80, anchors=anchors))
bench = dict(dataset="COCO 2017", split="val2017", architecture="Tiny YOLOv2, strided convolutions", metric="bbox_mAP")
