"""ImageNet, RegNetX-400MF with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="regnet_x_400mf")]
model = dict(network=dict(name="regnet_x_400mf"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="RegNetX-400MF", calibration=dict(dataset=dict(pipeline=pipeline)))
