"""Augmentation of a whole batch at once.

A transform is called with uint8 images ``[B, C, H, W]``, labels (class numbers ``[B]`` or class weights
``[B, classes]``) and the generator that all its random numbers come from, and gives images and labels back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from snnbench.registry import TRANSFORMS

__all__ = [
    "BatchAutoAugment",
    "BatchColorJitter",
    "BatchCutMix",
    "BatchCutout",
    "BatchFlip",
    "BatchMixUp",
    "BatchRandomCrop",
    "OneImage",
]

Batch = tuple[Tensor, Tensor]
POLICIES = ("cifar10", "imagenet", "svhn")


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return torch.empty(count).uniform_(low, high, generator=generator)


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a probability, got {value}")


@TRANSFORMS.register_module()
@dataclass(frozen=True)
class BatchRandomCrop:
    """Each image shifted by up to ``padding`` pixels each way, ``fill`` coming in from outside.

    >>> images = torch.ones(2, 3, 32, 32, dtype=torch.uint8)
    >>> BatchRandomCrop(4)(images, torch.tensor([0, 1]), Generator())[0].shape
    torch.Size([2, 3, 32, 32])
    """

    padding: int = 4
    fill: int = 0

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> Batch:
        count, _, height, width = images.shape
        padded = F.pad(images, (self.padding,) * 4, value=self.fill)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view of every crop: [B, C, 2p+1, 2p+1, H, W]
        top, left = torch.randint(2 * self.padding + 1, (2, count), generator=generator)
        return windows[torch.arange(count), :, top, left], labels


@TRANSFORMS.register_module()
@dataclass(frozen=True)
class BatchFlip:
    """Each image mirrored left to right with probability ``prob``."""

    prob: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("BatchFlip.prob", self.prob)

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> Batch:
        mirrored = torch.rand(len(images), generator=generator) < self.prob
        return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images), labels


@TRANSFORMS.register_module()
@dataclass(frozen=True)
class BatchCutout:
    """A square of ``size`` pixels, centred anywhere in the image, set to ``fill`` (DeVries and Taylor, 1708.04552).

    ``fill`` is one value a channel; the default is ImageNet's mean, which normalisation turns into zero.
    """

    size: int = 16
    fill: Sequence[int] = (124, 116, 104)

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> Batch:
        count, channels, height, width = images.shape
        if len(self.fill) != channels:
            raise ValueError(f"BatchCutout.fill has {len(self.fill)} values for images of {channels} channels")
        box = _boxes(count, height, width, torch.full((count,), self.size), torch.full((count,), self.size), generator)
        fill = torch.tensor(tuple(self.fill), dtype=images.dtype).view(1, -1, 1, 1)
        return torch.where(box, fill, images), labels


@TRANSFORMS.register_module()
@dataclass(frozen=True)
class BatchAutoAugment:
    """AutoAugment (Cubuk et al., arXiv 1805.09501) with torchvision's operators: each image has its own sub-policy.

    ``policy`` is ``"cifar10"``, ``"imagenet"`` or ``"svhn"``; ``fill`` comes in from outside the image.
    """

    policy: str = "cifar10"
    fill: int = 128

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"BatchAutoAugment.policy must be one of {POLICIES}, got {self.policy!r}")

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> Batch:
        from torchvision.transforms import AutoAugment, AutoAugmentPolicy

        transform = AutoAugment(AutoAugmentPolicy(self.policy), fill=[float(self.fill)] * images.shape[1])
        seed = int(torch.randint(2**31, (), generator=generator))
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the process's generator
            torch.random.default_generator.manual_seed(seed)
            return torch.stack([transform(image) for image in images]), labels


@TRANSFORMS.register_module()
@dataclass(frozen=True)
class BatchColorJitter:
    """Brightness, contrast and saturation of each image scaled by a factor in ``[1 − strength, 1 + strength]``.

    Contrast scales the distance to the image's mean grey, saturation the distance to each pixel's grey.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> Batch:
        def factor(strength: float) -> Tensor:
            return _uniform(len(images), 1 - strength, 1 + strength, generator).view(-1, 1, 1, 1)

        out = images.float() * factor(self.brightness)
        out = torch.lerp(_grey(out).mean((2, 3), keepdim=True), out, factor(self.contrast))
        if images.shape[1] == 3:
            out = torch.lerp(_grey(out), out, factor(self.saturation))
        return _to_uint8(out), labels


