"""ImageNet, ResNet-34, from scratch with QCFS activations (8 levels); SRP with τ = 8."""

_base_ = "../../_base_/imagenet_qcfs_scratch.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="resnet34")]
model = dict(
    network=dict(network=dict(type="TorchvisionModel", name="resnet34", weights=None), activation=dict(levels=8))
)
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
trained = dict(thresholds="trained", correction="none")
bench = dict(
    architecture="ResNet-34, QCFS (8 levels), from scratch",
    calibration=dict(dataset=dict(pipeline=pipeline)),
    methods=[
        dict(label="SRP", type="SRP", timesteps=[1, 2, 4, 8], pre_timesteps=8, **trained),
        dict(label="IF", type="IF", timesteps=[9, 10, 12, 16], **trained),
    ],
)
