"""CIFAR-10, ResNet-20 fine-tuned with QCFS activations (8 levels); SRP beside IF at the same latency τ + T."""

_base_ = "../../_base_/cifar10_resnet20_finetune.py"

model = dict(network=dict(activation=dict(type="QCFS", levels=8, per_channel=True, gradient="lsq")))
trained = dict(thresholds="trained", correction="none")
bench = dict(
    architecture="ResNet-20, QCFS (8 levels)",
    methods=[
        dict(label="SRP", type="SRP", timesteps=[1, 2, 4, 8], pre_timesteps=4, **trained),
        dict(label="IF", type="IF", timesteps=[5, 6, 8, 12], **trained),
    ],
)
