"""ImageNet, ResNet-34 with local threshold balancing for 1,000 and 5,000 batches (arXiv 2409.03368, section 5.3)."""

_base_ = "./resnet34.py"

balanced = dict(
    type="LocalThresholdBalancing", timesteps=[32, 64, 128, 256, 512], tolerance=0, calibration_samples=10_000
)
bench = dict(
    architecture="ResNet-34, balanced longer",
    calibration=dict(images=10_000),
    methods=[
        dict(label="LTB, 1,000 batches", max_batches=1000, **balanced),
        dict(label="LTB, 5,000 batches", max_batches=5000, **balanced),
    ],
)
