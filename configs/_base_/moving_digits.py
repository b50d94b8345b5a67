# scikit-learn's digits in motion, 40 classes (digit × direction), written as MP4 files into the cache on first use.
_base_ = "./vid_runtime.py"

epochs = 8
model = dict(
    type="VideoClassifier",
    network=dict(type="SmallR3D", num_classes=40),
    data_preprocessor=dict(type="ClipPreprocessor", mean=(0.06, 0.06, 0.06), std=(0.2, 0.2, 0.2), channels_last=True),
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="MovingDigits", split="train", pipeline=[]),
)
test_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="MovingDigits", split="test", pipeline=[]),
)
val_dataloader = test_dataloader
val_evaluator = dict(type="ClipTopK")
val_cfg = dict(type="ValLoop")
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="float32",
    optimizer=dict(type="AdamW", lr=4e-3, weight_decay=1e-2),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=epochs, T_max=epochs - 1, convert_to_iter_based=True),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=epochs)
bench = dict(dataset="moving digits", split="test")
