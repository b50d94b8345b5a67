"""CIFAR-10, ResNet-20 fine-tuned with 4-bit activations (15 levels).

Starts from, and learns from, the weights that `snnconv train` of resnet20_finetune.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_resnet20_finetune.py"

model = dict(
    network=dict(
        checkpoint="work_dirs/classification/cifar10/resnet20_finetune/weights.safetensors",
        activation=dict(type="QuantReLU", levels=15, per_channel=True),
    )
)
trained = dict(thresholds="trained", correction="none")
bench = dict(
    architecture="ResNet-20, 4-bit activations (15 levels)",
    methods=[
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[4], **trained),
        dict(label="signed IF", type="SignedIF", timesteps=[15], **trained),
    ],
)
