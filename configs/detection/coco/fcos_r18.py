"""FCOS ResNet-18-FPN, COCO 2017."""

_base_ = [
    "../../_base_/det_coco.py",
    "../../_base_/det_fcos_r18.py",
    "../../_base_/det_sgd_12e.py",
    "../../_base_/det_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}})
bench = dict(dataset="COCO 2017", split="val2017", architecture="FCOS ResNet-18-FPN", metric="bbox_mAP")
