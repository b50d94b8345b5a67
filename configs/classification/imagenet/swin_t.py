"""ImageNet, Swin-T with torchvision's weights: its activations are GELU, so that the report says what spikes."""

_base_ = "../../_base_/imagenet.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="swin_t")]
model = dict(network=dict(name="swin_t"))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
bench = dict(
    architecture="Swin-T",
    calibration=dict(dataset=dict(pipeline=pipeline)),
    methods=[dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[4, 6, 8])],
)
