"""CIFAR-10, ResNet-110 with 3-bit weights and activations (7 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of resnet110_w4.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w3.py"

model = dict(
    network=dict(network=dict(type="CifarResNet", depth=110)),
    checkpoint="work_dirs/classification/cifar10/resnet110_w4/weights.safetensors",
)
bench = dict(architecture="ResNet-110, 3-bit weights and activations")
