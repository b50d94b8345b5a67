"""Operators on tokens ``[B, L, C]`` and vectors ``[B, C]``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.random_networks.draw import Draw, Unfit
from tests.random_networks.images import filled, groups
from tests.random_networks.relus import relu


def linear(d: Draw, h: int) -> int:
    channels, after, bias = d.channels(h), d.one_of(4, 6, 8, 12), d.chance(0.8)
    if d.chance(0.15):
        weight = nn.Parameter(torch.randn(after, channels) / channels**0.5)
        return d.add("linear, F.linear of a parameter", lambda m, h: F.linear(h, m.weight), h, weight=weight)
    return d.add(f"linear to {after}, bias {bias}", nn.Linear(channels, after, bias=bias), h)


def same_linear(d: Draw, h: int) -> int:
    return d.add("linear that keeps the shape", nn.Linear(d.channels(h), d.channels(h)), h)


def norm(d: Draw, h: int) -> int:
    channels, affine, tokens = d.channels(h), d.chance(0.8), d.layouts[h] == "tokens"
    kind = d.one_of("layer", "layer", "rms", "batch", "group", "written")
    if kind in ("layer", "rms"):
        made = (nn.LayerNorm if kind == "layer" else nn.RMSNorm)(channels, elementwise_affine=affine)
        return d.add(f"norm: {kind}, affine {affine}", filled(made, d), h)
    if kind == "written":
        return d.add(
            "norm: standardised", lambda m, h: (h - h.mean(-1, keepdim=True)) / (h.std(-1, keepdim=True) + 0.1), h
        )
    if kind == "batch":
        made = filled(nn.BatchNorm1d(channels, affine=affine), d)
    else:
        made = filled(nn.GroupNorm(groups(d, h), channels, affine=affine), d)
    if not tokens:
        return d.add(f"norm: {kind}, affine {affine}", made, h)
    return d.add(f"norm: {kind} over tokens", lambda m, h: m.norm(h.transpose(1, 2)).transpose(1, 2), h, norm=made)


def scaling(d: Draw, h: int) -> int:
    channels, constant = d.channels(h), d.one_of(0.5, 2.0, -1.0, 1 / 3)
    table: dict[str, Callable[[Any, Tensor], Tensor]] = {
        "times a constant": lambda m, h: h * constant,
        "over a constant": lambda m, h: h / constant,
        "plus a constant": lambda m, h: h + constant,
        "a constant less it": lambda m, h: constant - h,
        "times a parameter": lambda m, h: m.scale * h,
        "scale and shift": lambda m, h: h * m.scale + m.shift,
        "times a buffer": lambda m, h: h * m.buffer,
        "by its length": lambda m, h: h * h.shape[1] ** -0.5,
    }
    own: dict[str, Any] = dict(
        scale=nn.Parameter(0.3 + torch.rand(channels)), shift=nn.Parameter(torch.randn(channels) / 3)
    )
    label = d.one_of(*table)
    return d.add(label, table[label], h, buffer=0.5 + torch.rand(channels), **own)


def places(d: Draw, h: int) -> int:
    """Position embeddings: added whole, or cut to the length of the input."""
    length, channels = d.shape(h)[1:3]
    own = dict(positions=nn.Parameter(torch.randn(1, length + 2, channels) / 3))
    if d.chance(0.5):
        return d.add("add positions by its length", lambda m, h: h + m.positions[:, : h.shape[1]], h, **own)
    return d.add("add positions", lambda m, h: h + m.positions[:, :length], h, **own)


def class_token(d: Draw, h: int) -> int:
    own = dict(token=nn.Parameter(torch.randn(1, 1, d.channels(h))))
    return d.add("cat of a class token", lambda m, h: torch.cat([m.token.expand(h.shape[0], -1, -1), h], 1), h, **own)


def attention(d: Draw, h: int) -> int:
    channels = d.channels(h)
    if d.chance(0.3) and channels % 2 == 0:
        own = dict(attention=nn.MultiheadAttention(channels, 2, batch_first=True))
        return d.add("nn.MultiheadAttention", lambda m, h: m.attention(h, h, h, need_weights=False)[0], h, **own)
    own = {name: nn.Linear(channels, channels) for name in ("query", "key", "value")}

    def attended(m: Any, h: Tensor) -> Tensor:
        weights = (m.query(h) @ m.key(h).transpose(-2, -1) * channels**-0.5).softmax(-1)
        return weights @ m.value(h)

    return d.add("attention", attended, h, **own)


def mixing(d: Draw, h: int) -> int:
    """Sums over tokens by a matrix, in four ways to write it."""
    length = d.shape(h)[1]
    table: dict[str, Callable[[Any, Tensor], Tensor]] = {
        "linear over tokens": lambda m, h: m.mix(h.transpose(1, 2)).transpose(1, 2),
        "matrix times tokens": lambda m, h: m.matrix @ h,
        "einsum of a matrix": lambda m, h: torch.einsum("lk,bkc->blc", m.matrix, h),
        "convolution over tokens": lambda m, h: m.conv(h.transpose(1, 2)).transpose(1, 2),
    }
    channels = d.channels(h)
    own: dict[str, Any] = dict(mix=nn.Linear(length, length), conv=nn.Conv1d(channels, channels, 3, padding=1))
    label = d.one_of(*table)
    return d.add(label, table[label], h, matrix=nn.Parameter(torch.randn(length, length) / length**0.5), **own)


VIEWS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "tokens but the first": lambda m, h: h[:, 1:],
    "every second token": lambda m, h: h[:, ::2],
    "tokens reversed": lambda m, h: h.flip(1),
    "tokens and channels exchanged": lambda m, h: h.transpose(1, 2),
    "first half of the channels": lambda m, h: h[..., : (h.shape[-1] + 1) // 2],
    "rolled": lambda m, h: torch.roll(h, 1, 1),
    "heads and back": lambda m, h: h.reshape(*h.shape[:2], 2, -1).transpose(1, 2).transpose(1, 2).flatten(2),
}


def view(d: Draw, h: int) -> int:
    label = d.one_of(*VIEWS)
    return d.add(label, VIEWS[label], h)


def to_vector(d: Draw, h: int) -> int:
    table: dict[str, Callable[[Any, Tensor], Tensor]] = {
        "mean over tokens": lambda m, h: h.mean(1),
        "the first token": lambda m, h: h[:, 0],
        "the last token": lambda m, h: h[:, -1, :],
        "largest of the tokens": lambda m, h: h.max(1)[0],
        "tokens flattened": lambda m, h: h.flatten(1),
        "sum over tokens": lambda m, h: h.sum(dim=1) / 2,
    }
    label = d.one_of(*table)
    return d.add(label, table[label], h, layout="vector")


def to_image(d: Draw, h: int) -> int:
    """Tokens or a vector as an image of one or two dimensions."""
    if d.layouts[h] == "tokens":
        return d.add("image of tokens", lambda m, h: h.transpose(1, 2), h, layout="image")
    channels = d.channels(h)
    if channels % 4:
        raise Unfit("no whole image")
    sides = d.one_of((channels // 2, 2), (channels // 4, 2, 2))
    return d.add(f"unflatten to {sides}", nn.Unflatten(1, sides), h, layout="image")


def to_tokens(d: Draw, h: int) -> int:
    if d.channels(h) % 2:
        raise Unfit("no whole tokens")
    return d.add("vector as tokens", lambda m, h: h.view(h.shape[0], 2, -1), h, layout="tokens")


def gate(d: Draw, h: int) -> int:
    """A product of two branches."""
    a, b = same_linear(d, h), same_linear(d, h)
    if d.chance(0.5):
        return d.add("gated by sigmoid", lambda m, a, b: a * torch.sigmoid(b), relu(d, a), b)
    return d.add("product of branches", lambda m, a, b: a * b, relu(d, a), b)
