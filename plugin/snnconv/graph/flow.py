"""What a graph says of its values without running it: what varies, what a neuron changes, what lies on a way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass

import torch
from torch import fx

from snnconv.graph.arguments import operand
from snnconv.graph.ops import is_synapse, op_kind, shape_query
from snnconv.graph.source import activation_site

__all__ = ["Flow", "Path", "layer_name", "layers", "path_to", "shape_values"]


class Flow:
    """Facts of a graph, by node.

    Attributes:
        nodes: in order.
        varies: those that depend on the network's input.
        temporal: those that depend on a neuron, so that they change over time.
        kinds: ``placeholder``, ``get_attr``, ``output``, ``site``, ``shape``, ``size`` (computed from shapes alone),
            ``record`` (makes a dataclass), or the operator's kind (:mod:`snnconv.graph.ops`).
        last_readers: of each node that is read, the last that reads it.

    >>> graph = fx.Graph()
    >>> x = graph.placeholder("x")
    >>> half = graph.call_method("mul", (x, 0.5))
    >>> Flow(graph).kinds[half]
    'linear'
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.nodes = list(graph.nodes)
        self.varies: set[fx.Node] = set()
        self.temporal: set[fx.Node] = set()
        self.kinds: dict[fx.Node, str] = {}
        self.last_readers: dict[fx.Node, fx.Node] = {}
        for node in self.nodes:
            read = node.all_input_nodes
            if node.op == "placeholder" or not self.varies.isdisjoint(read):
                self.varies.add(node)
            if node.target is activation_site or not self.temporal.isdisjoint(read):
                self.temporal.add(node)
            self.kinds[node] = self._kind(node)
            self.last_readers.update(dict.fromkeys(read, node))

    def _kind(self, node: fx.Node) -> str:
        if node.op in ("placeholder", "get_attr", "output") or node.target is activation_site:
            return node.op if node.op != "call_function" else "site"
        if shape_query(node):
            return "shape"
        if node in self.varies and all(
            self.kinds[n] in ("shape", "size") for n in node.all_input_nodes if n in self.varies
        ):
            return "size"
        if node.op == "call_module":
            return "nonlinear"
        if node.op == "call_function" and isinstance(node.target, type) and is_dataclass(node.target):
            return "record"
        if node.op == "call_method" and any(_is_integer(a) for a in (*node.args, *node.kwargs.values())):
            return "nonlinear"  # a cast that rounds

        def varies(value: object) -> bool:
            if not isinstance(value, fx.Node):
                return False
            return value in self.varies and self.kinds[value] not in ("shape", "size")

        return op_kind(node.target, node.op == "call_method", node.args, dict(node.kwargs), varies)


def _is_integer(value: object) -> bool:
    return isinstance(value, torch.dtype) and not (value.is_floating_point or value.is_complex)


def shape_values(flow: Flow) -> set[fx.Node]:
    """Nodes whose values are derived from shapes alone."""
    return {node for node in flow.nodes if flow.kinds[node] in ("shape", "size")}


def layer_name(node: fx.Node) -> str:
    """Path of a layer with weights, with the node's name where the path is empty."""
    return node.meta.get("path") or node.name


def layers(flow: Flow) -> Iterator[tuple[str, fx.Node, fx.Node]]:
    """Every layer with weights: name (as in the conversion report), node, and the node that it reads."""
    taken: set[str] = set()
    for node in flow.nodes:
        if is_synapse(node) and node in flow.varies:
            name, number = layer_name(node), 2
            while name in taken:
                name, number = f"{layer_name(node)}:{number}", number + 1
            taken.add(name)
            read = operand(node)
            assert isinstance(read, fx.Node)
            yield name, node, read


@dataclass(frozen=True)
class Path:
    """What lies between neurons and a layer: their sites, the operators, and whether the input joins them."""

    sites: tuple[str, ...]
    operators: tuple[fx.Node, ...]
    reads_input: bool


def path_to(read: fx.Node, flow: Flow, shapes: set[fx.Node]) -> Path:
    """Everything that the value of ``read`` comes from, back to the nearest neurons."""
    sites: list[str] = []
    operators: list[fx.Node] = []
    reads_input = False
    seen, waiting = {read}, [read]
    while waiting:
        node = waiting.pop()
        if node.target is activation_site:
            sites.append(str(node.kwargs["site"]))
        elif node not in flow.temporal:
            reads_input = True
        else:
            operators.append(node)
            for used in node.all_input_nodes:
                if used in flow.varies and used not in shapes and used not in seen:
                    seen.add(used)
                    waiting.append(used)
    return Path(tuple(sites), tuple(operators), reads_input)
