"""CIFAR-10, VGG-16 fine-tuned with 3-bit activations (7 levels).

Starts from the weights that `snnconv train` of vgg16.py leaves in its work folder.
"""

_base_ = "./resnet20_quant7.py"

model = dict(
    network=dict(
        network=dict(_delete_=True, type="CifarVGG", depth=16),
        checkpoint="work_dirs/classification/cifar10/vgg16/weights.safetensors",
    ),
)
bench = dict(architecture="VGG-16, 3-bit activations (7 levels)")
