# The rows of every detection table, and the networks that configs name. VOC's metric is a fraction: scale.
custom_imports = dict(
    imports=[
        "snnbench.baselines.spikingjelly",
        "snnbench.networks.resnet",
        "snnbench.networks.yolov2",
        "snnbench.networks.torchvision_detection",
    ],
    allow_failed_imports=False,
)
bench = dict(
    task="detection",
    metric="mAP",
    scale=100.0,
    scope="dense",
    weights=None,
    calibration=dict(images=64),
    methods=[
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[3, 4, 5]),
        dict(label="signed IF", type="SignedIF", timesteps=[4, 8, 16, 32]),
        dict(label="SRP", type="SRP", timesteps=[4, 8, 16], pre_timesteps=4),
        dict(label="LTB", type="LocalThresholdBalancing", timesteps=[8, 16, 32]),
        # the rate norm layer without its training, p = 1: a layer's threshold is its largest activation
        dict(
            label="RNL, untrained (p = 1)",
            type="IF",
            timesteps=[8, 16, 32],
            thresholds="max",
            per_channel=False,
            correction="none",
        ),
        dict(label="SpikingJelly LTB", type="SpikingJelly", recipe="ltb", timesteps=[4, 8, 16, 32]),
        dict(label="SpikingJelly 99.9 %", type="SpikingJelly", recipe="rate", mode="99.9%", timesteps=[4, 8, 16, 32]),
    ],
)
