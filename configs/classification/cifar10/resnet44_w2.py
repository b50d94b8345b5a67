"""CIFAR-10, ResNet-44 with 2-bit weights and activations (3 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of resnet44_w3.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w2.py"

model = dict(
    network=dict(network=dict(type="CifarResNet", depth=44)),
    checkpoint="work_dirs/classification/cifar10/resnet44_w3/weights.safetensors",
)
bench = dict(architecture="ResNet-44, 2-bit weights and activations")
