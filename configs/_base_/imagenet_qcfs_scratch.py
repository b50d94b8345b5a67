# ImageNet: QCFS activations, trained from scratch with AutoAugment and Cutout; SRP beside IF (arXiv 2302.02091). A
# config names the network, the levels and τ, and the transform of the test images.
_base_ = "./imagenet_qcfs.py"

epochs = 120
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="RandomResizedCropFlip", size=224),
            dict(type="OneImage", transform=dict(type="BatchAutoAugment", policy="imagenet")),
            dict(type="OneImage", transform=dict(type="BatchCutout", size=56)),
        ]
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=epochs, val_interval=10)
custom_hooks = [dict(type="EMAHook", momentum=0.0005, update_buffers=True)]  # no thresholds of untrained weights
