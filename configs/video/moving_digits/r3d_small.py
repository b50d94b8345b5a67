"""Digits in motion, a small 3-d ResNet: trains in minutes on a processor, without a download."""

_base_ = "../../_base_/moving_digits.py"

bench = dict(architecture="R3D, 16 to 64 channels")
