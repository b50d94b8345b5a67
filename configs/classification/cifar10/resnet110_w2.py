"""CIFAR-10, ResNet-110 with 2-bit weights and activations (3 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of resnet110_w3.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w2.py"

model = dict(
    network=dict(network=dict(type="CifarResNet", depth=110)),
    checkpoint="work_dirs/classification/cifar10/resnet110_w3/weights.safetensors",
)
bench = dict(architecture="ResNet-110, 2-bit weights and activations")
