"""torchvision's deeplabv3_mobilenet_v3_large with torchvision's weights, COCO 2017, VOC classes."""

_base_ = [
    "../../_base_/seg_coco_voc_520.py",
    "../../_base_/seg_torchvision.py",
    "../../_base_/seg_sgd_80k.py",
    "../../_base_/seg_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}}, name="deeplabv3_mobilenet_v3_large")
bench = dict(
    dataset="COCO 2017, VOC classes",
    split="val2017",
    architecture="DeepLabv3 MobileNetV3-Large (torchvision)",
    weights="model",
)
