"""CIFAR-10, ResNet-56 with 4-bit weights and activations (15 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of resnet56.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w4.py"

model = dict(
    network=dict(
        network=dict(type="CifarResNet", depth=56),
        checkpoint="work_dirs/classification/cifar10/resnet56/weights.safetensors",
    ),
)
bench = dict(architecture="ResNet-56, 4-bit weights and activations")
