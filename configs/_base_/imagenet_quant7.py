# ImageNet: 3-bit activations (7 levels), going on from the network with 4 bits, as Fast-SNN (arXiv 2305.19868) goes
# down bit by bit. A config names the network and the weights that it starts from.
_base_ = "./imagenet_quant15.py"

model = dict(network=dict(activation=dict(levels=7)))
trained = dict(thresholds="trained", correction="none")
bench = dict(
    methods=[
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[3], **trained),
        dict(label="signed IF", type="SignedIF", timesteps=[7], **trained),
        dict(label="signed IF, bias corrected", type="SignedIF", timesteps=[7], thresholds="trained"),
    ],
)
