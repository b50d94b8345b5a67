"""DeepLabv3-ResNet-34+ASPP of Fast-SNN, Pascal VOC 2012."""

_base_ = [
    "../../_base_/seg_voc2012.py",
    "../../_base_/seg_deeplabv3_aspp_r34.py",
    "../../_base_/seg_fast_snn_50e.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}})
train_dataloader = dict(sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True))  # epochs end
bench = dict(dataset="Pascal VOC 2012", split="val", architecture="DeepLabv3 ResNet-34 + ASPP")
