"""FCN on ResNetV1c-50, COCO-Stuff."""

_base_ = [
    "../../_base_/seg_coco_stuff.py",
    "../../_base_/seg_fcn_r50.py",
    "../../_base_/seg_sgd_80k.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(
    data_preprocessor={{_base_.data_preprocessor}},
    decode_head=dict(num_classes=171),
    auxiliary_head=dict(num_classes=171),
)
bench = dict(dataset="COCO-Stuff", split="val2017", architecture="FCN ResNetV1c-50")
