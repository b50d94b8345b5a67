"""The small network of the demonstration. ``snnconv demo`` leaves a copy of this file beside its weights."""

import torch
from torch import nn

__all__ = ["small_cnn"]


def small_cnn(width: int = 16) -> nn.Module:
    """Three convolutions with BatchNorm and ReLU, and a linear layer, for ``[B, 1, 8, 8]``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, 10),
        )  # fmt: skip
