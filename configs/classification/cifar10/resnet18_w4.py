"""CIFAR-10, ResNet-18 with 4-bit weights and activations (15 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of resnet18.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w4.py"

model = dict(
    network=dict(
        network=dict(type="CifarResNet18"),
        checkpoint="work_dirs/classification/cifar10/resnet18/weights.safetensors",
    ),
)
bench = dict(architecture="ResNet-18, 4-bit weights and activations")
