"""DeepLabv1-VGG9 of Fast-SNN, COCO 2017 with its 80 classes."""

_base_ = [
    "../../_base_/seg_coco_things.py",
    "../../_base_/seg_deeplabv1_vgg9.py",
    "../../_base_/seg_fast_snn_50e.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}}, decode_head=dict(num_classes=81))
train_dataloader = dict(sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True))  # epochs end
bench = dict(dataset="COCO 2017, 80 classes", split="val2017", architecture="DeepLabv1 VGG-9")
