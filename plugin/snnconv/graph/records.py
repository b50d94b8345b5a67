"""A graph as a list of records, one per operator, in plain values: what saved and pickled networks hold.

Operators stand in it by their names in the operator table. ``torch.fx`` pickles the functions themselves, which fails
for ``F.max_pool2d`` and others that torch makes inside a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from snnconv.graph.activation import activation_site
from snnconv.graph.error import ConversionError
from snnconv.graph.ops import qualified_name, resolve

__all__ = ["META", "NodeRecord", "Reference", "graph_of", "mapped", "records", "where"]

META = ("path", "pre_neuron")
"""What of a node's ``meta`` a converted network needs."""
SITE = "site"
"""The name under which ``activation_site`` stands among the operators."""
_PLAIN = frozenset({str, int, float, bool, type(None)})


@dataclass(frozen=True)
class Reference:
    """Stands for a node, by its name."""

    name: str


@dataclass(frozen=True)
class NodeRecord:
    """One node of a graph.

    Attributes:
        op: kind of node, as ``torch.fx`` has them: ``placeholder``, ``get_attr``, ``call_function`` ...
        name: unique name.
        target: operator, method, weight or input, by name; a function that the operator table does not have, itself.
        args, kwargs: its arguments, with a `Reference` in each node's place.
        meta: what is known of it beside that.
    """

    op: str
    name: str
    target: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


def where(node: fx.Node | NodeRecord) -> str:
    """A node, as messages name it."""
    return f"node {node.name!r} in {node.meta.get('path') or 'the network'}"


def records(graph: fx.Graph) -> list[NodeRecord]:
    """The nodes of a graph.

    >>> graph = fx.Graph()
    >>> graph.output(graph.call_function(torch.cat, ([graph.placeholder("x")] * 2, 1)))
    output
    >>> [(record.name, record.target) for record in records(graph)]
    [('x', 'x'), ('cat', 'torch.cat'), ('output', 'output')]
    """
    return [_record(node) for node in graph.nodes]


def _record(node: fx.Node) -> NodeRecord:
    target: Any = node.target
    if node.op == "call_function":
        target = SITE if target is activation_site else qualified_name(target) or target
    meta = {key: node.meta[key] for key in META if key in node.meta}
    kwargs = {key: _unlinked(value) for key, value in node.kwargs.items()}
    return NodeRecord(node.op, node.name, target, tuple(map(_unlinked, node.args)), kwargs, meta)


def _unlinked(value: Any) -> Any:
    return Reference(value.name) if isinstance(value, fx.Node) else mapped(value, _unlinked)


def graph_of(nodes: Sequence[NodeRecord]) -> fx.Graph:
    """Inverse of :func:`records`.

    Raises:
        ConversionError: a node that reads one that comes after it.
        ValueError: an operator that is not in the table.
    """
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}

    def linked(value: Any) -> Any:
        if type(value) in _PLAIN:
            return value
        if isinstance(value, Reference):
            if value.name not in known:
                raise ConversionError(f"{where(record)}: node {value.name!r} is read before it is computed")
            return known[value.name]
        return mapped(value, linked)

    for record in nodes:
        target = record.target
        if record.op == "call_function" and isinstance(target, str):
            target = activation_site if target == SITE else resolve(target)
        # its arguments afterwards: create_node looks through them for symbolic numbers, of which a record has none
        node = graph.create_node(record.op, target, name=record.name)
        if record.args:
            node.args = tuple(map(linked, record.args))
        if record.kwargs:
            node.kwargs = {key: linked(value) for key, value in record.kwargs.items()}
        node.meta.update(record.meta)
        known[record.name] = node
    return graph


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply ``function`` to the members of a container; other values as they are.

    >>> mapped((1, [2.5]), str)
    ('1', '[2.5]')
    """
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, tuple):
        return tuple(function(v) for v in value)
    if isinstance(value, list):
        return [function(v) for v in value]
    if isinstance(value, dict):
        return {k: function(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(function(value.start), function(value.stop), function(value.step))
    return value
