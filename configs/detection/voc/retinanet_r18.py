"""RetinaNet ResNet-18-FPN, Pascal VOC 2007."""

_base_ = [
    "../../_base_/det_voc.py",
    "../../_base_/det_retinanet_r18.py",
    "../../_base_/det_sgd_12e.py",
    "../../_base_/det_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}}, bbox_head=dict(num_classes=20))
bench = dict(dataset="Pascal VOC 2007", split="test", architecture="RetinaNet ResNet-18-FPN")
