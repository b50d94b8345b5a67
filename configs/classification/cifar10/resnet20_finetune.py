"""CIFAR-10, ResNet-20 with ReLU, trained on for as long as the networks with trained activations: their baseline."""

_base_ = "../../_base_/cifar10_resnet20_finetune.py"

model = dict(
    network=dict(_delete_=True, type="CifarResNet", depth=20),
    checkpoint="dataset:resnet20_cifar10.safetensors",
    regularizer=None,
)
custom_hooks = [dict(type="EMAHook", momentum=0.002, update_buffers=True)]
bench = dict(architecture="ResNet-20, ReLU, fine-tuned")
