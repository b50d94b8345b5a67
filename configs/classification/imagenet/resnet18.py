"""ImageNet, ResNet-18 with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="resnet18")]
model = dict(network=dict(name="resnet18"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="ResNet-18", calibration=dict(dataset=dict(pipeline=pipeline)))
