"""ImageNet, RegNetX-3.2GF with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="regnet_x_3_2gf")]
model = dict(network=dict(name="regnet_x_3_2gf"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="RegNetX-3.2GF", calibration=dict(dataset=dict(pipeline=pipeline)))
