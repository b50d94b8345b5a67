"""Attention, gated units and products with weights, as the steps that they are made of: layers, products, a softmax.

Neurons can stand in front of each of these steps; in front of what is inside one operator or one module they cannot.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconv.graph.arguments import arguments
from snnconv.graph.ops import Operator, op_name, register_operator
from snnconv.graph.source import SourceGraph

__all__ = ["expand_attention", "expand_gates", "layers_of_products", "masked_scores"]


def masked_scores(
    scores: Tensor, mask: Tensor | None = None, padding: Tensor | None = None, heads: int = 1, causal: bool = False
) -> Tensor:
    """Scores ``[B, heads, L, S]`` of an attention with what may not be attended to at −∞.

    Args:
        scores: products of queries and keys.
        mask: bool, true where attention is allowed, or numbers that are added; of three dimensions ``[B·heads, L, S]``.
        padding: ``[B, S]``, of the same kinds, for the keys.
        heads: of the attention.
        causal: no query sees a key behind it.

    >>> masked_scores(torch.zeros(1, 1, 2, 2), causal=True).squeeze()
    tensor([[0., -inf],
            [0., 0.]])
    """
    if mask is not None:
        if mask.dim() == 3 and heads > 1:
            mask = mask.unflatten(0, (-1, heads))
        scores = _masked(scores, mask)
    if padding is not None:
        scores = _masked(scores, padding[:, None, None, :])
    if causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    return scores


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask


register_operator(
    Operator((masked_scores,), name="snnconv.masked_scores", parameters=("input", "mask", "padding", "heads", "causal"))
)


class _Writer:
    """Writes calls in front of a node, under the path of a module."""

    def __init__(self, source: SourceGraph, node: fx.Node) -> None:
        self.source, self.node = source, node

    def call(self, target: Any, *args: Any, at: str = "", **kwargs: Any) -> fx.Node:
        """A function, or a method by its name; ``at``: of which part of the module."""
        with self.source.graph.inserting_before(self.node):
            make = self.source.graph.call_method if isinstance(target, str) else self.source.graph.call_function
            new = make(target, args, kwargs)
        path = str(self.node.meta.get("path") or "")
        new.meta = {"path": ".".join(filter(None, (path, at))), "module_type": None}
        return new

    def weight(self, name: str, value: Tensor | None) -> fx.Node | None:
        """A weight of the module's."""
        if value is None:
            return None
        path = self.node.meta.get("path")
        return self.source.new_tensor(f"{path}.{name}" if path else name, value.detach().clone(), self.node)

    def replace(self, new: fx.Node) -> None:
        self.node.replace_all_uses_with(new)
        self.source.graph.erase_node(self.node)


# --- attention -------------------------------------------------------------------------------------------------


def expand_attention(source: SourceGraph) -> None:
    """``scaled_dot_product_attention`` and ``nn.MultiheadAttention`` become layers, products and a softmax."""
    for node in list(source.graph.nodes):
        if node.op == "call_function" and node.target is F.scaled_dot_product_attention:
            write = _Writer(source, node)
            write.replace(_attention(write, **_attention_arguments(node)))
        elif node.op == "call_module" and isinstance(module := source.modules[str(node.target)], nn.MultiheadAttention):
            _expand_module(source, node, module)
    source.prune()


def _attention_arguments(node: fx.Node) -> dict[str, Any]:
    given = {k: v for k, v in arguments(node).items() if k != "dropout_p"}
    return {"mask" if k == "attn_mask" else k: v for k, v in given.items()}


def _attention(
    write: _Writer,
    query: fx.Node,
    key: fx.Node,
    value: fx.Node,
    mask: Any = None,
    is_causal: bool = False,
    scale: float | fx.Node | None = None,
    enable_gqa: bool = False,
) -> fx.Node:
    """softmax(Q·Kᵀ·scale + mask)·V."""
    if enable_gqa:
        ratio = write.call(operator.floordiv, write.call("size", query, -3), write.call("size", key, -3))
        key, value = (write.call("repeat_interleave", x, ratio, -3) for x in (key, value))
    if scale is None:
        scale = write.call(operator.pow, write.call("size", query, -1), -0.5)
    scores = write.call(torch.matmul, query, write.call("transpose", key, -2, -1))
    scores = write.call(torch.mul, scores, scale)
    if mask is not None or is_causal:
        scores = write.call(masked_scores, scores, mask, None, 1, is_causal)
    return write.call(torch.matmul, write.call(F.softmax, scores, dim=-1), value)


