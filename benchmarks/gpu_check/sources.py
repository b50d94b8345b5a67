"""Networks and pictures that the parts share: real ones where SNNCONV_DATA holds them, else random ones."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.data import DataError, ImageSet, cifar10, find, normalise
from benchmarks.speed.networks import NETWORKS, Network
from snnbench.networks.models import DigitsCNN, resnet20_cifar10

from .record import Setting

__all__ = ["network", "pictures"]

SMALL: dict[str, Network] = {"digits": Network(DigitsCNN, (1, 8, 8)), "resnet20": NETWORKS["resnet20"]}
"""What stands for the networks on a processor."""


def names(setting: Setting) -> list[str]:
    """The networks of a part."""
    return list(SMALL if setting.small else NETWORKS)


@functools.cache
def pictures(split: str) -> ImageSet | None:
    """CIFAR-10 in mixed order; None where there is none."""
    try:
        return cifar10(split).shuffled()
    except DataError:
        return None


def network(name: str, count: int) -> tuple[nn.Module, Tensor, Tensor, dict[str, Any]]:
    """A network, calibration data ``[128, ...]``, ``count`` inputs, and what they are."""
    made = SMALL.get(name) or NETWORKS[name]
    if name == "resnet20":
        train, test = pictures("train"), pictures("test")
        if train is not None and test is not None:
            model = resnet20_cifar10(find("resnet20_cifar10.safetensors"))
            return model, normalise(train.images[:128]), normalise(test.images[:count]), {"inputs": "CIFAR-10"}
    model, calibration = made.build()
    x = torch.randn(count, *made.shape, generator=torch.Generator().manual_seed(1))
    return model, calibration, x, {"inputs": "random"}
