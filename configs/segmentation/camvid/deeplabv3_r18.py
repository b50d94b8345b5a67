"""DeepLabv3 on ResNetV1c-18, CamVid."""

_base_ = [
    "../../_base_/seg_camvid.py",
    "../../_base_/seg_deeplabv3_r18.py",
    "../../_base_/seg_sgd_20k.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(
    data_preprocessor={{_base_.data_preprocessor}},
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
)
bench = dict(dataset="CamVid", split="test", architecture="DeepLabv3 ResNetV1c-18")
