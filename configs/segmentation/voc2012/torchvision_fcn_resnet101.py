"""torchvision's fcn_resnet101 with torchvision's weights, Pascal VOC 2012."""

_base_ = [
    "../../_base_/seg_voc2012_520.py",
    "../../_base_/seg_torchvision.py",
    "../../_base_/seg_sgd_20k.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}}, name="fcn_resnet101")
bench = dict(dataset="Pascal VOC 2012", split="val", architecture="FCN ResNet-101 (torchvision)", weights="model")
