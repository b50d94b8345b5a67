"""CIFAR-10, ResNet-18 with 2-bit weights and activations (3 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of resnet18_w3.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w2.py"

model = dict(
    network=dict(network=dict(type="CifarResNet18")),
    checkpoint="work_dirs/classification/cifar10/resnet18_w3/weights.safetensors",
)
bench = dict(architecture="ResNet-18, 2-bit weights and activations")
