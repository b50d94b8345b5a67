"""CIFAR-10, ResNet-32 with 4-bit weights and activations (15 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of resnet32.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w4.py"

model = dict(
    network=dict(
        network=dict(type="CifarResNet", depth=32),
        checkpoint="work_dirs/classification/cifar10/resnet32/weights.safetensors",
    ),
)
bench = dict(architecture="ResNet-32, 4-bit weights and activations")
