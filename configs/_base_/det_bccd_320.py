# BCCD at 320x240, with the preprocessor of networks that start from ImageNet weights.
_base_ = "./det_bccd.py"
data_preprocessor = dict(
    type="DetDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)
