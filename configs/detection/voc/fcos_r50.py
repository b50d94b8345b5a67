"""FCOS ResNet-50-FPN, Pascal VOC 2007."""

_base_ = [
    "../../_base_/det_voc.py",
    "../../_base_/det_fcos_r50.py",
    "../../_base_/det_sgd_12e.py",
    "../../_base_/det_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}}, bbox_head=dict(num_classes=20))
bench = dict(dataset="Pascal VOC 2007", split="test", architecture="FCOS ResNet-50-FPN")
