"""CIFAR-10, ResNet-18 fine-tuned with 3-bit activations (7 levels).

Starts from the weights that `snnconv train` of resnet18.py leaves in its work folder.
"""

_base_ = "./resnet20_quant7.py"

model = dict(
    network=dict(
        network=dict(_delete_=True, type="CifarResNet18"),
        checkpoint="work_dirs/classification/cifar10/resnet18/weights.safetensors",
    ),
)
bench = dict(architecture="ResNet-18, 3-bit activations (7 levels)")
