"""The digits of `snnconv.demo`, and the benchmark's CNN trained on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from snnbench.networks.models import Activation, DigitsCNN
from snnconv.demo import Digits, load_digits, train

__all__ = ["Digits", "load_digits", "train_digits", "train_network"]

Network = TypeVar("Network", bound=nn.Module)


def train_digits(
    digits: Digits, activation: Activation = nn.ReLU, epochs: int = 25, batch_size: int = 64, seed: int = 0
) -> DigitsCNN:
    """Train `DigitsCNN` from scratch (a few seconds); the same seed gives the same network."""
    return train_network(digits, partial(DigitsCNN, activation), epochs, batch_size, seed)


def train_network(
    digits: Digits, make: Callable[[], Network], epochs: int = 25, batch_size: int = 64, seed: int = 0
) -> Network:
    """Train what ``make`` gives from scratch; the same seed gives the same network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
    train(model, digits, epochs, batch_size, seed)
    return model
