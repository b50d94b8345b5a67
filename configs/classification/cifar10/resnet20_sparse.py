"""CIFAR-10, ResNet-20 fine-tuned with 4-bit activations of few one-bits (arXiv 2312.06900): fewer spikes at T = 4.

Beside resnet20_quant15.py. More or less: --cfg-options model.regularizer.coefficient=2e-5.
"""

_base_ = "./resnet20_quant15.py"

model = dict(regularizer=dict(_delete_=True, type="BitSparsity", coefficient=1e-5, schedule="linear", span=0.3))
bench = dict(architecture="ResNet-20, 4-bit activations (15 levels), bit sparsity")
