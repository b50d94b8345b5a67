"""FCOS ResNet-18-FPN, BCCD."""

_base_ = [
    "../../_base_/det_bccd_320.py",
    "../../_base_/det_fcos_r18.py",
    "../../_base_/det_adamw_1500.py",
    "../../_base_/det_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}}, bbox_head=dict(num_classes=3))
bench = dict(dataset="BCCD", split="test", architecture="FCOS ResNet-18-FPN")
