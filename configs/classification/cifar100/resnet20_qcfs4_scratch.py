"""CIFAR-100, ResNet-20 with QCFS activations (4 levels), from scratch; Cutout of 8 pixels."""

_base_ = "../cifar10/resnet20_qcfs4_scratch.py"

root = "dataset:cifar100/{}|cifar100_{}.zip|cifar-100-python|cifar100"
train_dataloader = dict(
    dataset=dict(
        root=root.format("train", "train"),
        pipeline=[
            dict(type="BatchRandomCrop", padding=4),
            dict(type="BatchFlip"),
            dict(type="BatchAutoAugment", policy="cifar10"),
            dict(type="BatchCutout", size=8),
        ],
    )
)
test_dataloader = dict(dataset=dict(root=root.format("test", "test")))
val_dataloader = test_dataloader
model = dict(network=dict(num_classes=100))
bench = dict(dataset="CIFAR-100", architecture="ResNet-20, QCFS (4 levels), from scratch")
