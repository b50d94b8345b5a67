"""ImageNet, VGG-16, from scratch with QCFS activations (16 levels); SRP with τ = 14."""

_base_ = "../../_base_/imagenet_qcfs_scratch.py"

pipeline = [dict(type="PretrainedTransform", source="torchvision", name="vgg16_bn")]
model = dict(
    network=dict(network=dict(type="TorchvisionModel", name="vgg16_bn", weights=None), activation=dict(levels=16))
)
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
trained = dict(thresholds="trained", correction="none")
bench = dict(
    architecture="VGG-16, QCFS (16 levels), from scratch",
    calibration=dict(dataset=dict(pipeline=pipeline)),
    methods=[
        dict(label="SRP", type="SRP", timesteps=[1, 2, 4, 8], pre_timesteps=14, **trained),
        dict(label="IF", type="IF", timesteps=[15, 16, 18, 22], **trained),
    ],
)
