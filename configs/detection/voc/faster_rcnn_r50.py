"""Faster R-CNN on ResNet-50-FPN, Pascal VOC 2007."""

_base_ = [
    "../../_base_/det_voc.py",
    "../../_base_/det_faster_rcnn_r50.py",
    "../../_base_/det_sgd_12e.py",
    "../../_base_/det_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}}, roi_head=dict(bbox_head=dict(num_classes=20)))
optim_wrapper = dict(optimizer=dict(lr=0.02))
bench = dict(dataset="Pascal VOC 2007", split="test", architecture="Faster R-CNN ResNet-50-FPN")
