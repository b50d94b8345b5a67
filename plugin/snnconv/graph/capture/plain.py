"""Modules of PyTorch whose forward branches on values or shapes, as the steps that they are made of.

That forward cannot be captured; the steps, in evaluation mode, can. Transformers choose between a fused kernel and
their steps; attention itself stays whole, and whether a mask is causal is a hint for speed: the mask says it. Instance
normalisation looks for inputs without a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm

from snnconv.graph.capture.recurrent import CELLS

__all__ = ["plain_forward"]


def plain_forward(module: nn.Module) -> Callable[..., Any] | None:
    """The forward of such a module without its choices; ``None`` for others and for ones changed by hand.

    >>> plain_forward(nn.Linear(1, 1)) is None
    True
    """
    for kind, forward in _FORWARDS.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return partial(forward, module)
    return None


def _encoder_layer(
    m: nn.TransformerEncoderLayer,
    src: Any,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool = False,
) -> Any:
    x = src
    if m.norm_first:
        x = x + m._sa_block(m.norm1(x), src_mask, src_key_padding_mask)
        return x + m._ff_block(m.norm2(x))
    x = m.norm1(x + m._sa_block(x, src_mask, src_key_padding_mask))
    return m.norm2(x + m._ff_block(x))


def _encoder(
    m: nn.TransformerEncoder,
    src: Any,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool | None = None,
) -> Any:
    for layer in m.layers:
        src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
    return src if m.norm is None else m.norm(src)


def _decoder_layer(
    m: nn.TransformerDecoderLayer,
    tgt: Any,
    memory: Any,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    tgt_key_padding_mask: Any = None,
    memory_key_padding_mask: Any = None,
    tgt_is_causal: bool = False,
    memory_is_causal: bool = False,
) -> Any:
    masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
    return nn.TransformerDecoderLayer.forward(m, tgt, memory, *masks)


def _decoder(
    m: nn.TransformerDecoder,
    tgt: Any,
    memory: Any,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    tgt_key_padding_mask: Any = None,
    memory_key_padding_mask: Any = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Any:
    for layer in m.layers:
        tgt = layer(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
    return tgt if m.norm is None else m.norm(tgt)


def _transformer(
    m: nn.Transformer,
    src: Any,
    tgt: Any,
    src_mask: Any = None,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    src_key_padding_mask: Any = None,
    tgt_key_padding_mask: Any = None,
    memory_key_padding_mask: Any = None,
    src_is_causal: bool | None = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Any:
    memory = m.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask)
    masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
    return m.decoder(tgt, memory, *masks)


def _instance_norm(m: _InstanceNorm, input: Any) -> Any:
    if m.running_mean is not None and not m.training:  # the same for every input: a normalisation that folds
        return F.batch_norm(input, m.running_mean, m.running_var, m.weight, m.bias, False, 0.0, m.eps)
    own = m.training or not m.track_running_stats
    return F.instance_norm(input, m.running_mean, m.running_var, m.weight, m.bias, own, m.momentum or 0.0, m.eps)


_FORWARDS: dict[type[nn.Module], Callable[..., Any]] = {
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
    nn.TransformerDecoderLayer: _decoder_layer,
    nn.TransformerDecoder: _decoder,
    nn.Transformer: _transformer,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm3d: _instance_norm,
    **CELLS,
}
