"""CIFAR-10, ResNet-20 with 2-bit activations, trained on for thirty epochs more.

Starts from the weights that `snnconv train` of resnet20_quant3.py leaves in its work folder.
"""

_base_ = "./resnet20_quant3.py"

epochs = 30
model = dict(
    network=dict(checkpoint=None),
    checkpoint="work_dirs/classification/cifar10/resnet20_quant3/weights.safetensors",
    regularizer=dict(
        teacher=dict(type="CifarResNet", depth=20),
        checkpoint="work_dirs/classification/cifar10/resnet20_finetune/weights.safetensors",
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=epochs, T_max=epochs - 1, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
custom_hooks = [dict(type="EMAHook", momentum=0.002, update_buffers=True)]  # clips go on from the trained ones
bench = dict(architecture="ResNet-20, 2-bit activations (3 levels), second stage")
