# ImageNet: 2-bit activations (3 levels), going on from the network with 3 bits. A config names the network and the
# weights that it starts from.
_base_ = "./imagenet_quant15.py"

model = dict(network=dict(activation=dict(levels=3)))
trained = dict(thresholds="trained", correction="none")
bench = dict(
    methods=[
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[2], **trained),
        dict(label="signed IF", type="SignedIF", timesteps=[3], **trained),
        dict(label="signed IF, bias corrected", type="SignedIF", timesteps=[3], thresholds="trained"),
    ],
)
