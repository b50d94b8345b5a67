"""UCF101 (split 1), MC3-18 fine-tuned from torchvision's weights."""

_base_ = "../../_base_/ucf101.py"

pipeline = [dict(type="PretrainedClip", name="mc3_18")]
model = dict(network=dict(name="mc3_18"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(architecture="MC3-18")
