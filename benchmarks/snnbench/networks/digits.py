"""Networks for scikit-learn's digits, ``[B, 1, 8, 8]``: seconds to train, one for each kind of source network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from snnbench.networks.models import Activation, DigitsCNN
from snnconv.activations import QCFS, QuantReLU, RateNorm

__all__ = ["NETWORKS", "DigitsNetwork", "averaging_digits_cnn", "digits_mlp", "strided_digits_cnn"]


@dataclass(frozen=True)
class DigitsNetwork:
    """A network and what its activations bring.

    Attributes:
        architecture: its name in tables.
        make: a fresh one.
        rate_norm: the same with rate norm layers; None where that is not measured.
        levels: above zero, of trained quantised activations.
        trained: steps at which methods take the thresholds that training found; None where activations have none.
        relu: whether activations are ReLUs, or quantised ones; else neurons must spike with both signs.
    """

    architecture: str
    make: Callable[[], nn.Module]
    rate_norm: Callable[[], nn.Module] | None = None
    levels: int | None = None
    trained: tuple[int, ...] | None = None
    relu: bool = True


def digits_mlp(activation: Activation = nn.ReLU, width: int = 128, classes: int = 10) -> nn.Sequential:
    """Two hidden layers.

    >>> import torch
    >>> digits_mlp()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, width),
        activation(),
        nn.Linear(width, width),
        activation(),
        nn.Linear(width, classes),
    )


def strided_digits_cnn(activation: Activation = nn.ReLU, width: int = 24, classes: int = 10) -> nn.Sequential:
    """Three convolutions, strides in the place of pooling: every layer has a place on a chip.

    >>> import torch
    >>> strided_digits_cnn()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    layers: list[nn.Module] = []
    for source, target, stride in ((1, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 2)):
        layers += [nn.Conv2d(source, target, 3, stride, 1, bias=False), nn.BatchNorm2d(target), activation()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * width, classes))


def averaging_digits_cnn(activation: Activation = nn.ReLU, width: int = 24, classes: int = 10) -> nn.Sequential:
    """Three convolutions with average pooling behind the first two.

    >>> import torch
    >>> averaging_digits_cnn()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    layers: list[nn.Module] = []
    for source, target in ((1, width), (width, 2 * width), (2 * width, 2 * width)):
        layers += [nn.Conv2d(source, target, 3, padding=1, bias=False), nn.BatchNorm2d(target), activation()]
        layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers[:-1], nn.Flatten(), nn.Linear(8 * width, classes))


NETWORKS = {
    "cnn": DigitsNetwork("digits CNN", DigitsCNN, partial(DigitsCNN, RateNorm)),
    "mlp": DigitsNetwork("digits MLP", digits_mlp, partial(digits_mlp, RateNorm)),
    "strided": DigitsNetwork("digits CNN with strides", strided_digits_cnn, partial(strided_digits_cnn, RateNorm)),
    "average": DigitsNetwork(
        "digits CNN with average pooling", averaging_digits_cnn, partial(averaging_digits_cnn, RateNorm)
    ),
    "silu": DigitsNetwork("digits CNN, SiLU", partial(DigitsCNN, nn.SiLU), relu=False),
    "gelu": DigitsNetwork("digits CNN, GELU", partial(DigitsCNN, nn.GELU), relu=False),
    "qcfs4": DigitsNetwork("digits CNN, QCFS (4 levels)", partial(DigitsCNN, partial(QCFS, 4)), None, 4, (1, 2, 4, 8)),
    "qcfs8": DigitsNetwork("digits CNN, QCFS (8 levels)", partial(DigitsCNN, partial(QCFS, 8)), None, 8, (2, 4, 8, 16)),
    "quant3": DigitsNetwork(
        "digits CNN, 2-bit activations (3 levels)", partial(DigitsCNN, partial(QuantReLU, 3)), None, 3, (3,)
    ),
    "quant7": DigitsNetwork(
        "digits CNN, 3-bit activations (7 levels)", partial(DigitsCNN, partial(QuantReLU, 7)), None, 7, (7,)
    ),
    "quant15": DigitsNetwork(
        "digits CNN, 4-bit activations (15 levels)", partial(DigitsCNN, partial(QuantReLU, 15)), None, 15, (15,)
    ),
}
"""Network by the name that a command has for it."""
