"""CIFAR-10, ResNet-20 with 4-bit activations and bit sparsity, trained on towards still fewer spikes.

Starts from the weights that `snnconv train` of resnet20_sparse.py leaves in its work folder.
"""

_base_ = "./resnet20_sparse.py"

epochs = 3
model = dict(
    checkpoint="work_dirs/classification/cifar10/resnet20_sparse/weights.safetensors",
    regularizer=[
        dict(type="BitSparsity", coefficient=2.5e-4, weighting="synapses"),
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
bench = dict(architecture="ResNet-20, 4-bit activations (15 levels), bit sparsity, second stage")
