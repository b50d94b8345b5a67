# ImageNet (ILSVRC 2012), one folder a wnid, and a network that comes trained: no training here. A config names the
# network, and the transform that belongs to its weights.
_base_ = ["./cls_runtime.py", "./cls_methods.py"]

model = dict(
    type="ImageClassifier",
    network=dict(type="TorchvisionModel", weights="DEFAULT"),
    data_preprocessor=dict(
        type="ImagePreprocessor", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channels_last=True
    ),
)
test_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ImageFolder", root="dataset:imagenet/val", classes="imagenet"),
)
test_evaluator = dict(type="TopK")
bench = dict(
    dataset="ImageNet",
    split="val",
    weights="model",
    calibration=dict(dataset=dict(type="ImageFolder", root="dataset:imagenet/train", classes="imagenet")),
)
