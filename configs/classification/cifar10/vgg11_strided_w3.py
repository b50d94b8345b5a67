"""CIFAR-10, VGG-11 with strides with 3-bit weights and activations (7 levels), Fast-SNN's protocol.

Starts from the weights that `snnconv train` of vgg11_strided_w4.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_fast_snn_w3.py"

model = dict(
    network=dict(network=dict(type="StridedVGG11")),
    checkpoint="work_dirs/classification/cifar10/vgg11_strided_w4/weights.safetensors",
)
bench = dict(architecture="VGG-11 with strides, 3-bit weights and activations")
