"""FCN on ResNetV1c-18, COCO 2017, VOC classes."""

_base_ = [
    "../../_base_/seg_coco_voc.py",
    "../../_base_/seg_fcn_r18.py",
    "../../_base_/seg_sgd_80k.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}})
bench = dict(dataset="COCO 2017, VOC classes", split="val2017", architecture="FCN ResNetV1c-18")
