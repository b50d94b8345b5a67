"""ImageNet, VGG-16 (BatchNorm) fine-tuned with 2-bit activations (3 levels).

Starts from the weights that `snnconv train` of vgg16_bn_quant7.py leaves in its work folder.
"""

_base_ = "../../_base_/imagenet_quant3.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="vgg16_bn")]
model = dict(
    network=dict(network=dict(type="TorchvisionModel", name="vgg16_bn", weights=None)),
    checkpoint="work_dirs/classification/imagenet/vgg16_bn_quant7/weights.safetensors",
)
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(
    architecture="VGG-16 (BatchNorm), 2-bit activations (3 levels)",
    calibration=dict(dataset=dict(pipeline=pipeline)),
)
