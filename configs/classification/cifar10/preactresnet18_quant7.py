"""CIFAR-10, PreActResNet-18 fine-tuned with 3-bit activations (7 levels).

Starts from the weights that `snnconv train` of preactresnet18.py leaves in its work folder.
"""

_base_ = "./resnet20_quant7.py"

model = dict(
    network=dict(
        network=dict(_delete_=True, type="CifarPreActResNet18"),
        checkpoint="work_dirs/classification/cifar10/preactresnet18/weights.safetensors",
    ),
)
bench = dict(architecture="PreActResNet-18, 3-bit activations (7 levels)")
