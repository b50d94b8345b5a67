"""CIFAR-100, VGG-16 fine-tuned with 4-bit activations (15 levels).

Starts from the weights that `snnconv train` of vgg16.py leaves in its work folder.
"""

_base_ = "../cifar10/resnet20_quant15.py"

root = "dataset:cifar100/{}|cifar100_{}.zip|cifar-100-python|cifar100"
train_dataloader = dict(dataset=dict(root=root.format("train", "train")))
test_dataloader = dict(dataset=dict(root=root.format("test", "test")))
val_dataloader = test_dataloader
model = dict(
    network=dict(
        network=dict(_delete_=True, type="CifarVGG", depth=16, num_classes=100),
        checkpoint="work_dirs/classification/cifar100/vgg16/weights.safetensors",
    ),
)
bench = dict(dataset="CIFAR-100", architecture="VGG-16, 4-bit activations (15 levels)")
