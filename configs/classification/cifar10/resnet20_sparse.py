"""CIFAR-10, ResNet-20 with 4-bit activations, trained on towards few one-bits (arXiv 2312.06900): fewer spikes.

Starts from the weights that `snnconv train` of resnet20_quant15.py leaves in its work folder; results beside those of
that config. More or less: --cfg-options model.regularizer.0.coefficient=3e-5.
"""

_base_ = "./resnet20_quant15.py"

epochs = 4
model = dict(
    network=dict(checkpoint=None),
    checkpoint="work_dirs/classification/cifar10/resnet20_quant15/weights.safetensors",
    regularizer=[
        dict(type="BitSparsity", coefficient=1.8e-4, schedule="linear", span=0.3, weighting="synapses"),
        dict(
            type="Distillation",
            teacher=dict(type="CifarResNet", depth=20),
            checkpoint="work_dirs/classification/cifar10/resnet20_finetune/weights.safetensors",
        ),
    ],
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=epochs, T_max=epochs - 1, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
custom_hooks = [dict(type="EMAHook", momentum=0.002, update_buffers=True)]  # clips go on from the trained ones
bench = dict(architecture="ResNet-20, 4-bit activations (15 levels), bit sparsity")
