# Fast-SNN's protocol (arXiv 2305.19868) on CIFAR-10: APoT weights of as many bits as the activations, 8 bits in the
# first and the last layer; 4 bits from the network with ReLU, then 3 bits from 4, and 2 from 3. A config names the
# network and the weights that it starts from.
_base_ = "./cifar10.py"

epochs = 100
model = dict(
    network=dict(
        type="Prepared",
        activation=dict(type="QuantReLU", levels=15, clip=8.0, lsq_scale=False),
        weights=dict(bits=4, ends=8),
    ),
    label_smoothing=0.0,
)
optim_wrapper = dict(
    optimizer=dict(lr=0.04, weight_decay=1e-4, nesterov=False),
    paramwise_cfg=dict(custom_keys={"clip": dict(decay_mult=0.0)}),
)
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=epochs)
custom_hooks = []  # the clips start at 8, as the authors have them
trained = dict(thresholds="trained", correction="none")
bench = dict(
    methods=[
        dict(label="signed IF", type="SignedIF", timesteps=[15], **trained),
        dict(
            label="signed IF, fine-tuned",
            type="SignedIF",
            timesteps=[15],
            finetune=dict(epochs=1, images=2000),
            **trained,
        ),
        dict(label="IF", type="IF", timesteps=[15], **trained),
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[4], **trained),
    ]
)
