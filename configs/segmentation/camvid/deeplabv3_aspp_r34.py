"""DeepLabv3-ResNet-34+ASPP of Fast-SNN, CamVid."""

_base_ = [
    "../../_base_/seg_camvid.py",
    "../../_base_/seg_deeplabv3_aspp_r34.py",
    "../../_base_/seg_adamw_6k.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}}, decode_head=dict(num_classes=11))
bench = dict(dataset="CamVid", split="test", architecture="DeepLabv3 ResNet-34 + ASPP")
