"""ImageNet, AlexNet with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="alexnet")]
model = dict(network=dict(name="alexnet"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="AlexNet", calibration=dict(dataset=dict(pipeline=pipeline)))
