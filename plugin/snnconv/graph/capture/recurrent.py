"""Recurrent layers as the steps that they are made of: layers with weights, gates, products.

``torch.nn``'s recurrent layers are one kernel each. Written out, the product of the input with its weights is one layer
for all positions, what a position makes of the state before it is a layer of its own, and gates are activations. The
number of positions is then fixed, as a number of layers is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv.graph.source import ConversionError

__all__ = ["CELLS", "unrolled_forward"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


def unrolled_forward(module: nn.Module) -> Callable[..., Any] | None:
    """The forward of ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU``, position by position; None for others.

    >>> lstm, x = nn.LSTM(3, 4, batch_first=True), torch.rand(2, 5, 3)
    >>> torch.allclose(unrolled_forward(lstm)(x)[0], lstm(x)[0], atol=1e-6)
    True
    """
    if isinstance(module, (nn.RNN, nn.LSTM, nn.GRU)) and type(module).forward is _KINDS[module.mode]:
        return partial(_layers, module)
    return None


_KINDS: dict[str, Any] = {
    "RNN_TANH": nn.RNN.forward, "RNN_RELU": nn.RNN.forward, "LSTM": nn.LSTM.forward, "GRU": nn.GRU.forward,
}  # fmt: skip


def _layers(m: nn.RNNBase, input: Any, hx: Any = None) -> tuple[Tensor, Any]:
    if not isinstance(input, Tensor) or input.dim() != 3:
        raise ConversionError(
            f"{type(m).__name__} is converted for inputs [B, length, features] of one length; packed sequences and "
            "inputs without a batch are not: pad them"
        )
    x = input.transpose(0, 1) if m.batch_first else input  # [length, B, features]
    given = None if hx is None else (hx if isinstance(hx, tuple) else (hx,))
    last: list[tuple[Tensor, ...]] = []
    for layer in range(m.num_layers):
        ways = []
        for way in range(1 + m.bidirectional):
            number = layer * (1 + m.bidirectional) + way
            state = None if given is None else tuple(part[number] for part in given)
            out, end = _positions(m, m.all_weights[number], x, state, backwards=way == 1)
            ways.append(out)
            last.append(end)
        x = torch.cat(ways, -1) if len(ways) > 1 else ways[0]
    ends = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
    return (x.transpose(0, 1) if m.batch_first else x), (ends if m.mode == "LSTM" else ends[0])


def _positions(
    m: nn.RNNBase, weights: Sequence[Tensor], x: Tensor, state: tuple[Tensor, ...] | None, backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction: all outputs, and the last state."""
    into, over = weights[0], weights[1]
    bias: Sequence[Tensor | None] = weights[2:4] if m.bias else (None, None)
    project = weights[-1] if m.mode == "LSTM" and m.proj_size > 0 else None
    reads = F.linear(x, into, bias[0])
    count = int(x.shape[0])
    found: list[Tensor] = [reads] * count
    for place in reversed(range(count)) if backwards else range(count):
        found[place], state = _step(m, reads[place], over, bias[1], state, project)
    assert state is not None
    return torch.stack(found), state


def _step(
    m: nn.RNNBase | nn.RNNCellBase,
    read: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    state: tuple[Tensor, ...] | None,
    project: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One position: what it gives, and the state behind it. Without a state it is zero, and no layer reads it."""
    if state is not None:
        remembered: Any = F.linear(state[0], weight, bias)
    else:
        remembered = bias
    if isinstance(m, (nn.RNN, nn.RNNCell)):
        kind = m.nonlinearity if isinstance(m, nn.RNNCell) else m.mode.removeprefix("RNN_").lower()
        h = _ACTIVATIONS[str(kind)](read if remembered is None else read + remembered)
        return h, (h,)
    if isinstance(m, (nn.LSTM, nn.LSTMCell)):
        i, f, g, o = (read if remembered is None else read + remembered).chunk(4, -1)
        new = torch.sigmoid(i) * torch.tanh(g)
        c = new if state is None else torch.sigmoid(f) * state[1] + new
        h = torch.sigmoid(o) * torch.tanh(c)
        h = h if project is None else F.linear(h, project)
        return h, (h, c)
    r, z, n = read.chunk(3, -1)
    if remembered is not None:
        hr, hz, hn = remembered.chunk(3, -1)
        r, z = r + hr, z + hz
        n = n + torch.sigmoid(r) * hn
    z, n = torch.sigmoid(z), torch.tanh(n)
    h = n - z * n if state is None else n + z * (state[0] - n)
    return h, (h,)


def _cell(m: Any, input: Any, hx: Any = None) -> Any:
    read = F.linear(input, m.weight_ih, m.bias_ih)
    state = None if hx is None else (hx if isinstance(hx, tuple) else (hx,))
    h, end = _step(m, read, m.weight_hh, m.bias_hh, state)
    return end if isinstance(m, nn.LSTMCell) else h


CELLS: dict[type[nn.Module], Callable[..., Any]] = {nn.RNNCell: _cell, nn.LSTMCell: _cell, nn.GRUCell: _cell}
"""Forwards of cells without their choices between inputs with a batch and without."""
