"""CIFAR-10, ResNet-20 fine-tuned with 3-bit activations (7 levels).

Starts from, and learns from, the weights that `snnconv train` of resnet20_finetune.py leaves in its work folder.
"""

_base_ = "../../_base_/cifar10_resnet20_long.py"

model = dict(
    network=dict(
        checkpoint="work_dirs/classification/cifar10/resnet20_finetune/weights.safetensors",
        activation=dict(type="QuantReLU", levels=7, per_channel=True),
    )
)
trained = dict(thresholds="trained", correction="none")
bench = dict(
    architecture="ResNet-20, 3-bit activations (7 levels)",
    methods=[
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[3], **trained),
        dict(label="signed IF", type="SignedIF", timesteps=[7], **trained),
        dict(label="signed IF, bias corrected", type="SignedIF", timesteps=[7], thresholds="trained"),
        dict(
            label="signed IF, fine-tuned",
            type="SignedIF",
            timesteps=[7],
            finetune=dict(images=2000, epochs=1),
            **trained,
        ),
        dict(
            label="signed IF, bias corrected, fine-tuned",
            type="SignedIF",
            timesteps=[7],
            thresholds="trained",
            finetune=dict(images=2000, epochs=1),
        ),
        dict(label="IF", type="IF", timesteps=[7], **trained),
        dict(label="IF, fine-tuned", type="IF", timesteps=[7], finetune=dict(images=2000, epochs=1), **trained),
    ],
)
