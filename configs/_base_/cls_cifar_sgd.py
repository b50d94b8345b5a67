# SGD with Nesterov momentum, one epoch of warm-up, cosine decay, label smoothing, averaged weights; in bfloat16 on a
# device that computes in it (optim_wrapper.dtype: auto, bfloat16, float32).
_base_ = ["./cls_runtime.py", "./cls_methods.py"]

epochs = 60
model = dict(
    type="ImageClassifier",
    label_smoothing=0.1,
    data_preprocessor=dict(
        type="ImagePreprocessor", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channels_last=True
    ),
)
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="auto",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=epochs, T_max=epochs - 1, convert_to_iter_based=True),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=10)
val_cfg = dict(type="ValLoop")
custom_hooks = [dict(type="EMAHook", momentum=0.002, update_buffers=True)]
