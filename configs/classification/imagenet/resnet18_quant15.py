"""ImageNet, ResNet-18 with torchvision's weights, fine-tuned with 4-bit activations (15 levels)."""

_base_ = "../../_base_/imagenet_quant15.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="resnet18")]
model = dict(network=dict(network=dict(type="TorchvisionModel", name="resnet18", weights="DEFAULT")))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(
    architecture="ResNet-18, 4-bit activations (15 levels)",
    calibration=dict(dataset=dict(pipeline=pipeline)),
)
