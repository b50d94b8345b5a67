"""What makes a network's input of a picture: the transform of its weights, changed by options, or one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from snnconv.cli.inputs import InputError
from snnconv.cli.models import called, imported

__all__ = ["MEAN", "SIZE", "STD", "Preprocessing", "find"]

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """A transform of PIL pictures, with the words that describe it.

    Attributes:
        picture: picture → tensor ``[C, H, W]``.
        mean, std: of every channel, with which bytes in a file of tensors are normalised.
        words: what it does and where that is from.
    """

    picture: Callable[[Any], Tensor]
    mean: Sequence[float]
    std: Sequence[float]
    words: str


def find(
    spec: str,
    model: nn.Module | None,
    pretrained: bool,
    *,
    size: int | None = None,
    resize: int | None = None,
    crop: int | None = None,
    mean: str | None = None,
    std: str | None = None,
    transform: str | None = None,
) -> Preprocessing:
    """The preprocessing of a network: that of its weights, where they are torchvision's or timm's, else ImageNet's.

    Args:
        spec: what names the network.
        model: the network; needed for timm's.
        pretrained: whether it has the weights of its package.
        size: side of the picture after resizing and cropping, the shorter side being resized in proportion.
        resize, crop: the two on their own.
        mean, std: numbers with commas.
        transform: ``FILE:NAME`` of a function that takes a PIL picture and gives a tensor ``[C, H, W]``; runs the file.

    Raises:
        InputError: options that cannot be used, or that contradict each other.
    """
    means = None if mean is None else _numbers(mean, "--mean")
    stds = None if std is None else _numbers(std, "--std")
    if stds is not None and any(value <= 0 for value in stds):
        raise InputError(f"--std needs numbers above zero, got {std}")
    if means is not None and stds is not None and len(means) != len(stds):
        raise InputError(f"--mean has {len(means)} numbers, --std {len(stds)}")
    if size is not None and crop is not None:
        raise InputError("--size is --crop with --resize in proportion: give one of --size and --crop")
    for option, number in (("--size", size), ("--resize", resize), ("--crop", crop)):
        if number is not None and number < 1:
            raise InputError(f"{option} is at least 1, got {number}")
    if transform is not None:
        if any(value is not None for value in (size, resize, crop)):
            raise InputError("--transform does it all: leave out --size, --resize and --crop")
        return Preprocessing(_own(transform), means or MEAN, stds or STD, f"pictures: {transform}")
    kind, _, name = spec.rpartition(":")
    side = crop if crop is not None else size
    if resize is None and size is not None:
        resize = round(size * 256 / SIZE)
    if resize is not None and side is not None and side > resize:
        raise InputError(f"--crop {side} is larger than --resize {resize}")
    if kind == "torchvision" and pretrained:
        return _torchvision(name, side, resize, means, stds)
    if kind == "timm" and model is not None:
        return _timm(name, model, side, resize, means, stds)
    return _plain(side, resize, means or MEAN, stds or STD)


def _plain(side: int | None, resize: int | None, mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
    side = side if side is not None else min(SIZE, resize or SIZE)
    resize = resize if resize is not None else round(side * 256 / SIZE)

    def picture(image: Any) -> Tensor:
        from torchvision import transforms

        steps = (
            transforms.Resize(resize),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize(list(mean), list(std)),
        )
        x: Tensor = transforms.Compose(steps)(image)
        return x

    return Preprocessing(picture, mean, std, _words(resize, side, mean, std, "ImageNet's usual"))


def _torchvision(
    name: str, side: int | None, resize: int | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Preprocessing:
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    given = {"crop_size": side, "resize_size": resize, "mean": mean, "std": std}
    preset = weights.transforms(**{key: value for key, value in given.items() if value is not None})
    return Preprocessing(
        preset,
        preset.mean,
        preset.std,
        _words(preset.resize_size[0], preset.crop_size[0], preset.mean, preset.std, f"torchvision's {weights}"),
    )


def _timm(
    name: str,
    model: nn.Module,
    side: int | None,
    resize: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Preprocessing:
    from timm.data import create_transform, resolve_data_config

    given: dict[str, Any] = {"img_size": side, "mean": mean, "std": std}
    config = resolve_data_config({k: v for k, v in given.items() if v is not None}, model=model)
    crop = int(config["input_size"][-1])
    if resize is not None:
        config["crop_pct"] = crop / resize
    resized = int(crop / config["crop_pct"])
    words = _words(resized, crop, config["mean"], config["std"], f"timm's configuration of {name}")
    return Preprocessing(create_transform(**config, is_training=False), config["mean"], config["std"], words)


def _words(resize: int, side: int, mean: Sequence[float], std: Sequence[float], origin: str) -> str:
    means, stds = (",".join(f"{value:g}" for value in values) for values in (mean, std))
    return f"pictures: resized to {resize}, cropped to {side}, mean {means}, std {stds} ({origin})"


def _own(spec: str) -> Callable[[Any], Tensor]:
    path, _, name = spec.rpartition(":")
    if not path.endswith(".py") or not name:
        raise InputError(f"--transform takes FILE.py:NAME, got {spec!r}")
    function = imported(Path(path), name)

    def picture(image: Any) -> Tensor:
        made = called(Path(path), function, image)
        if not isinstance(made, Tensor) or made.dim() != 3:
            got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise InputError(f"--transform {spec} gives {got} for a picture; a tensor [C, H, W] is needed")
        return made

    return picture


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} takes numbers separated by commas, got {text!r}") from error
