"""A call's arguments by name, whatever way they were given: by position, by keyword, to a function or a method."""

from __future__ import annotations

from typing import Any

from torch import fx

from snnconv.graph.ops import operator_of

__all__ = ["argument", "arguments", "operand", "set_argument"]


def arguments(node: fx.Node) -> dict[str, Any]:
    """Arguments of a call that are given, by the names of the operator's record.

    >>> import torch
    >>> graph = fx.Graph()
    >>> x = graph.placeholder("x")
    >>> arguments(graph.call_function(torch.nn.functional.pad, (x, [1, 1]), {"value": 2.0}))
    {'input': x, 'pad': [1, 1], 'value': 2.0}
    >>> arguments(graph.call_method("permute", (x, 0, 2, 1)))["dims"]
    (0, 2, 1)
    """
    return operator_of(node.target, node.op == "call_method").bind(node.args, node.kwargs)


def argument(node: fx.Node, name: str, default: Any = None) -> Any:
    """One argument of a call, or ``default`` where it is not given.

    >>> import torch
    >>> graph = fx.Graph()
    >>> argument(graph.call_function(torch.conv2d, (None, None, None, 2)), "stride", 1)
    2
    """
    return arguments(node).get(name, default)


def operand(node: fx.Node) -> Any:
    """What a call works on: its first argument, also where it is given by name.

    >>> import torch
    >>> graph = fx.Graph()
    >>> x = graph.placeholder("x")
    >>> operand(graph.call_function(torch.relu, (), {"input": x})) is x
    True
    """
    if node.args:
        return node.args[0]
    first = operator_of(node.target, node.op == "call_method").parameters[0].lstrip("*")
    return arguments(node).get(first)


def set_argument(node: fx.Node, name: str, value: Any) -> None:
    """Give a call another value for one argument, in the way in which it was given; by keyword where it was not.

    >>> import torch
    >>> graph = fx.Graph()
    >>> call = graph.call_function(torch.conv2d, (None, None))
    >>> set_argument(call, "bias", 1.0)
    >>> call.args, call.kwargs
    ((None, None, 1.0), {})
    """
    record = operator_of(node.target, node.op == "call_method")
    names = [p.lstrip("*") for p in record.parameters]
    given = next((k for k in node.kwargs if record.spelled(k) == name), None)
    at = names.index(name) if name in names else len(node.args) + 1
    if at < len(record.parameters) and record.parameters[at].startswith("*") and given is None:
        node.args = (*node.args[:at], *value)
    elif given is not None or at > len(node.args):
        node.kwargs = {**node.kwargs, given or name: value}
    else:
        node.args = (*node.args[:at], value, *node.args[at + 1 :])
