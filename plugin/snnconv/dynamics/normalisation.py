"""Softmax and normalisations by ladders: functions over a vector, with elementwise ladders and one scalar a row.

A row's own power of two takes its scale out, so that a ladder sees arguments of a fixed range: exp of differences from
the largest, the reciprocal of a number in [1, 2), the reciprocal root of one in [1, 4). Shifts by powers of two and
additions are all that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .function import Work
from .kernels.dispatch import total

__all__ = [
    "NORMALISATIONS", "Normalisation", "ladder_attention", "ladder_group_norm", "ladder_layer_norm", "ladder_rms_norm",
    "ladder_softmax",
]  # fmt: skip


class _Monotone:
    """A function at a neuron without extrema, of values that are never below 0."""

    extrema: tuple[float, ...] = ()
    signed = linear = False

    def __init__(self, name: str, f: Callable[[Tensor], Tensor]) -> None:
        self.name, self.f = name, f

    def __call__(self, z: Tensor, axis: int = 1) -> Tensor:
        return self.f(z)

    def __repr__(self) -> str:
        return self.name


EXP = _Monotone("exp(min(u, 0))", lambda u: u.clamp(max=0).exp())
RECIPROCAL = _Monotone("1/max(m, 1)", lambda m: m.clamp(min=1).reciprocal())
RECIPROCAL_ROOT = _Monotone("1/sqrt(max(m, 1))", lambda m: m.clamp(min=1).rsqrt())


def _by_ladder(function: _Monotone, z: Tensor, timesteps: int) -> Tensor:
    """``floor(f(z)*L + 1/2)/L`` with ``L = 2^timesteps - 1``, for values up to 1; a whole number of ``1/L``."""
    levels = 2**timesteps - 1
    rows = z.reshape(1, 1, -1)
    code = total("ladder", rows, 1 / levels, timesteps=timesteps, function=function, scaled=False)
    found: Tensor = code.reshape(z.shape) / levels
    return found


def _power_below(x: Tensor) -> Tensor:
    """``floor(log2 x)`` of positive numbers, exactly.

    Example:
        >>> _power_below(torch.tensor([1.0, 3.9, 0.5]))
        tensor([ 0,  1, -1], dtype=torch.int32)
    """
    return torch.frexp(x).exponent - 1


def ladder_softmax(x: Tensor, timesteps: int) -> tuple[Tensor, Tensor]:
    """Softmax over the last axis as codes and one scale a row.

    ``u_j = x_j - max x``; ``e_j = floor(exp(u_j)*L + 1/2)/L``; ``S = sum_j e_j``, ``k = floor(log2 S)``,
    ``r = floor(L*2^k/S + 1/2)/L`` in (1/2, 1]. The weights are ``e_j*r*2^-k``; a product with values is scaled after
    it (`ladder_attention`), since codes of e have finer steps than codes of the weights.

    Args:
        x: logits ``[..., n]``.
        timesteps: ``T``, bits of a code; ``L = 2^T - 1``.

    Returns:
        ``e`` ``[..., n]``, whole numbers of ``1/L``, and ``r*2^-k`` ``[..., 1]``.

    Example:
        >>> e, scale = ladder_softmax(torch.tensor([[0.0, 0.0]]), timesteps=4)
        >>> e * scale
        tensor([[0.5000, 0.5000]])
    """
    e = _by_ladder(EXP, x - x.amax(-1, keepdim=True), timesteps)
    total_ = e.sum(-1, keepdim=True)
    k = _power_below(total_)
    return e, torch.ldexp(_by_ladder(RECIPROCAL, torch.ldexp(total_, -k), timesteps), -k)


def ladder_attention(x: Tensor, values: Tensor, timesteps: int) -> Tensor:
    """``softmax(x) @ values`` with `ladder_softmax`, scaled after the product.

    Args:
        x: logits ``[..., queries, keys]``.
        values: ``[..., keys, channels]``, coded already where they are spikes.
        timesteps: ``T``, bits of a code.

    Example:
        >>> ladder_attention(torch.zeros(1, 1, 4), torch.ones(1, 4, 2), timesteps=3)
        tensor([[[1., 1.]]])
    """
    e, scale = ladder_softmax(x, timesteps)
    return (e @ values) * scale


def _scaled_rows(c: Tensor, timesteps: int, eps: float) -> Tensor:
    """Rows divided by the root of their mean square plus ``eps``, over the last axis, by codes and a ladder."""
    q = torch.ldexp(torch.ones_like(c[..., :1]), _power_below(c.abs().amax(-1, keepdim=True)) + 1 - timesteps)
    rows = (c / q).reshape(1, 1, -1)  # a power of two: exact
    code = total("shifted_threshold", rows, 1.0, timesteps=timesteps, signed=True).reshape(c.shape)
    coded = code * q
    w = coded.square().mean(-1, keepdim=True) + eps
    k = torch.div(_power_below(w), 2, rounding_mode="floor")
    root = _by_ladder(RECIPROCAL_ROOT, torch.ldexp(w, -2 * k), timesteps)
    return coded * torch.ldexp(root, -k)


def ladder_layer_norm(
    x: Tensor,
    timesteps: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    shape: Sequence[int] | None = None,
) -> Tensor:
    """Layer normalisation by codes of the centred row and a ladder of the reciprocal root.

    ``c = x - mean``, coded with a power-of-two step of the row, ``q = 2^(floor(log2 max|c|) + 1)/2^T``;
    ``w = mean(c^2) + eps`` by products of the code with itself; ``k = floor(log2(w)/2)``,
    ``r = floor(L*2^k/sqrt(w) + 1/2)/L`` in (1/2, 1]; ``y = c*r*2^-k*weight + bias``.

    Args:
        x: ``[..., *shape]``.
        timesteps: ``T``, bits of a code; ``L = 2^T - 1``.
        weight, bias: of ``shape``, or None.
        eps: added to the mean square.
        shape: the axes that are normalised together, as in ``torch.nn.LayerNorm``; the last one by default.

    Example:
        >>> ladder_layer_norm(torch.tensor([[1.0, 3.0]]), timesteps=8).round(decimals=2)
        tensor([[-1.,  1.]])
    """
    return _normalised(x, timesteps, weight, bias, eps, shape, centred=True)


def ladder_rms_norm(
    x: Tensor,
    timesteps: int,
    weight: Tensor | None = None,
    eps: float = 1e-6,
    shape: Sequence[int] | None = None,
) -> Tensor:
    """Root-mean-square normalisation: `ladder_layer_norm` without the mean and the bias.

    Example:
        >>> ladder_rms_norm(torch.tensor([[3.0, 3.0]]), timesteps=8).round(decimals=2)
        tensor([[1., 1.]])
    """
    return _normalised(x, timesteps, weight, None, eps, shape, centred=False)


def ladder_group_norm(
    x: Tensor,
    groups: int,
    timesteps: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Group normalisation of ``[B, C, ...]``: `ladder_layer_norm` of each group; weight and bias are by channel.

    Example:
        >>> ladder_group_norm(torch.tensor([[[1.0], [3.0]]]), groups=1, timesteps=8).round(decimals=2).flatten()
        tensor([-1.,  1.])
    """
    rows = x.reshape(len(x), groups, -1)
    y = _normalised(rows, timesteps, None, None, eps, None, centred=True).reshape(x.shape)
    by_channel = [1, -1, *[1] * (x.dim() - 2)]
    y = y if weight is None else y * weight.reshape(by_channel)
    return y if bias is None else y + bias.reshape(by_channel)


