"""CIFAR-100, VGG-16 with rate norm layers, second stage: weights are frozen, p learns, BatchNorm follows.

Starts from the weights that `snnconv train` of vgg16_rate_norm.py leaves in its work folder.
"""

_base_ = "../cifar10/vgg16_rate_norm_stage2.py"

root = "dataset:cifar100/{}|cifar100_{}.zip|cifar-100-python|cifar100"
train_dataloader = dict(dataset=dict(root=root.format("train", "train")))
test_dataloader = dict(dataset=dict(root=root.format("test", "test")))
val_dataloader = test_dataloader
model = dict(
    network=dict(num_classes=100),
    checkpoint="work_dirs/classification/cifar100/vgg16_rate_norm/weights.safetensors",
)
bench = dict(dataset="CIFAR-100", architecture="VGG-16, rate norm, second stage")
