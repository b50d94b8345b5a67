"""Operators of networks whose softmax and normalisations are had by codes and ladders: the parts they are made of.

Each computes with `snnconv.dynamics.normalisation`; its record says which normalisation it is a part of, so that it
counts as no function, and that the codes of a softmax are spikes. ``timesteps`` is always given by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from snnconv.dynamics import normalisation
from snnconv.graph import axes
from snnconv.graph.error import ConversionError
from snnconv.graph.ops import Operator, register_operator
from snnconv.graph.torch_ops import along

__all__ = ["BY_LADDERS", "ladder_group_norm", "ladder_layer_norm", "ladder_rms_norm", "row_scaled", "softmax_codes",
           "softmax_scale"]  # fmt: skip

MOST_STEPS = 16
"""Bits of a code: more than float32 resolves beyond, and as many thresholds as a ladder may have."""


def _checked(timesteps: int) -> int:
    if type(timesteps) is not int or not 1 <= timesteps <= MOST_STEPS:
        raise ConversionError(f"a code has 1 to {MOST_STEPS} bits, got timesteps={timesteps!r:.40}")
    return timesteps


def _check_shape(input: Tensor, shape: Sequence[int]) -> None:
    """Refuse what PyTorch's function of the same name refuses."""
    if not shape or list(input.shape[input.dim() - len(shape) :]) != list(shape):
        raise ConversionError(f"a normalisation over the shape {list(shape)} got {list(input.shape)}")


def softmax_codes(input: Tensor, dim: int, *, timesteps: int) -> Tensor:
    """What a softmax sends along ``dim``: `snnconv.dynamics.normalisation.softmax_codes`.

    Raises:
        ConversionError: not 1 to 16 bits.

    >>> softmax_codes(torch.zeros(1, 2), -1, timesteps=4)
    tensor([[1., 1.]])
    """
    return normalisation.softmax_codes(input, dim, _checked(timesteps))


def softmax_scale(input: Tensor, dim: int, *, timesteps: int) -> Tensor:
    """What makes weights of a softmax's codes: `snnconv.dynamics.normalisation.softmax_scale`.

    Raises:
        ConversionError: not 1 to 16 bits.

    >>> softmax_scale(torch.ones(1, 2), -1, timesteps=4)
    tensor([[0.5000]])
    """
    return normalisation.softmax_scale(input, dim, _checked(timesteps))


def row_scaled(input: Tensor, scale: Tensor) -> Tensor:
    """Rows times a number each, r·2^−k: an addition for every set bit of r, and shifts.

    >>> row_scaled(torch.ones(1, 2), torch.tensor([[0.5]]))
    tensor([[0.5000, 0.5000]])
    """
    return input * scale


def ladder_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    timesteps: int,
) -> Tensor:
    """``layer_norm`` by codes and a ladder: `snnconv.dynamics.normalisation.ladder_layer_norm`.

    Raises:
        ConversionError: an input of another shape, or not 1 to 16 bits.

    >>> ladder_layer_norm(torch.tensor([[1.0, 3.0]]), [2], timesteps=8).round(decimals=2)
    tensor([[-1.,  1.]])
    """
    _check_shape(input, normalized_shape)
    return normalisation.ladder_layer_norm(input, _checked(timesteps), weight, bias, eps, normalized_shape)


def ladder_rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    timesteps: int,
) -> Tensor:
    """``rms_norm`` by codes and a ladder: `snnconv.dynamics.normalisation.ladder_rms_norm`.

    Raises:
        ConversionError: an input of another shape, or not 1 to 16 bits.

    >>> ladder_rms_norm(torch.tensor([[3.0, 3.0]]), [2], timesteps=8).round(decimals=2)
    tensor([[1., 1.]])
    """
    _check_shape(input, normalized_shape)
    added = torch.finfo(input.dtype).eps if eps is None else eps
    return normalisation.ladder_rms_norm(input, _checked(timesteps), weight, added, normalized_shape)


def ladder_group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    timesteps: int,
) -> Tensor:
    """``group_norm`` by codes and a ladder: `snnconv.dynamics.normalisation.ladder_group_norm`.

    Raises:
        ConversionError: channels that do not make so many groups, or not 1 to 16 bits.

    >>> ladder_group_norm(torch.tensor([[[1.0], [3.0]]]), 1, timesteps=8).round(decimals=2).flatten()
    tensor([-1.,  1.])
    """
    if num_groups < 1 or input.dim() < 2 or input.shape[1] % num_groups:
        raise ConversionError(f"a normalisation in {num_groups} groups of channels got {list(input.shape)}")
    return normalisation.ladder_group_norm(input, num_groups, _checked(timesteps), weight, bias, eps)


# --- records -----------------------------------------------------------------------------------------------


def _add(function: Callable[..., Any], parameters: str, ladder: str, **more: Any) -> None:
    name = f"snnconv.{function.__name__}"
    register_operator(Operator((function,), (), tuple(parameters.split()), name=name, ladder=ladder, **more))


_add(softmax_codes, "input dim", "softmax", codes=True, phases=1, batch=along(), channels=axes.same)
_add(softmax_scale, "input dim", "scale", phases=1, batch=along())
_add(row_scaled, "input scale", "scale", channels=axes.same)
_add(ladder_layer_norm, "input normalized_shape weight bias eps", "layer_norm", phases=2, channels=axes.last)
_add(ladder_rms_norm, "input normalized_shape weight eps", "rms_norm", phases=2, channels=axes.last)
_add(ladder_group_norm, "input num_groups weight bias eps", "group_norm", phases=2, channels=axes.second)

BY_LADDERS: dict[str, Callable[..., Tensor]] = {
    "layer_norm": ladder_layer_norm, "rms_norm": ladder_rms_norm, "group_norm": ladder_group_norm,
}  # fmt: skip
"""Normalisations that take what PyTorch's function of the same name takes."""
