"""Kinetics-400, R(2+1)D-18 with torchvision's weights."""

_base_ = "../../_base_/kinetics400.py"

pipeline = [dict(type="PretrainedClip", name="r2plus1d_18")]
model = dict(network=dict(name="r2plus1d_18"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="R(2+1)D-18", calibration=dict(dataset=dict(pipeline=pipeline)))
