"""DeepLabv3 on ResNetV1c-18, COCO 2017, VOC classes."""

_base_ = [
    "../../_base_/seg_coco_voc.py",
    "../../_base_/seg_deeplabv3_r18.py",
    "../../_base_/seg_sgd_80k.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}})
bench = dict(dataset="COCO 2017, VOC classes", split="val2017", architecture="DeepLabv3 ResNetV1c-18")
