"""CIFAR-10, a small VGG with strides in place of pooling: six epochs, for the comparison of NIR importers."""

_base_ = "../../_base_/cifar10.py"

epochs = 6
model = dict(network=dict(type="StridedVGG"))
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=epochs, T_max=epochs - 1, convert_to_iter_based=True),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=epochs)
bench = dict(architecture="VGG with strides")
