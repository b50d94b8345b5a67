"""Kinetics-400, S3D with torchvision's weights: one clip of 128 frames a video."""

_base_ = "../../_base_/kinetics400.py"

pipeline = [dict(type="PretrainedClip", name="s3d")]
model = dict(network=dict(name="s3d"))
test_dataloader = dict(batch_size=1, dataset=dict(frames=128, clips=1, pipeline=pipeline))
bench = dict(architecture="S3D", calibration=dict(images=32, dataset=dict(frames=128, pipeline=pipeline)))
