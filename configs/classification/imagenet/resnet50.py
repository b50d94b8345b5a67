"""ImageNet, ResNet-50 with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="resnet50")]
model = dict(network=dict(name="resnet50"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="ResNet-50", calibration=dict(dataset=dict(pipeline=pipeline)))
