"""CIFAR-10, ResNet-20 fine-tuned with rate norm layers (arXiv 2105.11654), first stage: p stays fixed."""

_base_ = "../../_base_/cifar10_resnet20_finetune.py"

epochs = 2
model = dict(
    network=dict(activation=dict(type="RateNorm", scaled=True)),
    regularizer=None,
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=epochs, T_max=epochs - 1, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={".p": dict(lr_mult=0.0, decay_mult=0.0)}))
bench = dict(
    architecture="ResNet-20, rate norm",
    methods=[
        dict(label="RNL", type="RateNorm", timesteps=[4, 8, 16, 32, 64, 128, 256]),
        # the typical method: thresholds are the largest activations of the network with ReLU
        dict(
            label="largest activation",
            type="IF",
            timesteps=[4, 8, 16, 32, 64, 128, 256],
            thresholds="max",
            per_channel=False,
            correction="none",
        ),
    ],
)
