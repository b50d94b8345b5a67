# Fast-SNN's recipe for YOLOv2 (the authors' public code): 250 epochs of SGD at batch 16, steps after 150 and 200,
# averaged weights, BatchNorm over all processes; the size of the batches changes with the data (det_*_416.py).
epochs = 250
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=1e-3, momentum=0.9, weight_decay=5e-4),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=2, by_epoch=True, convert_to_iter_based=True),
    dict(type="MultiStepLR", begin=0, end=epochs, by_epoch=True, milestones=[150, 200], gamma=0.1),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=epochs // 5)
custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=1e-4, gamma=2000, update_buffers=True)]
sync_bn = "torch"  # where there are several processes on accelerators
