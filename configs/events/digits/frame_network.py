"""Digits as an event camera would see them, read frame by frame: trains in a minute, without a download."""

_base_ = "../../_base_/event_digits.py"

bench = dict(architecture="frame network, 16 and 32 channels")
