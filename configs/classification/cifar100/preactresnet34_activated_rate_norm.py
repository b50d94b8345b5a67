"""CIFAR-100, PreActResNet-34, shortcuts of activations with rate norm layers in place of ReLU, first stage."""

_base_ = "../cifar10/preactresnet34_activated_rate_norm.py"

root = "dataset:cifar100/{}|cifar100_{}.zip|cifar-100-python|cifar100"
train_dataloader = dict(dataset=dict(root=root.format("train", "train")))
test_dataloader = dict(dataset=dict(root=root.format("test", "test")))
val_dataloader = test_dataloader
model = dict(network=dict(num_classes=100))
bench = dict(dataset="CIFAR-100", architecture="PreActResNet-34, shortcuts of activations, rate norm")
