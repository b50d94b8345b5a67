"""scikit-learn's handwritten digits, 1,797 real 8×8 images, and a small CNN trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from snnbench.networks.models import Activation, DigitsCNN


@dataclass(frozen=True)
class Digits:
    """``x`` float ``[N, 1, 8, 8]`` in about [−1, 1] and ``y`` int64 ``[N]``, for training and for test."""

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def load_digits(seed: int = 0, test_images: int = 450) -> Digits:
    """The digits, split by a permutation that depends on ``seed`` alone."""
    from sklearn.datasets import load_digits as source

    bunch = source()
    x = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1).div_(8).sub_(1)
    y = torch.tensor(bunch.target, dtype=torch.int64)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    train, test = order[test_images:], order[:test_images]
    return Digits(x[train], y[train], x[test], y[test])


def train_digits(
    digits: Digits, activation: Activation = nn.ReLU, epochs: int = 25, batch_size: int = 64, seed: int = 0
) -> DigitsCNN:
    """Train `DigitsCNN` from scratch (a few seconds); the same seed gives the same network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # layers this small lose by sharing, and sums keep one order
    try:
        return _train(digits, activation, epochs, batch_size, seed)
    finally:
        torch.set_num_threads(threads)


def _train(digits: Digits, activation: Activation, epochs: int, batch_size: int, seed: int) -> DigitsCNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitsCNN(activation).train()
    draw = torch.Generator().manual_seed(seed)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    other = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 1e-2}, {"params": other, "weight_decay": 0.0}], lr=3e-3
    )
    steps = -(-len(digits.y_train) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(digits.y_train), generator=draw)
        for index in order.split(batch_size):
            loss = F.cross_entropy(model(_shifted(digits.x_train[index], draw)), digits.y_train[index])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def _shifted(x: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Every image moved by at most one pixel each way."""
    windows = F.pad(x, (1, 1, 1, 1), value=-1.0).unfold(2, 8, 1).unfold(3, 8, 1)  # [B, 1, 3, 3, 8, 8]
    rows, columns = torch.randint(0, 3, (2, len(x)), generator=draw)
    return windows[torch.arange(len(x)), :, rows, columns]
