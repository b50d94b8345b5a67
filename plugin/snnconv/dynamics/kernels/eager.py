"""Multi-step scans in plain PyTorch: in place, for any device and dtype.

Each function writes the output of its namesake in `snnconv.dynamics` into ``out``, bit for bit, and allocates
nothing per step. ``theta`` and ``dead_zone`` are floats or tensors that broadcast against one step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..threshold import half_threshold, membrane_dtype, threshold_like


def if_scan(
    x_seq: Tensor,
    out: Tensor,
    theta: float | Tensor,
    scaled: bool,
    state: Sequence[Tensor] = (),
    resumed: bool = False,
) -> None:
    """Run integrate-and-fire; the last potential goes to ``state``, where a resumed run starts."""
    v = state[0] if resumed else half_threshold(x_seq[0], theta)
    _if_steps(x_seq, out, v, threshold_like(theta, v), scaled)
    _keep(state, v)


def srp_scan(
    x_seq: Tensor, out: Tensor, theta: float | Tensor, dead_zone: float | Tensor, scaled: bool, pre: int
) -> None:
    """Run SRP-IF with ``pre`` steps of phase 1."""
    v = half_threshold(x_seq[0], theta)
    theta = threshold_like(theta, v)
    _if_steps(x_seq[:pre], out[:pre], v, theta, scaled)
    mask = v > dead_zone if pre else None
    _if_steps(x_seq[pre:], out[pre:], half_threshold(x_seq[0], theta), theta, scaled)
    if mask is not None:
        out[pre:].mul_(mask)


def srp_phase(
    x_seq: Tensor,
    out: Tensor,
    mask: Tensor,
    theta: float | Tensor,
    dead_zone: float | Tensor,
    scaled: bool,
    first: bool,
) -> None:
    """Run one phase of SRP-IF; the first writes ``mask``, the second reads it."""
    v = half_threshold(x_seq[0], theta)
    _if_steps(x_seq, out, v, threshold_like(theta, v), scaled)
    if first:
        torch.gt(v, dead_zone, out=mask)
    else:
        out.mul_(mask)


def _if_steps(x_seq: Tensor, out: Tensor, v: Tensor, theta: float | Tensor, scaled: bool) -> None:
    scratch = None if out.dtype == v.dtype else torch.empty_like(v)
    for x, emitted in zip(x_seq, out, strict=True):
        spike = emitted if scratch is None else scratch
        v.add_(x)
        torch.ge(v, theta, out=spike)
        _subtract(v, spike, theta)
        _emit(emitted, spike, theta, scaled)


def signed_if_scan(
    x_seq: Tensor,
    out: Tensor,
    theta: float | Tensor,
    dead_zone: float | Tensor,
    scaled: bool,
    state: Sequence[Tensor] = (),
    resumed: bool = False,
) -> None:
    """Run signed integrate-and-fire; states as in `if_scan`."""
    v = state[0] if resumed else half_threshold(x_seq[0], theta)
    theta = threshold_like(theta, v)
    n = state[1] if resumed else torch.zeros_like(v)
    negative, gate = torch.empty_like(v), torch.empty_like(v)
    scratch = None if out.dtype == v.dtype else torch.empty_like(v)
    for x, emitted in zip(x_seq, out, strict=True):
        spike = emitted if scratch is None else scratch
        v.add_(x)
        torch.ge(v, theta, out=spike)
        _subtract(v, spike, theta)
        torch.add(v, dead_zone, out=negative)
        torch.lt(negative, 0, out=negative)
        torch.gt(n, 0, out=gate)
        spike.addcmul_(negative, gate, value=-1)
        n.add_(spike)
        negative.mul_(gate)
        _subtract(v, negative.neg_(), theta)
        _emit(emitted, spike, theta, scaled)
    _keep(state, v, n)


def shifted_threshold_scan(x_seq: Tensor, out: Tensor, lsb: float | Tensor, scaled: bool) -> None:
    """Sum the whole input, then fire ``len(out)`` bits."""
    v = torch.zeros_like(x_seq[0], dtype=membrane_dtype(x_seq))
    lsb = threshold_like(lsb, v)
    for x in x_seq:
        v.add_(x)
    v.add_(lsb * 0.5)
    scratch = None if out.dtype == v.dtype else torch.empty_like(v)
    for k, emitted in zip(range(len(out) - 1, -1, -1), out, strict=True):
        spike = emitted if scratch is None else scratch
        theta = lsb * 2.0**k
        torch.ge(v, theta, out=spike)
        _subtract(v, spike, theta)
        _emit(emitted, spike, theta, scaled)


def shifted_threshold_total(x_seq: Tensor, out: Tensor, lsb: float | Tensor, bits: int, scaled: bool = True) -> None:
    """Sum the whole input, then write the sum of the weighted spikes, the largest first."""
    v = torch.zeros_like(x_seq[0], dtype=membrane_dtype(x_seq))
    lsb = threshold_like(lsb, v)
    for x in x_seq:
        v.add_(x)
    v.add_(lsb * 0.5)
    spike = torch.empty_like(v)
    total = out.zero_() if out.dtype == v.dtype else torch.zeros_like(v)
    for k in range(bits - 1, -1, -1):
        theta = lsb * 2.0**k
        torch.ge(v, theta, out=spike)
        if not scaled:
            total.add_(spike, alpha=2.0**k)
        spike.mul_(theta)
        v.sub_(spike)
        if scaled:
            total.add_(spike)
    if total is not out:
        out.copy_(total)


def _keep(state: Sequence[Tensor], *last: Tensor) -> None:
    for kept, value in zip(state, last, strict=False):
        if kept is not value:
            kept.copy_(value)


def _subtract(v: Tensor, spike: Tensor, theta: float | Tensor) -> None:
    if isinstance(theta, Tensor):
        v.addcmul_(spike, theta, value=-1)
    else:
        v.sub_(spike, alpha=theta)


def _emit(emitted: Tensor, spike: Tensor, theta: float | Tensor, scaled: bool) -> None:
    if scaled:
        torch.mul(spike, theta, out=emitted)
    elif emitted is not spike:
        emitted.copy_(spike)
