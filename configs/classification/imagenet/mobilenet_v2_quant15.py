"""ImageNet, MobileNetV2 with torchvision's weights, fine-tuned with 4-bit activations (15 levels)."""

_base_ = "../../_base_/imagenet_quant15.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="mobilenet_v2")]
model = dict(network=dict(network=dict(type="TorchvisionModel", name="mobilenet_v2", weights="DEFAULT")))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(
    architecture="MobileNetV2, 4-bit activations (15 levels)",
    calibration=dict(dataset=dict(pipeline=pipeline)),
)
