# Fast-SNN's protocol on CIFAR-10 with 2 bits; the clips go on from those of 3 bits.
_base_ = "./cifar10_fast_snn_w4.py"

model = dict(network=dict(activation=dict(levels=3), weights=dict(bits=2)))
optim_wrapper = dict(optimizer=dict(weight_decay=3e-5))
trained = dict(thresholds="trained", correction="none")
bench = dict(
    methods=[
        dict(label="signed IF", type="SignedIF", timesteps=[3], **trained),
        dict(
            label="signed IF, fine-tuned",
            type="SignedIF",
            timesteps=[3],
            finetune=dict(epochs=1, images=2000),
            **trained,
        ),
        dict(label="IF", type="IF", timesteps=[3], **trained),
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[2], **trained),
    ]
)
