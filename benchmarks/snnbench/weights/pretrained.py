"""Networks of torchvision and timm, and the preprocessing that belongs to their weights."""

from __future__ import annotations

import math
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from snnbench.registry import MODELS, TRANSFORMS
from snnbench.weights.wheels import wheel

__all__ = ["PretrainedTransform", "RandomResizedCropFlip", "timm_model", "torchvision_model", "torchvision_weights"]


@MODELS.register_module(name="TorchvisionModel")
def torchvision_model(name: str, weights: str | None = None, **settings: Any) -> nn.Module:
    """torchvision's classifier ``name``; ``weights`` an entry of its weights enum such as ``"DEFAULT"``, or None.

    Weights for another number of classes than ``num_classes`` are taken up to the last layer, which starts anew.

    Raises:
        ValueError: no such model or entry.
        RuntimeError: the weights cannot be fetched.

    >>> torchvision_model("resnet18", num_classes=10).fc.out_features
    10
    """
    from torchvision import models

    entry = None if weights is None else torchvision_weights(name, weights)
    _check_name("torchvision", name, models.list_models())
    classes: int | None = settings.get("num_classes")
    other_head = entry is not None and classes is not None and classes != len(entry.meta["categories"])
    if other_head:
        settings.pop("num_classes")
    try:
        network = models.get_model(name, weights=entry, **settings)
        return _with_new_head(network, classes) if other_head and classes else network
    except (URLError, OSError) as error:
        raise _unfetched("torchvision", name, getattr(entry, "url", None), error) from error


@MODELS.register_module(name="TimmModel")
def timm_model(name: str, pretrained: bool = False, **settings: Any) -> nn.Module:
    """timm's model ``name``, with its weights if ``pretrained``.

    Raises:
        ValueError: no such model.
        RuntimeError: the weights cannot be fetched.

    >>> timm_model("resnet26", num_classes=10).get_classifier().out_features
    10
    """
    import timm

    if not timm.is_model(name.split(".")[0]):
        _check_name("timm", name, timm.list_models())
    try:
        return timm.create_model(name, pretrained=pretrained, **settings)
    except (URLError, OSError) as error:
        config = timm.get_pretrained_cfg(name)
        raise _unfetched("timm", name, getattr(config, "url", None), error) from error


@TRANSFORMS.register_module()
class PretrainedTransform:
    """A PIL image resized and cropped as the weights of a network ask for; uint8 ``[3, H, W]``.

    Normalisation is left to `ImagePreprocessor`, which needs this transform's ``mean`` and ``std``.

    Args:
        source: ``"torchvision"``, ``"timm"``, or ``"wheel"`` for those of `wheels`.
        name: of the network.
        weights: entry of torchvision's weights enum; timm's tag is part of the name.

    Raises:
        ValueError: an unknown source, network or entry.

    >>> PretrainedTransform("torchvision", "resnet18").size
    224
    """

    def __init__(self, source: str, name: str, weights: str = "DEFAULT") -> None:
        from torchvision.transforms import InterpolationMode

        if source == "torchvision":
            preset = torchvision_weights(name, weights).transforms()
            self.resize, self.size = preset.resize_size[0], preset.crop_size[0]
            self.interpolation = preset.interpolation
            self.mean, self.std = tuple(preset.mean), tuple(preset.std)
        elif source == "timm":
            from timm.data import resolve_data_config

            config = resolve_data_config(pretrained_cfg=_timm_config(name).to_dict())
            self.size = config["input_size"][1]
            self.resize = math.floor(self.size / config["crop_pct"])
            self.interpolation = InterpolationMode(config["interpolation"])
            self.mean, self.std = tuple(config["mean"]), tuple(config["std"])
        elif source == "wheel":
            entry = wheel(name)
            self.resize, self.size = entry.resize, entry.size
            self.interpolation = InterpolationMode(entry.interpolation)
            self.mean, self.std = entry.mean, entry.std
        else:
            raise ValueError(f"source is 'torchvision', 'timm' or 'wheel', got {source!r}")

    def __call__(self, image: Any) -> Tensor:
        from torchvision.transforms import functional

        image = functional.resize(image, [self.resize], interpolation=self.interpolation, antialias=True)
        pixels: Tensor = functional.pil_to_tensor(functional.center_crop(image, [self.size]))
        return pixels.contiguous(memory_format=torch.contiguous_format)


def torchvision_weights(name: str, weights: str) -> Any:
    """The entry ``weights`` of the enum of torchvision's model ``name``.

    Raises:
        ValueError: no such model or entry.
    """
    from torchvision import models

    _check_name("torchvision", name, models.list_models())
    entries = models.get_model_weights(name)
    if weights not in entries.__members__:
        raise ValueError(f"torchvision's {name} has no weights {weights!r}; it has {', '.join(entries.__members__)}")
    return entries[weights]


def _with_new_head(network: nn.Module, classes: int) -> nn.Module:
    """``network`` with its last layer replaced by one of ``classes`` outputs."""
    path, last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d)][-1]
    if isinstance(last, nn.Linear):
        head: nn.Module = nn.Linear(last.in_features, classes)
    else:
        head = type(last)(last.in_channels, classes, last.kernel_size, last.stride)  # type: ignore[arg-type]
    network.set_submodule(path, head)
    return network


def _timm_config(name: str) -> Any:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise ValueError(f"timm has no pretrained model {name!r}; timm.list_pretrained() names them")
    return config


def _check_name(source: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise ValueError(f"{source} has no model {name!r}; {source}'s list_models() names them")


def _unfetched(source: str, name: str, url: str | None, error: Exception) -> RuntimeError:
    return RuntimeError(
        f"the weights of {source}'s {name} cannot be fetched{f' from {url}' if url else ''} ({error}): where there is "
        "no network, fetch them elsewhere, build the network without them and name the file with the classifier's "
        "checkpoint= (for instance --cfg-options model.checkpoint=FILE)"
    )


@TRANSFORMS.register_module()
class RandomResizedCropFlip:
    """A random part of a PIL image, resized to ``size`` and flipped at random, for training; uint8 ``[3, H, W]``.

    Args:
        size: side of the result.
        scale: smallest and largest part of the image's area.
        flip: probability.

    >>> from PIL import Image
    >>> RandomResizedCropFlip(8)(Image.new("RGB", (20, 30))).shape
    torch.Size([3, 8, 8])
    """

    def __init__(self, size: int, scale: tuple[float, float] = (0.08, 1.0), flip: float = 0.5) -> None:
        from torchvision import transforms

        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale is a smallest and a largest part within (0, 1], got {scale}")
        self.steps = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=tuple(scale), antialias=True),
                transforms.RandomHorizontalFlip(flip),
                transforms.PILToTensor(),
            ]
        )

    def __call__(self, image: Any) -> Tensor:
        pixels: Tensor = self.steps(image)
        return pixels.contiguous(memory_format=torch.contiguous_format)
