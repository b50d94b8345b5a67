"""What stands at a neuron besides a clip: an elementwise function of the whole input, defined in float64."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from torch import Tensor

__all__ = ["REALISATIONS", "Function", "StandIn", "Work", "check_function", "evaluate"]


REALISATIONS = ("ladder", "function")
"""How a function is had at a neuron: by comparisons of the membrane with thresholds, or evaluated."""


class Function(Protocol):
    """An elementwise function at a neuron: what every activation kind of `snnconv.graph.activation` is.

    Attributes:
        extrema: points between which it is monotone, in order; empty for one that is monotone everywhere. None: not
            said, so that it has no ladder.
        signed: whether it takes values below zero.
        linear: whether it is the identity but for a clip that the neuron's own number of spikes is: at 0 from below
            where not ``signed``, and at the threshold.
    """

    @property
    def extrema(self) -> tuple[float, ...] | None: ...
    @property
    def signed(self) -> bool: ...
    @property
    def linear(self) -> bool: ...

    def __call__(self, z: Tensor, axis: int = 1) -> Tensor:
        """f(z); parameters with one value a channel run along ``axis`` of ``z``."""


class Work(NamedTuple):
    """What one neuron does for one input beside taking in spikes and comparing its membrane with its threshold.

    Attributes:
        comparisons: with thresholds of a ladder, silent or not.
        functions: evaluations of a function.
    """

    comparisons: int = 0
    functions: int = 0


class StandIn(NamedTuple):
    """A neuron that takes another one's place at a function.

    Attributes:
        neuron: its name.
        options: settings that it then has, besides ``function``, ``signed`` and those that both neurons have.
    """

    neuron: str
    options: Mapping[str, Any] = MappingProxyType({})


def check_function(function: Any) -> None:
    """Refuse what is no function at a neuron.

    Raises:
        ValueError: it is none.

    Example:
        >>> check_function(max)
        Traceback (most recent call last):
        ...
        ValueError: function must be an activation (snnconv.graph.activation) or have its extrema and signed, got ...
    """
    if not callable(function) or not hasattr(function, "extrema") or not hasattr(function, "signed"):
        raise ValueError(
            "function must be an activation (snnconv.graph.activation) or have its extrema and signed, got "
            f"{function!r}"
        )


def evaluate(function: Function | None, z: Tensor, axis: int = 1) -> Tensor:
    """f(z) in float64, rounded to the dtype of ``z``; ``z`` itself where there is no function.

    float64, since libraries differ in the last bit of float32, even between contiguous and strided tensors.

    Args:
        function: f, or None for the identity.
        z: accumulated input of one step, ``[B, ...]``.
        axis: channel axis of ``z``, along which parameters of f run.

    Example:
        >>> import torch
        >>> evaluate(None, torch.ones(2))
        tensor([1., 1.])
    """
    return z if function is None else function(z.double(), axis).to(z.dtype)
