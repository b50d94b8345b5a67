"""torchvision's fcn_resnet101 with torchvision's weights, COCO 2017, VOC classes."""

_base_ = [
    "../../_base_/seg_coco_voc_520.py",
    "../../_base_/seg_torchvision.py",
    "../../_base_/seg_sgd_80k.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}}, name="fcn_resnet101")
bench = dict(
    dataset="COCO 2017, VOC classes", split="val2017", architecture="FCN ResNet-101 (torchvision)", weights="model"
)
