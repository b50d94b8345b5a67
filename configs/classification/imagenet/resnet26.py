"""ImageNet, ResNet-26 with timm's weights."""

_base_ = "../../_base_/imagenet.py"

name = "resnet26.bt_in1k"
pipeline = [dict(type="PretrainedTransform", source="timm", name=name)]
model = dict(network=dict(_delete_=True, type="TimmModel", name=name, pretrained=True))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="ResNet-26", calibration=dict(dataset=dict(pipeline=pipeline)))