def _expand_module(source: SourceGraph, node: fx.Node, m: nn.MultiheadAttention) -> None:
    """An attention module as its projections, products and softmax; one with learned extra keys stays whole."""
    names = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask", "average_attn_weights",
             "is_causal")  # fmt: skip
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    items = [user for user in node.users if user.target is operator.getitem and user.args[1] in (0, 1)]
    if m.bias_k is not None or m.add_zero_attn or len(items) != len(node.users):
        return
    node.meta["path"] = str(node.target)
    write = _Writer(source, node)
    if m.in_proj_weight is not None:
        weights: Any = m.in_proj_weight.chunk(3)
    else:
        weights = (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)
    biases: Any = (None,) * 3 if m.in_proj_bias is None else m.in_proj_bias.chunk(3)
    heads = []
    for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        short = f"{name[0]}_proj"
        x = given[name] if m.batch_first else write.call("transpose", given[name], 0, 1)
        bias = write.weight(f"{short}.bias", bias)
        x = write.call(F.linear, x, write.weight(f"{short}.weight", weight), bias, at=short)
        x = write.call("unflatten", x, -1, (m.num_heads, m.head_dim), at=short)
        heads.append(write.call("transpose", x, 1, 2, at=short))
    query, key, value = heads
    scores = write.call(torch.matmul, query, write.call("transpose", key, -2, -1))
    scores = write.call(torch.mul, scores, m.head_dim**-0.5)
    mask, padding = (_allowed(write, given.get(k)) for k in ("attn_mask", "key_padding_mask"))
    if mask is not None or padding is not None:  # whether a mask is causal is a hint: the mask says it
        scores = write.call(masked_scores, scores, mask, padding, m.num_heads)
    weights = write.call(F.softmax, scores, dim=-1)
    out = write.call("flatten", write.call("transpose", write.call(torch.matmul, weights, value), 1, 2), 2)
    projection = (write.weight("out_proj.weight", m.out_proj.weight), write.weight("out_proj.bias", m.out_proj.bias))
    out = write.call(F.linear, out, *projection, at="out_proj")
    out = out if m.batch_first else write.call("transpose", out, 0, 1)
    for item in items:
        if item.args[1] == 0:
            item.replace_all_uses_with(out)
        else:
            averaged = given.get("average_attn_weights", True)
            item.replace_all_uses_with(write.call("mean", weights, 1) if averaged else weights)
        source.graph.erase_node(item)
    source.graph.erase_node(node)


def _allowed(write: _Writer, mask: Any) -> Any:
    """A mask of ``nn.MultiheadAttention``, true where attention is *not* allowed, as one that is true where it is."""
    return None if mask is None else write.call(allowed, mask)


def allowed(mask: Tensor) -> Tensor:
    """A mask that is true where attention is allowed, of one that is true where it is not; numbers as they are.

    >>> allowed(torch.tensor([True, False]))
    tensor([False,  True])
    """
    return ~mask if mask.dtype == torch.bool else mask


register_operator(Operator((allowed,), name="snnconv.allowed"))


# --- gated units, products with weights --------------------------------------------------------------------------


def expand_gates(source: SourceGraph) -> None:
    """``glu(x)`` becomes a·σ(b), a and b the halves of x."""
    for node in list(source.graph.nodes):
        if node.op == "call_function" and node.target is F.glu:
            given = arguments(node)
            write = _Writer(source, node)
            halves = write.call("chunk", given["input"], 2, given.get("dim", -1))
            a, b = (write.call(operator.getitem, halves, i) for i in (0, 1))
            write.replace(write.call(torch.mul, a, write.call(torch.sigmoid, b)))


def layers_of_products(source: SourceGraph) -> None:
    """``x @ W`` and ``addmm(b, x, W)`` with a matrix of weights become layers with weights."""
    for node in list(source.graph.nodes):
        if node.op not in ("call_function", "call_method"):
            continue
        name, given = op_name(node).strip("._"), arguments(node)
        if name in ("matmul", "mm", "bmm"):
            x, weight, bias = given.get("input"), given.get("other"), None
        elif name == "addmm" and not {"beta", "alpha"} & set(given):
            x, weight, bias = given.get("mat1"), given.get("mat2"), given.get("input")
        else:
            continue
        matrix = _constant(source, weight)
        if weight is None or matrix is None or matrix.dim() != 2 or _constant(source, x) is not None:
            continue
        if bias is not None and ((shift := _constant(source, bias)) is None or shift.dim() != 1):
            continue
        write = _Writer(source, node)
        turned = source.new_tensor(str(weight.target), matrix.t().contiguous(), node)
        write.replace(write.call(F.linear, x, turned, bias))
    source.prune()


def _constant(source: SourceGraph, node: Any) -> Tensor | None:
    return source.tensors[str(node.target)] if isinstance(node, fx.Node) and node.op == "get_attr" else None
