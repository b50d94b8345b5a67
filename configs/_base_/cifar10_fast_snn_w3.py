# Fast-SNN's protocol on CIFAR-10 with 3 bits; the clips go on from those of 4 bits.
_base_ = "./cifar10_fast_snn_w4.py"

model = dict(network=dict(activation=dict(levels=7), weights=dict(bits=3)))
trained = dict(thresholds="trained", correction="none")
bench = dict(
    methods=[
        dict(label="signed IF", type="SignedIF", timesteps=[7], **trained),
        dict(
            label="signed IF, fine-tuned",
            type="SignedIF",
            timesteps=[7],
            finetune=dict(epochs=1, images=2000),
            **trained,
        ),
        dict(label="IF", type="IF", timesteps=[7], **trained),
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[3], **trained),
    ]
)
