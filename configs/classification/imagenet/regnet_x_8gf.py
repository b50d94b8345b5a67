"""ImageNet, RegNetX-8GF with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="regnet_x_8gf")]
model = dict(network=dict(name="regnet_x_8gf"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="RegNetX-8GF", calibration=dict(dataset=dict(pipeline=pipeline)))
