"""Handwritten digits, 1,797 real 8×8 images, and training on them.

They are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI Machine Learning
Repository, 1998, doi 10.24432/C50P49, CC BY 4.0), as scikit-learn has them, stored here as bytes from 0 to 16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv.files.zips import read_arrays

__all__ = ["Digits", "load_digits", "train"]


@dataclass(frozen=True)
class Digits:
    """``x`` float ``[N, 1, 8, 8]`` in about [−1, 1] and ``y`` int64 ``[N]``, for training and for test."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def load_digits(seed: int = 0, test_images: int = 450) -> Digits:
    """The digits, split by a permutation that depends on ``seed`` alone.

    >>> digits = load_digits()
    >>> digits.x_train.shape, digits.x_test.shape
    (torch.Size([1347, 1, 8, 8]), torch.Size([450, 1, 8, 8]))
    """
    arrays = read_arrays(Path(__file__).with_name("digits.npz"))
    x = arrays["x"].float().unsqueeze(1).div_(8).sub_(1)
    y = arrays["y"].long()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    chosen, test = order[test_images:], order[:test_images]
    return Digits(x[chosen], y[chosen], x[test], y[test])


def train(model: nn.Module, digits: Digits, epochs: int = 25, batch_size: int = 64, seed: int = 0) -> nn.Module:
    """Train a classifier of digits (some seconds), on one thread: layers this small lose by sharing, and sums keep one
    order, so that the same seed gives the same network; returns it in evaluation mode."""
    with one_thread():
        return _train(model.train(), digits, epochs, batch_size, seed)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of PyTorch in a block: on a busy machine two that share small layers wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _train(model: nn.Module, digits: Digits, epochs: int, batch_size: int, seed: int) -> nn.Module:
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


def _shifted(x: Tensor, draw: torch.Generator) -> Tensor:
    """Every image moved by at most one pixel each way."""
    windows = F.pad(x, (1, 1, 1, 1), value=-1.0).unfold(2, 8, 1).unfold(3, 8, 1)  # [B, 1, 3, 3, 8, 8]
    rows, columns = torch.randint(0, 3, (2, len(x)), generator=draw)
    return windows[torch.arange(len(x)), :, rows, columns]
