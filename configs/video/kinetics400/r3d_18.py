"""Kinetics-400, R3D-18 with torchvision's weights."""

_base_ = "../../_base_/kinetics400.py"

pipeline = [dict(type="PretrainedClip", name="r3d_18")]
model = dict(network=dict(name="r3d_18"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="R3D-18", calibration=dict(dataset=dict(pipeline=pipeline)))
