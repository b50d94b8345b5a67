# Fine-tuning of the trained CIFAR-10 ResNet-20 (resnet20_cifar10.safetensors): eight epochs at a small rate, in
# which a network with trained activations learns from the answers of the one it came from, too; clips do not decay.
# Another number of epochs: --cfg-options epochs=4.
_base_ = "./cifar10.py"

epochs = 8
model = dict(
    network=dict(
        type="Prepared",
        network=dict(type="CifarResNet", depth=20),
        checkpoint="dataset:resnet20_cifar10.safetensors",
    ),
    regularizer=dict(type="Distillation", coefficient=1.0, temperature=4.0),
    label_smoothing=0.0,
)
optim_wrapper = dict(
    optimizer=dict(lr=0.04, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={"clip": dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=epochs, T_max=epochs - 1, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
custom_hooks = [
    dict(type="CalibrateHook", images=512),
    dict(type="EMAHook", momentum=0.002, update_buffers=True),
]
