"""CIFAR-10, ResNet-20 fine-tuned with 4-bit activations (15 levels)."""

_base_ = "../../_base_/cifar10_resnet20_finetune.py"

model = dict(network=dict(activation=dict(type="QuantReLU", levels=15, per_channel=True)))
trained = dict(thresholds="trained", correction="none")
bench = dict(
    architecture="ResNet-20, 4-bit activations (15 levels)",
    methods=[
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[4], **trained),
        dict(label="signed IF", type="SignedIF", timesteps=[15], **trained),
    ],
)
