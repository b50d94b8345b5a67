"""ImageNet, AlexNet fine-tuned with 2-bit activations (3 levels).

Starts from the weights that `snnconv train` of alexnet_quant7.py leaves in its work folder.
"""

_base_ = "../../_base_/imagenet_quant3.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="alexnet")]
model = dict(
    network=dict(network=dict(type="TorchvisionModel", name="alexnet", weights=None)),
    checkpoint="work_dirs/classification/imagenet/alexnet_quant7/weights.safetensors",
)
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(
    architecture="AlexNet, 2-bit activations (3 levels)",
    calibration=dict(dataset=dict(pipeline=pipeline)),
)
