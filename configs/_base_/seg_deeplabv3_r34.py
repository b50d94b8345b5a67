# DeepLabv3 on a dilated ResNetV1c-34; torchvision's ResNet-34 initialises everything behind the stem.
_base_ = "./seg_deeplabv3_r18.py"
model = dict(pretrained="torchvision://resnet34", backbone=dict(depth=34))
