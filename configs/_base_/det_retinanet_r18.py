# RetinaNet on ResNet-18-FPN.
_base_ = "./det_retinanet_r50.py"
model = dict(
    backbone=dict(depth=18, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18")),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
