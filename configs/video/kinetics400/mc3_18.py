"""Kinetics-400, MC3-18 with torchvision's weights."""

_base_ = "../../_base_/kinetics400.py"

pipeline = [dict(type="PretrainedClip", name="mc3_18")]
model = dict(network=dict(name="mc3_18"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="MC3-18", calibration=dict(dataset=dict(pipeline=pipeline)))
