# Kinetics-400's validation videos, and a network that comes trained: no training here. 5 clips of 16 frames a video at
# 15 frames a second, whose scores are averaged. A config names the network and its transform.
_base_ = "./vid_runtime.py"

model = dict(
    type="VideoClassifier",
    network=dict(type="TorchvisionModel", weights="DEFAULT"),
    data_preprocessor=dict(
        type="ClipPreprocessor", mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989), channels_last=True
    ),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="VideoFolder", root="dataset:kinetics400/val", classes="kinetics400", frames=16, clips=5, rate=15.0
    ),
)
bench = dict(
    dataset="Kinetics-400",
    split="val",
    weights="model",
    calibration=dict(
        images=64,
        batch_size=2,
        dataset=dict(
            type="VideoFolder",
            root="dataset:kinetics400/train",
            classes="kinetics400",
            frames=16,
            clips="random",
            rate=15.0,
        ),
    ),
    profile_images=1,
)