@TRANSFORMS.register_module()
@dataclass(frozen=True)
class BatchMixUp:
    """λ·image + (1 − λ)·another of the batch, and the labels alike; λ ~ Beta(α, α) (Zhang et al., 1710.09412).

    The mixed image is rounded to uint8.
    """

    num_classes: int
    alpha: float = 0.2
    prob: float = 1.0

    def __post_init__(self) -> None:
        _check_probability("BatchMixUp.prob", self.prob)

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> Batch:
        labels = _class_weights(labels, self.num_classes)
        if torch.rand((), generator=generator) >= self.prob:
            return images, labels
        share = _beta(self.alpha, generator)
        order = torch.randperm(len(images), generator=generator)
        mixed = torch.lerp(images[order].float(), images.float(), share)
        return _to_uint8(mixed), torch.lerp(labels[order], labels, share)


@TRANSFORMS.register_module()
@dataclass(frozen=True)
class BatchCutMix:
    """A box of another image of the batch pasted in, labels weighted by area (Yun et al., 1905.04899, Algorithm 1)."""

    num_classes: int
    alpha: float = 1.0
    prob: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("BatchCutMix.prob", self.prob)

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> Batch:
        labels = _class_weights(labels, self.num_classes)
        if torch.rand((), generator=generator) >= self.prob:
            return images, labels
        count, _, height, width = images.shape
        side = (1 - _beta(self.alpha, generator)).sqrt()
        tall, wide = (side * height).round().long(), (side * width).round().long()
        box = _boxes(1, height, width, tall.view(1), wide.view(1), generator)
        order = torch.randperm(count, generator=generator)
        kept = 1 - box.float().mean()
        return torch.where(box, images[order], images), torch.lerp(labels[order], labels, kept)


@TRANSFORMS.register_module()
class OneImage:
    """A batch transform for data sets that read one image at a time; random numbers from the process's generator.

    Args:
        transform: config of the batch transform, or the transform; it must leave labels alone.

    Shapes: uint8 ``[C, H, W]`` in and out.

    >>> OneImage(dict(type="BatchFlip", prob=1.0))(torch.arange(3, dtype=torch.uint8).view(1, 1, 3)).tolist()
    [[[2, 1, 0]]]
    """

    def __init__(self, transform: Any) -> None:
        self.transform = TRANSFORMS.build(transform) if isinstance(transform, dict) else transform

    def __call__(self, image: Tensor) -> Tensor:
        generator = Generator().manual_seed(int(torch.randint(2**31, ())))
        out: Tensor = self.transform(image[None], torch.zeros(1, dtype=torch.int64), generator)[0][0]
        return out


def _boxes(count: int, height: int, width: int, tall: Tensor, wide: Tensor, generator: Generator) -> Tensor:
    """True inside of a box a sample, its centre anywhere in the image, cut off at the border: ``[B, 1, H, W]``."""
    rows = _span(height, tall, torch.randint(height, (count,), generator=generator))
    columns = _span(width, wide, torch.randint(width, (count,), generator=generator))
    return rows[:, None, :, None] & columns[:, None, None, :]


def _span(length: int, size: Tensor, centre: Tensor) -> Tensor:
    start = (centre - size // 2)[:, None]
    position = torch.arange(length)
    return (position >= start) & (position < start + size[:, None])


def _beta(alpha: float, generator: Generator) -> Tensor:
    """One sample of Beta(α, α); torch's own takes no generator."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.tensor(np.random.default_rng(seed).beta(alpha, alpha), dtype=torch.float32)


def _class_weights(labels: Tensor, classes: int) -> Tensor:
    return F.one_hot(labels, classes).float() if labels.dim() == 1 else labels


def _grey(images: Tensor) -> Tensor:
    """ITU-R 601 luma of three channels; the mean of any other number."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def _to_uint8(images: Tensor) -> Tensor:
    return images.round_().clamp_(0, 255).to(torch.uint8)
