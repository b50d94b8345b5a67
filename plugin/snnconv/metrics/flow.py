"""What becomes of spikes on their way from a neuron to the layer with weights that reads them."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import fx

from snnconv.graph.ops import (
    _ADD,
    _ADD_METHODS,
    _DIV,
    _DIV_METHODS,
    _LINEAR,
    _LINEAR_METHODS,
    _MUL,
    _MUL_METHODS,
    is_synapse,
    shape_query,
)
from snnconv.graph.provenance import layer_name
from snnconv.graph.source import activation_site
from snnconv.runtime.executor import Executor

__all__ = ["AVERAGE_POOLS", "Path", "layers", "path_to", "role", "shape_values"]

AVERAGE_POOLS = frozenset({F.avg_pool1d, F.avg_pool2d, F.avg_pool3d})
ADAPTIVE_POOLS = frozenset({F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d})
RESIZES = frozenset({F.interpolate, F.upsample})
_PRODUCTS = {operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm", "__matmul__", "__rmatmul__"}


def role(node: fx.Node, kind: str) -> str:
    """What a node does to spikes, given its operator kind.

    ``move``: changes their place (views, concatenation, padding with zeros, nearest upsampling). ``sum``:
    adds or averages them. ``max``: picks among them. ``scale``: multiplies them by a constant. ``other``: the
    rest.

    >>> role(fx.Graph().call_function(torch.cat), "linear"), role(fx.Graph().call_method("mean"), "linear")
    ('move', 'sum')
    """
    target, method = node.target, node.op == "call_method"
    if node.op not in ("call_method", "call_function"):
        return "other"
    if kind == "homogeneous":
        return "max"
    if kind not in ("linear", "affine") or target in _PRODUCTS:
        return "other"
    if target in RESIZES:
        mode = node.kwargs.get("mode", node.args[3] if len(node.args) > 3 else "nearest")
        return "move" if "nearest" in str(mode) else "sum"
    if kind == "affine":
        return "other"
    if target in (_ADD_METHODS if method else _ADD):
        return "sum"
    if target in (_MUL_METHODS | _DIV_METHODS if method else _MUL | _DIV):
        return "scale"
    if target in ({"mean", "sum"} if method else {torch.mean, torch.sum} | AVERAGE_POOLS | ADAPTIVE_POOLS):
        return "sum"
    if target is F.pad or target in (_LINEAR_METHODS if method else _LINEAR):
        return "move"
    return "other"


def shape_values(executor: Executor) -> set[fx.Node]:
    """Nodes whose values are derived from shapes alone."""
    found: set[fx.Node] = set()
    for node in executor.nodes:
        varying = [n for n in node.all_input_nodes if n in executor.varies]
        if shape_query(node) or (varying and all(n in found for n in varying)):
            found.add(node)
    return found


def layers(executor: Executor) -> Iterator[tuple[str, fx.Node, fx.Node]]:
    """Every layer with weights: name (as in the conversion report), node, and the node that it reads."""
    taken: set[str] = set()
    for node in executor.nodes:
        if is_synapse(node) and node in executor.varies:
            name, number = layer_name(node), 2
            while name in taken:
                name, number = f"{layer_name(node)}:{number}", number + 1
            taken.add(name)
            operand = node.args[0] if node.args else node.kwargs["input"]
            assert isinstance(operand, fx.Node)
            yield name, node, operand


@dataclass(frozen=True)
class Path:
    """What lies between neurons and a layer: their sites, the operators, and whether the input joins them."""

    sites: tuple[str, ...]
    operators: tuple[fx.Node, ...]
    reads_input: bool


def path_to(operand: fx.Node, executor: Executor, shapes: set[fx.Node]) -> Path:
    """Everything that ``operand``'s value comes from, back to the nearest neurons."""
    sites: list[str] = []
    operators: list[fx.Node] = []
    reads_input = False
    seen, waiting = {operand}, [operand]
    while waiting:
        node = waiting.pop()
        if node.target is activation_site:
            sites.append(str(node.kwargs["site"]))
        elif node not in executor.temporal:
            reads_input = True
        else:
            operators.append(node)
            for used in node.all_input_nodes:
                if used in executor.varies and used not in shapes and used not in seen:
                    seen.add(used)
                    waiting.append(used)
    return Path(tuple(sites), tuple(operators), reads_input)
