"""CIFAR-10, ResNet-32 with 2-bit weights and activations (3 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of resnet32_w3.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w2.py"

model = dict(
    network=dict(network=dict(type="CifarResNet", depth=32)),
    checkpoint="work_dirs/classification/cifar10/resnet32_w3/weights.safetensors",
)
bench = dict(architecture="ResNet-32, 2-bit weights and activations")
