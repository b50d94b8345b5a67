"""ImageNet, MobileNetV2 with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="mobilenet_v2")]
model = dict(network=dict(name="mobilenet_v2"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="MobileNetV2", calibration=dict(dataset=dict(pipeline=pipeline)))
