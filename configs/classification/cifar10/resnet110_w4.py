"""CIFAR-10, ResNet-110 with 4-bit weights and activations (15 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of resnet110.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w4.py"

model = dict(
    network=dict(
        network=dict(type="CifarResNet", depth=110),
        checkpoint="work_dirs/classification/cifar10/resnet110/weights.safetensors",
    ),
)
bench = dict(architecture="ResNet-110, 4-bit weights and activations")
