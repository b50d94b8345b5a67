"""One call of ATen's, and how a call of the operator table is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from snnconv.graph.ops import operator_of

__all__ = ["Call", "Target", "Uncovered", "called"]


class Uncovered(Exception):
    """An operator that has no equivalent in the operator table."""


Target = Callable[..., Any] | str


@dataclass
class Call:
    """A call of ATen's operator that is to be written into a graph.

    Attributes:
        name: of the operator: ``conv2d``.
        given: its arguments by ATen's names, in their order.
        graph: where it is written.
        dims: number of dimensions of the first tensor.
        device: makes a node that says where the network's input is.
        keywords: those of the arguments that are given by keyword alone.
        only_first: whether of several results only the first is read.
    """

    name: str
    given: dict[str, Any]
    graph: fx.Graph
    dims: int
    device: Callable[[], fx.Node]
    keywords: frozenset[str] = frozenset()
    only_first: bool = False

    def make(self, target: Target, /, **given: Any) -> fx.Node:
        """A call of one of the table's operators, its arguments by the names of the table."""
        return called(self.graph, target, given, self.keywords)


def called(
    graph: fx.Graph, target: Target, given: Mapping[str, Any], keywords: frozenset[str] = frozenset()
) -> fx.Node:
    """A node that calls an operator of the table: by position as far as it goes, by keyword from there on.

    ``keywords`` are those that are given by keyword alone.

    >>> import torch
    >>> graph = fx.Graph()
    >>> called(graph, torch.conv2d, {"input": graph.placeholder("x"), "weight": 1.0, "stride": 2}).kwargs
    {'stride': 2}
    """
    method = isinstance(target, str)
    record = operator_of(target, method)
    left = {record.spelled(name): value for name, value in given.items()}
    args: list[Any] = []
    for parameter in record.parameters:
        name = parameter.lstrip("*")
        if name not in left or name in keywords:
            break
        value = left.pop(name)
        spread = parameter.startswith("*") and method and isinstance(value, (list, tuple)) and len(value) > 0
        args += value if spread else [value]
    while len(args) > 1 and args[-1] is None:
        args.pop()
    kwargs = {name: value for name, value in left.items() if value is not None}
    return graph.create_node("call_method" if method else "call_function", target, tuple(args), kwargs)
