"""Softmax and normalisations by ladders: functions over a vector, with elementwise ladders and one scalar a row.

A row's own power of two takes its scale out, so that a ladder sees arguments of a fixed range: exp of differences from
the largest, the reciprocal of a number in [1, 2), the reciprocal root of one in [1, 4). Shifts by powers of two and
additions are all that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .captured import captured
from .function import Work
from .kernels.dispatch import total

__all__ = [
    "NORMALISATIONS", "Normalisation", "ladder_attention", "ladder_group_norm", "ladder_layer_norm", "ladder_rms_norm",
    "ladder_softmax", "reciprocal_codes", "softmax_codes", "softmax_scale",
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
    """``floor(f(z)*L + 1/2)``, ``L = 2^timesteps - 1``, of an f with values up to 1, with the gradient of ``f*L``."""
    levels = 2**timesteps - 1
    if captured():
        evaluated: Tensor = (function(z.double()) * levels + 0.5).floor().to(z.dtype)
        return evaluated
    rows = z.reshape(1, 1, -1)
    code = total("ladder", rows, 1 / levels, timesteps=timesteps, function=function, scaled=False).reshape(z.shape)
    found: Tensor = _straight_through(code, function(z) * levels) if _differentiates(z) else code
    return found


def _differentiates(z: Tensor) -> bool:
    return z.requires_grad and torch.is_grad_enabled()


def _straight_through(code: Tensor, smooth: Tensor) -> Tensor:
    """The code, with the gradient of what was coded."""
    return code + (smooth - smooth.detach())


def _power_below(x: Tensor) -> Tensor:
    """``floor(log2 x)`` of positive numbers, exactly.

    Example:
        >>> _power_below(torch.tensor([1.0, 3.9, 0.5]))
        tensor([ 0,  1, -1], dtype=torch.int32)
    """
    if captured():  # ONNX has no frexp, and a logarithm may be off at a power of two itself
        size = torch.where(x > 0, x.double(), torch.full_like(x, 0.5, dtype=torch.float64))
        k = size.log2().round()
        k = k - (k.exp2() > size).to(k)
        return k.to(torch.int32)
    return torch.frexp(x).exponent - 1


def _shifted(x: Tensor, k: Tensor) -> Tensor:
    """``x*2^k``, with its gradient: that of ``torch.ldexp`` is 0 below k = 0 in torch 2.11."""
    if _differentiates(x):
        return x * torch.ldexp(torch.ones_like(k, dtype=x.dtype), k)
    return torch.ldexp(x, k)


def softmax_codes(x: Tensor, dim: int, timesteps: int) -> Tensor:
    """What a softmax sends along an axis: ``e_j = floor(exp(u_j)*L + 1/2)/L`` with ``u_j = x_j - max x``.

    Where all of a row is -inf, nothing is sent.

    Args:
        x: logits.
        dim: the axis.
        timesteps: ``T``, bits of a code; ``L = 2^T - 1``.

    Returns:
        Whole numbers of ``1/L``, of the shape of ``x``.

    Example:
        >>> softmax_codes(torch.tensor([[0.0, -0.7, -torch.inf]]), dim=-1, timesteps=2) * 3
        tensor([[3., 1., 0.]])
    """
    largest = x.amax(dim, keepdim=True)
    u = x - torch.where(largest == -torch.inf, torch.zeros_like(largest), largest)
    e: Tensor = _by_ladder(EXP, u, timesteps) / (2**timesteps - 1)
    return e


def softmax_scale(e: Tensor, dim: int, timesteps: int) -> Tensor:
    """``r*2^-k`` of the codes of a softmax, which makes weights of them: ``e_j*r*2^-k`` (`ladder_softmax`).

    Args:
        e: what `softmax_codes` gave.
        dim: the axis.
        timesteps: ``T``, bits of a code.

    Returns:
        One number a row: the shape of ``e`` with 1 at the axis; 1 where nothing was sent.

    Example:
        >>> softmax_scale(torch.tensor([[1.0, 1.0, 0.0]]), dim=-1, timesteps=4)
        tensor([[0.5000]])
    """
    levels = 2**timesteps - 1
    whole = (e * levels).round()  # sums of whole numbers are exact, in whatever order
    codes = _straight_through(whole, e * levels) if _differentiates(e) else whole
    total_ = codes.sum(dim, keepdim=True).clamp(min=levels) / levels
    k = _power_below(total_)
    r = _by_ladder(RECIPROCAL, _shifted(total_, -k), timesteps) / levels
    return _shifted(r, -k)


def reciprocal_codes(scale: Tensor, timesteps: int) -> Tensor:
    """``r*L`` of ``r*2^-k``, r in (1/2, 1]: the whole numbers that `softmax_scale` sends.

    Example:
        >>> reciprocal_codes(torch.tensor([1.0, 0.5, 0.3667]), timesteps=4)
        tensor([15., 15., 11.])
    """
    fraction = torch.frexp(scale).mantissa  # r, or 1/2 where r is 1
    r: Tensor = torch.where(fraction == 0.5, torch.ones_like(fraction), fraction)
    codes: Tensor = (r * (2**timesteps - 1)).round()
    return codes


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
    e = softmax_codes(x, -1, timesteps)
    return e, softmax_scale(e, -1, timesteps)


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


class _Rows(NamedTuple):
    """Rows as codes of both signs, and the reciprocal root of their mean square as one.

    Attributes:
        code: of each component, a whole number from ``-L`` to ``L``.
        q: what one of it is worth, a power of two a row.
        root: of the row: ``r*L``, a whole number.
        k: half the power of two that was taken out of the mean square.
    """

    code: Tensor
    q: Tensor
    root: Tensor
    k: Tensor


def _signed_code(z: Tensor, timesteps: int) -> Tensor:
    """``clip(floor(z + 1/2), -L, L)``."""
    if captured():
        levels = 2**timesteps - 1
        return (z.double() + 0.5).floor().clamp(-levels, levels).to(z.dtype)
    return total("shifted_threshold", z.reshape(1, 1, -1), 1.0, timesteps=timesteps, signed=True).reshape(z.shape)


def _coded_rows(c: Tensor, timesteps: int, eps: float) -> _Rows:
    """The codes of rows ``[..., n]``."""
    q = torch.ldexp(torch.ones_like(c[..., :1]), _power_below(c.abs().amax(-1, keepdim=True)) + 1 - timesteps)
    rows = c / q  # a power of two: exact
    code = _signed_code(rows, timesteps)
    code = _straight_through(code, rows) if _differentiates(rows) else code
    w = (code * q).square().mean(-1, keepdim=True) + eps
    k = torch.div(_power_below(w), 2, rounding_mode="floor")
    return _Rows(code, q, _by_ladder(RECIPROCAL_ROOT, _shifted(w, -2 * k), timesteps), k)


def _scaled_rows(c: Tensor, timesteps: int, eps: float) -> Tensor:
    """Rows divided by the root of their mean square plus ``eps``, over the last axis, by codes and a ladder."""
    found = _coded_rows(c, timesteps, eps)
    return found.code * found.q * _shifted(found.root / (2**timesteps - 1), -found.k)


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
    y = _scaled_rows(_rows(x, groups=groups), timesteps, eps).reshape(x.shape)
    by_channel = [1, -1, *[1] * (x.dim() - 2)]
    y = y if weight is None else y * weight.reshape(by_channel)
    return y if bias is None else y + bias.reshape(by_channel)


def _rows(x: Tensor, shape: Sequence[int] | None = None, groups: int | None = None, centred: bool = True) -> Tensor:
    """What is normalised together in the last axis, less its mean where ``centred``."""
    axes = 1 if shape is None else len(shape)
    rows = x.flatten(-axes) if groups is None else x.reshape(x.shape[0], groups, -1)
    return rows - rows.mean(-1, keepdim=True) if centred else rows


def _normalised(
    x: Tensor,
    timesteps: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    shape: Sequence[int] | None,
    centred: bool,
) -> Tensor:
    y = _scaled_rows(_rows(x, shape, centred=centred), timesteps, eps).reshape(x.shape)
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
        codes: ``codes(x, timesteps, **how)``: the codes that are sent, whole numbers: of the components ``[..., n]``
            and of the row ``[..., 1]``; ``how``: ``eps``, ``shape``, ``groups``, ``dim``, as far as ``run`` has them.
    """

    name: str
    run: Callable[..., Any]
    work: Callable[[int, int], Work]
    codes: Callable[..., tuple[Tensor, Tensor]]


