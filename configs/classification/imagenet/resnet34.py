"""ImageNet, ResNet-34 with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="resnet34")]
model = dict(network=dict(name="resnet34"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="ResNet-34", calibration=dict(dataset=dict(pipeline=pipeline)))
