"""ImageNet, VGG-16 (BatchNorm) with torchvision's weights, fine-tuned with 4-bit activations (15 levels)."""

_base_ = "../../_base_/imagenet_quant15.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="vgg16_bn")]
model = dict(network=dict(network=dict(type="TorchvisionModel", name="vgg16_bn", weights="DEFAULT")))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(
    architecture="VGG-16 (BatchNorm), 4-bit activations (15 levels)",
    calibration=dict(dataset=dict(pipeline=pipeline)),
)
