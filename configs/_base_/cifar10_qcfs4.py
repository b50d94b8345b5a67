# CIFAR-10 with QCFS activations of 4 levels, from scratch (arXiv 2302.02091): Cutout and AutoAugment, as its authors.
_base_ = "./cifar10.py"

epochs = 300
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="BatchRandomCrop", padding=4),
            dict(type="BatchFlip"),
            dict(type="BatchAutoAugment", policy="cifar10"),
            dict(type="BatchCutout", size=16),
        ]
    ),
)
qcfs = dict(type="QCFS", levels=4)
optim_wrapper = dict(
    optimizer=dict(lr=0.02, weight_decay=5e-4, nesterov=False),
    paramwise_cfg=dict(custom_keys={"clip": dict(decay_mult=0.0)}),
)
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=epochs)
trained = dict(thresholds="trained", correction="none")
bench = dict(
    methods=[
        dict(label="SRP", type="SRP", timesteps=[1, 2, 4, 8, 16, 32], pre_timesteps=4, **trained),
        dict(label="IF", type="IF", timesteps=[5, 6, 8, 12, 20, 36], **trained),
    ],
)
