"""ImageNet, AlexNet with torchvision's weights, fine-tuned with 4-bit activations (15 levels)."""

_base_ = "../../_base_/imagenet_quant15.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="alexnet")]
model = dict(
    network=dict(network=dict(type="TorchvisionModel", name="alexnet", weights="DEFAULT")),
)
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(
    architecture="AlexNet, 4-bit activations (15 levels)",
    calibration=dict(dataset=dict(pipeline=pipeline)),
)
