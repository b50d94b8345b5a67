# Tiny YOLO of Fast-SNN: the same with strided convolutions instead of max-pooling.
_base_ = "./det_yolov2_tiny.py"
model = dict(backbone=dict(downsample="stride"))
