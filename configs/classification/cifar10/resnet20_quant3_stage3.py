"""CIFAR-10, ResNet-20 with 2-bit activations, third stage: the average of the weights along fifty epochs at one rate.

Starts from the weights that `snnconv train` of resnet20_quant3_stage2.py leaves in its work folder. Averaging: Izmailov
et al., arXiv 1803.05407, here with an exponential window.
"""

_base_ = "./resnet20_quant3_stage2.py"

epochs = 50
model = dict(checkpoint="work_dirs/classification/cifar10/resnet20_quant3_stage2/weights.safetensors")
optim_wrapper = dict(optimizer=dict(lr=0.03))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=1, convert_to_iter_based=True),
    dict(type="ConstantLR", factor=1.0, begin=1, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
custom_hooks = [dict(type="EMAHook", momentum=0.0002, update_buffers=True)]
bench = dict(architecture="ResNet-20, 2-bit activations (3 levels), third stage")
