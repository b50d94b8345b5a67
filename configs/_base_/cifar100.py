# CIFAR-100: 50,000 and 10,000 images of 32x32. Found as class folders (one zip or folder a split) or as its authors
# give it out; decoded once and held in memory.
_base_ = "./cls_cifar_sgd.py"

dataset_type = "InMemoryImages"
augmentation = [dict(type="BatchRandomCrop", padding=4), dict(type="BatchFlip")]
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        root="dataset:cifar100/train|cifar100_train.zip|cifar-100-python|cifar100",
        split="train",
        pipeline=augmentation,
    ),
)
test_dataloader = dict(
    batch_size=200,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        root="dataset:cifar100/test|cifar100_test.zip|cifar-100-python|cifar100",
        split="test",
        pipeline=[],
    ),
)
val_dataloader = test_dataloader
val_evaluator = dict(type="TopK")
test_evaluator = val_evaluator
bench = dict(dataset="CIFAR-100", split="test")
