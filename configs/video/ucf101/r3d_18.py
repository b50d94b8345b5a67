"""UCF101 (split 1), R3D-18 fine-tuned from torchvision's weights."""

_base_ = "../../_base_/ucf101.py"

pipeline = [dict(type="PretrainedClip", name="r3d_18")]
model = dict(network=dict(name="r3d_18"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="R3D-18")
