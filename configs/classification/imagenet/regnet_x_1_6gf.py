"""ImageNet, RegNetX-1.6GF with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="regnet_x_1_6gf")]
model = dict(network=dict(name="regnet_x_1_6gf"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="RegNetX-1.6GF", calibration=dict(dataset=dict(pipeline=pipeline)))
