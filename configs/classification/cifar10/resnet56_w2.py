"""CIFAR-10, ResNet-56 with 2-bit weights and activations (3 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of resnet56_w3.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w2.py"

model = dict(
    network=dict(network=dict(type="CifarResNet", depth=56)),
    checkpoint="work_dirs/classification/cifar10/resnet56_w3/weights.safetensors",
)
bench = dict(architecture="ResNet-56, 2-bit weights and activations")
