"""EfficientNet-Lite0 on 500 training pictures of ImageNet, one a class, where there is neither ImageNet nor a network.

128 others calibrate. The network was trained on both, so that its top-1 is no test accuracy; what counts is how far a
converted one is from it.
"""

_base_ = "./efficientnet_lite0.py"

samples = "dataset:imagenet_samples/val"
test_dataloader = dict(dataset=dict(root=samples, indices=list(range(128, 628))))
bench = dict(
    dataset="ImageNet training pictures",
    split="train",
    calibration=dict(images=128, batch_size=32, dataset=dict(root=samples, indices=128)),
    methods=[
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[4, 5, 6, 8]),
        dict(
            label="shifted threshold, reconstructed",
            type="ShiftedThreshold",
            correction="reconstruct",
            timesteps=[4, 5],
        ),
        dict(label="differential multi-threshold", type="MultiThreshold", timesteps=[4, 8]),
        dict(label="signed IF", type="SignedIF", timesteps=[8, 16]),
    ],
)
