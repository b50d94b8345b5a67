# A segmentation network of torchvision with its weights; a config names another one, weights=None starts at random.
model = dict(
    type="TorchvisionSegmentor",
    name="fcn_resnet50",
    weights="DEFAULT",
    num_classes=21,
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
