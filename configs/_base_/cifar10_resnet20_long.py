# The fine-tuning of cifar10_resnet20_finetune.py at a larger rate, for twenty epochs: few levels have more to learn.
_base_ = "./cifar10_resnet20_finetune.py"

epochs = 20
optim_wrapper = dict(optimizer=dict(lr=0.08, weight_decay=5e-5))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=epochs, T_max=epochs - 1, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
