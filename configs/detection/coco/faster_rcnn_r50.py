"""Faster R-CNN on ResNet-50-FPN, COCO 2017."""

_base_ = [
    "../../_base_/det_coco.py",
    "../../_base_/det_faster_rcnn_r50.py",
    "../../_base_/det_sgd_12e.py",
    "../../_base_/det_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}})
optim_wrapper = dict(optimizer=dict(lr=0.02))
bench = dict(dataset="COCO 2017", split="val2017", architecture="Faster R-CNN ResNet-50-FPN", metric="bbox_mAP")
