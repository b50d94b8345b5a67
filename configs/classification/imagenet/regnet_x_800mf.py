"""ImageNet, RegNetX-800MF with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="regnet_x_800mf")]
model = dict(network=dict(name="regnet_x_800mf"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="RegNetX-800MF", calibration=dict(dataset=dict(pipeline=pipeline)))