def _normalised(
    x: Tensor,
    timesteps: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    shape: Sequence[int] | None,
    centred: bool,
) -> Tensor:
    axes = 1 if shape is None else len(shape)
    rows = x.flatten(-axes)
    c = rows - rows.mean(-1, keepdim=True) if centred else rows
    y = _scaled_rows(c, timesteps, eps).reshape(x.shape)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


# --- records -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normalisation:
    """A function over the vectors of a tensor, by ladders.

    Attributes:
        name: the word for it.
        run: the function; its first argument is the tensor, ``timesteps`` the bits of a code.
        work: ``work(n, timesteps)``, comparisons for one vector of ``n`` components: those with thresholds of ladders,
            and those that find the largest component. Products of codes are counted as products of spikes are.
    """

    name: str
    run: Callable[..., Any]
    work: Callable[[int, int], Work]


def _softmax_work(n: int, timesteps: int) -> Work:
    return Work(comparisons=n - 1 + n * timesteps + timesteps)


def _row_work(n: int, timesteps: int) -> Work:
    return Work(comparisons=n - 1 + timesteps)


NORMALISATIONS = {
    record.name: record
    for record in (
        Normalisation("softmax", ladder_softmax, _softmax_work),
        Normalisation("layer_norm", ladder_layer_norm, _row_work),
        Normalisation("rms_norm", ladder_rms_norm, _row_work),
        Normalisation("group_norm", ladder_group_norm, _row_work),
    )
}
"""Every function over a vector that has a realisation by ladders, by its name; more may be added."""
