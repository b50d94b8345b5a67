# ImageNet: a network with torchvision's weights, fine-tuned for three epochs with 4-bit activations (15 levels). A
# config names the network, and the transform that belongs to its weights.
_base_ = "./imagenet.py"

epochs = 3
model = dict(network=dict(_delete_=True, type="Prepared", activation=dict(type="QuantReLU", levels=15)))
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="ImageFolder",
        root="dataset:imagenet/train",
        classes="imagenet",
        pipeline=[dict(type="RandomResizedCropFlip", size=224)],
    ),
)
val_dataloader = {{_base_.test_dataloader}}
val_evaluator = dict(type="TopK")
val_cfg = dict(type="ValLoop")
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="auto",
    optimizer=dict(type="SGD", lr=0.005, momentum=0.9, weight_decay=1e-4, nesterov=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={"clip": dict(decay_mult=0.0)}),
)
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=1)
custom_hooks = [dict(type="CalibrateHook", images=512), dict(type="EMAHook", momentum=0.0005, update_buffers=True)]
trained = dict(thresholds="trained", correction="none")
bench = dict(
    weights=None,
    methods=[
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[4], **trained),
        dict(label="signed IF", type="SignedIF", timesteps=[15], **trained),
        dict(label="signed IF, bias corrected", type="SignedIF", timesteps=[15], thresholds="trained"),
    ],
)
