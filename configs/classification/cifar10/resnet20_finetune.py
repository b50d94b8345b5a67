"""CIFAR-10, ResNet-20 with ReLU, trained on from the given weights at a large learning rate: the baseline, and the
start and teacher of the networks with trained activations."""

_base_ = "../../_base_/cifar10.py"

epochs = 24
model = dict(
    network=dict(type="CifarResNet", depth=20),
    checkpoint="dataset:resnet20_cifar10.safetensors",
    label_smoothing=0.0,
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=epochs, T_max=epochs - 1, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
bench = dict(architecture="ResNet-20, ReLU, fine-tuned")