def _softmax_work(n: int, timesteps: int) -> Work:
    return Work(comparisons=n - 1 + n * timesteps + timesteps)


def _row_work(n: int, timesteps: int) -> Work:
    return Work(comparisons=n - 1 + timesteps)


def _codes_of_softmax(x: Tensor, timesteps: int, dim: int = -1) -> tuple[Tensor, Tensor]:
    e = softmax_codes(x, dim, timesteps).movedim(dim, -1)
    return (e * (2**timesteps - 1)).round(), reciprocal_codes(softmax_scale(e, -1, timesteps), timesteps)


def _codes_of_rows(centred: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    def codes(x: Tensor, timesteps: int, eps: float, **how: Any) -> tuple[Tensor, Tensor]:
        found = _coded_rows(_rows(x, centred=centred, **how), timesteps, eps)
        return found.code, found.root

    return codes


NORMALISATIONS = {
    record.name: record
    for record in (
        Normalisation("softmax", ladder_softmax, _softmax_work, _codes_of_softmax),
        Normalisation("layer_norm", ladder_layer_norm, _row_work, _codes_of_rows(centred=True)),
        Normalisation("rms_norm", ladder_rms_norm, _row_work, _codes_of_rows(centred=False)),
        Normalisation("group_norm", ladder_group_norm, _row_work, _codes_of_rows(centred=True)),
    )
}
"""Every function over a vector that has a realisation by ladders, by its name; more may be added."""
