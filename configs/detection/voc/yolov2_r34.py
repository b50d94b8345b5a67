"""YOLOv2 ResNet-34 with ReLU, Pascal VOC 2007."""

_base_ = [
    "../../_base_/det_voc_416.py",
    "../../_base_/det_yolov2_r34.py",
    "../../_base_/det_yolov2_250e.py",
    "../../_base_/det_methods.py",
    "../../_base_/runtime.py",
]
model = dict(data_preprocessor={{_base_.data_preprocessor}})
bench = dict(dataset="Pascal VOC 2007", split="test", architecture="YOLOv2 ResNet-34")
