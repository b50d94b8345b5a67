# DeepLabv3 on a dilated ResNetV1c-18.
_base_ = "./seg_deeplabv3_r50.py"
model = dict(
    pretrained="open-mmlab://resnet18_v1c",
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64),
)
