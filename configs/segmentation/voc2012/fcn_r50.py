"""FCN on ResNetV1c-50, Pascal VOC 2012."""

_base_ = [
    "../../_base_/seg_voc2012.py",
    "../../_base_/seg_fcn_r50.py",
    "../../_base_/seg_sgd_20k.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}})
bench = dict(dataset="Pascal VOC 2012", split="val", architecture="FCN ResNetV1c-50")
