"""ImageNet, VGG-16 (BatchNorm) with torchvision's weights."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="vgg16_bn")]
model = dict(network=dict(name="vgg16_bn"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="VGG-16 (BatchNorm)", calibration=dict(dataset=dict(pipeline=pipeline)))
