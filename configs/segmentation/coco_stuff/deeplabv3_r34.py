"""DeepLabv3 on ResNetV1c-34, COCO-Stuff."""

_base_ = [
    "../../_base_/seg_coco_stuff.py",
    "../../_base_/seg_deeplabv3_r34.py",
    "../../_base_/seg_sgd_80k.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(
    data_preprocessor={{_base_.data_preprocessor}},
    decode_head=dict(num_classes=171),
    auxiliary_head=dict(num_classes=171),
)
bench = dict(dataset="COCO-Stuff", split="val2017", architecture="DeepLabv3 ResNetV1c-34")
