# What every video run shares beside the classification's: the networks for clips, the metric, the rows.
_base_ = ["./cls_runtime.py"]

custom_imports = dict(imports=["snnbench.networks.video", "snnbench.baselines.spikingjelly"])
test_evaluator = dict(type="ClipTopK")
bench = dict(
    task="video",
    metric="top1",
    scope="dense",
    weights=None,
    calibration=dict(images=128),
    methods=[
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[3, 4, 5]),
        dict(label="signed IF", type="SignedIF", timesteps=[4, 8, 16, 32]),
        dict(label="SRP", type="SRP", timesteps=[4, 8, 16], pre_timesteps=4),
        dict(label="IF", type="IF", timesteps=[4, 8, 16, 32]),
        dict(label="LTB", type="LocalThresholdBalancing", timesteps=[8, 16, 32]),
    ],
)
