"""What a file writes out operator by operator, as the one activation that it is."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx, nn

__all__ = ["fuse_gelu"]


def fuse_gelu(module: fx.GraphModule, name: str) -> None:
    """x·(1 + erf(x/√2))/2, in whatever order, becomes a layer: GELU as files before operator set 20 write it.

    Args:
        module: changed in place.
        name: of the layers; a number is put behind.
    """
    graph, found = module.graph, 0
    for erf in [n for n in graph.nodes if n.target is torch.erf]:
        matched = _matched(erf)
        if matched is None:
            continue
        x, last = matched
        found += 1
        unique = f"{name}_{found}"
        module.add_module(unique, nn.GELU())
        with graph.inserting_before(last):
            new = graph.call_module(unique, (x,))
        last.replace_all_uses_with(new)
    if found:
        graph.eliminate_dead_code()
        module.recompile()


def _matched(erf: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """x, and the node that is its GELU."""
    scaled: Any = erf.args[0]
    x = _by(scaled, math.sqrt(0.5))
    if x is None:
        return None
    one = _only_user(erf)
    if one is None or one.target is not operator.add or not _number(_other(one, erf), 1.0):
        return None
    product = _only_user(one)
    if product is None or product.target is not operator.mul:
        return None
    factor = _other(product, one)
    if isinstance(factor, fx.Node) and _by(factor, 0.5) is x:  # (x/2)·(1 + erf)
        return x, product
    half = _only_user(product)
    if factor is x and half is not None and _by(half, 0.5) is product:  # (x·(1 + erf))/2
        return x, half
    return None


def _by(node: Any, number: float) -> fx.Node | None:
    """What ``node`` multiplies by a number, or divides by its inverse."""
    if not isinstance(node, fx.Node) or len(node.args) != 2:
        return None
    a, b = node.args
    if node.target is operator.mul and _number(b, number) and isinstance(a, fx.Node):
        return a
    if node.target is operator.mul and _number(a, number) and isinstance(b, fx.Node):
        return b
    if node.target is operator.truediv and _number(b, 1 / number) and isinstance(a, fx.Node):
        return a
    return None


def _number(value: Any, wanted: float) -> bool:
    return isinstance(value, (int, float)) and math.isclose(value, wanted, rel_tol=1e-6)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _other(node: fx.Node, operand: fx.Node) -> Any:
    a, b = node.args
    return b if a is operand else a
