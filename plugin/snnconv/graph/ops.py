"""Operators: one record each, which the executor, the audit, the accounting, int8, NIR and files all read.

A converted network carries values over time. Four kinds of operator can be told apart:

``linear``
    f(a + b) = f(a) + f(b): applied to every step as it is (views, padding with zeros, sums, pooling ...).
``affine``
    linear plus a constant (a convolution with a bias): in rate coding the constant enters at every step, in
    weighted-sum coding once.
``homogeneous``
    f(c·a) = c·f(a) for c ≥ 0 but not additive (max-pooling): acts on accumulated currents.
``nonlinear``
    everything else; it has no spiking equivalent, acts on the running mean and is reported as analog.

PyTorch's own are in :mod:`snnconv.graph.torch_ops`; :func:`register_operator` adds one.
"""

from __future__ import annotations

import difflib
import functools
import operator
import types
from collections.abc import Callable, Container
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from snnconv.graph.activation import activated
from snnconv.graph.error import ConversionError
from snnconv.graph.operator_record import Contracted, Operator, Varies

__all__ = [
    "ACTIVATIONS", "METHODS", "SHAPE_ATTRIBUTES", "SYNAPSES", "VIEW_ATTRIBUTES", "Operator", "acts_on_batch", "find",
    "gives_codes", "in_place", "is_synapse", "leaf_functions", "op_kind", "op_name", "operator_of", "part_of_ladder",
    "products", "qualified_name", "register_operator", "resolve", "role", "shape_query",
]  # fmt: skip

SHAPE_ATTRIBUTES = frozenset({"shape", "ndim", "dtype", "device", "itemsize", "is_cuda"})
"""Attributes of a tensor that do not depend on its values."""
VIEW_ATTRIBUTES = frozenset({"T", "mT", "H", "mH"})
"""Attributes of a tensor that are views of it."""


# --- the table ---------------------------------------------------------------------------------------------

_OF_FUNCTION: dict[Any, Operator] = {}
_BY_NAME: dict[str, Callable[..., Any]] = {}
_QUALIFIED: dict[Any, str] = {}
METHODS: dict[str, Operator] = {}
"""Tensor methods that are known, which are those that a saved network may use."""
SYNAPSES: dict[Any, str] = {}
"""Layers with weights: function → ``conv``, ``conv_transpose`` or ``linear``."""
ACTIVATIONS: set[str] = set()
"""Names of operators that a reader of a report would call an activation or a normalisation."""
_UNKNOWN = Operator()


def register_operator(record: Operator) -> Operator:
    """Add an operator to the table: to the executor's rules, the audit's, the accounting's, and to saved networks.

    Capture keeps the calls of a Python function of one's own whole. A program that loads a network with it registers
    it before.

    Returns:
        ``record``.

    Raises:
        ValueError: a function of one's own without a ``name``, or a name, a function or a method that is known.

    >>> def halved(x):
    ...     return x / 2
    >>> record = register_operator(Operator((halved,), name="readme.halved", kind="linear", role="scale"))
    >>> op_kind(halved, False, ("x",), {}, lambda value: True)
    'linear'
    """
    for function in record.functions:
        name = _name_of(function, record)
        if not name:
            raise ValueError(f"{function!r} is no function of PyTorch: give the operator a name, such as 'mine.shift'")
        if function in _OF_FUNCTION and _QUALIFIED[function] != record.name:
            raise ValueError(f"the operator {_QUALIFIED[function]} is known already")
        if record.name and _BY_NAME.get(name, function) is not function and not _again(_BY_NAME[name], function):
            raise ValueError(f"there is an operator {name!r} already")
        _OF_FUNCTION[function] = record
        _QUALIFIED[function] = name
        _BY_NAME[name] = function
        if record.synapse:
            SYNAPSES[function] = record.synapse
        if record.activation:
            ACTIVATIONS.add(name.rpartition(".")[2].strip("_"))
    for method in record.methods:
        if method in METHODS:
            raise ValueError(f"the tensor method {method!r} is known already")
        METHODS[method] = record
        if record.activation:
            ACTIVATIONS.add(method.strip("_"))
    return record


def _again(old: Any, new: Any) -> bool:
    """Whether a function was defined once more (a notebook's cell that is run twice)."""
    return (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)


def _name_of(function: Any, record: Operator) -> str:
    if record.name:
        return record.name if len(record.functions) == 1 else f"{record.name}.{function.__name__}"
    if function in (getattr, len):
        return f"builtins.{function.__name__}"
    for space, module in (("torch", torch), ("F", F), ("operator", operator)):
        if names := _names(module, function):
            return f"{space}.{names[0]}"
    return ""


def _names(module: Any, target: Any) -> list[str]:
    # boolean_dispatch wraps max_pool2d and friends in functions that are all called `fn`
    name = getattr(target, "__name__", None)
    if name and getattr(module, name, None) is target:
        return [name]
    return [n for n, value in vars(module).items() if value is target and not n.startswith("_")]


def leaf_functions() -> tuple[Callable[..., Any], ...]:
    """Functions of users' own that capture keeps whole."""
    own = (f for f, record in _OF_FUNCTION.items() if record.name)
    return tuple(f for f in own if isinstance(f, types.FunctionType))


def find(target: Any, method: bool = False) -> Operator | None:
    """Record of a function, or of a tensor method by its name (``relu_`` too); ``None`` for an unknown one.

    >>> find("relu_", method=True) is find(torch.relu)
    True
    """
    if not method:
        return _OF_FUNCTION.get(target)
    found = METHODS.get(target)
    if found is None and str(target).endswith("_") and not str(target).endswith("__"):
        found = METHODS.get(str(target)[:-1])
    return found


def operator_of(target: Any, method: bool = False) -> Operator:
    """As :func:`find`; an unknown operator is nonlinear and does who knows what.

    >>> operator_of(torch.det).kind
    'nonlinear'
    """
    return find(target, method) or _UNKNOWN


def in_place(node: fx.Node) -> bool:
    """Whether a call, by its very name, writes its result over its first argument: ``x.add_(y)``, ``x += y``.

    >>> in_place(fx.Graph().call_function(operator.iadd))
    True
    """
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    return node.op == "call_function" and any(node.target is twin for twin, _ in operator_of(node.target).twins)


def op_name(node: fx.Node) -> str:
    """Name of a node's operator as a user would write it: ``conv2d``, ``.view``, ``max_pool2d``.

    >>> op_name(fx.Graph().call_function(torch.conv2d))
    'conv2d'
    """
    if node.op == "call_method":
        return f".{node.target}"
    if node.op == "call_module":
        return str(node.target)
    if node.target is activated:
        return str(node.kwargs["kind"])
    return _shown(node.target)


@functools.lru_cache(maxsize=1024)
def _shown(target: Any) -> str:
    for module in (F, torch):
        for name in _names(module, target):
            return name
    return str(getattr(target, "__name__", target))


def resolve(name: str) -> Callable[..., Any]:
    """Operator for a qualified name such as ``torch.cat`` or ``F.pad``.

    Only operators of this table can be named, so that reading a file never runs foreign code.

    Raises:
        ConversionError: it is not in the table; the message has names like it.

    >>> resolve("torch.cat") is torch.cat
    True
    >>> resolve("torch.load")
    Traceback (most recent call last):
    snnconv.graph.error.ConversionError: operator 'torch.load' is not one that a saved network may use ...
    """
    function = _BY_NAME.get(name)
    if function is None:
        near = difflib.get_close_matches(name, _BY_NAME, 3)
        raise ConversionError(
            f"operator {name!r} is not one that a saved network may use (register_operator adds one of your own)"
            + (f"; known are, among others, {', '.join(near)}" if near else "")
        )
    return function


def qualified_name(function: Any) -> str | None:
    """Inverse of :func:`resolve`; ``None`` where the operator may not be written to a file.

    >>> qualified_name(torch.conv2d)
    'torch.conv2d'
    """
    return _QUALIFIED.get(function)


# --- what is asked of a call -------------------------------------------------------------------------------


def is_synapse(node: fx.Node) -> bool:
    """Whether ``node`` is a layer with weights: convolution, transposed convolution, linear.

    >>> is_synapse(fx.Graph().call_function(torch.relu))
    False
    """
    return node.op == "call_function" and node.target in SYNAPSES


def part_of_ladder(node: fx.Node) -> str:
    """Of which normalisation by ladders a call is a part, as its record says; empty for any other.

    >>> part_of_ladder(fx.Graph().call_function(torch.softmax))
    ''
    """
    return operator_of(node.target).ladder if node.op == "call_function" else ""


def gives_codes(node: fx.Node) -> bool:
    """Whether what a call gives are spikes by itself: the codes of a softmax by ladders.

    >>> gives_codes(fx.Graph().call_function(torch.softmax))
    False
    """
    return node.op == "call_function" and operator_of(node.target).codes


def products(node: fx.Node, varies: Container[fx.Node]) -> dict[str, tuple[fx.Node, Contracted]]:
    """Operands of a product of two computed tensors, by name, each with the axes along which the product adds.

    Args:
        node: a call.
        varies: nodes that depend on the network's input.

    >>> graph = fx.Graph()
    >>> x, y = graph.placeholder("x"), graph.placeholder("y")
    >>> products(graph.call_function(torch.matmul, (x, y)), {x, y})
    {'input': (x, (-1,)), 'other': (y, (-2,))}
    >>> products(graph.call_function(torch.matmul, (x, y)), {x})
    {}
    """
    if node.op not in ("call_function", "call_method"):
        return {}
    record = operator_of(node.target, node.op == "call_method")
    if record.product is None:
        return {}
    given = record.bind(node.args, node.kwargs)
    found = {}
    for name, axes in record.product(given).items():
        key, _, place = name.partition(".")
        value: Any = given.get(key)
        value = value[int(place)] if place else value
        if isinstance(value, fx.Node) and value in varies:
            found[name] = (value, axes)
    return found if len(found) > 1 else {}


def shape_query(node: fx.Node) -> bool:
    """Whether a node asks for a tensor's shape, dtype or device rather than its values.

    >>> shape_query(fx.Graph().call_method("size"))
    True
    """
    if node.op not in ("call_method", "call_function"):
        return False
    record = operator_of(node.target, node.op == "call_method")
    if node.target is getattr:
        return len(node.args) > 1 and node.args[1] in SHAPE_ATTRIBUTES
    return record.kind == "shape"


def op_kind(t: Any, method: bool, args: tuple[Any, ...], kwargs: dict[str, Any], varies: Varies) -> str:
    """Kind of a call: ``linear``, ``affine``, ``homogeneous``, ``nonlinear``, or ``shape``.

    Args:
        t: the function, or the method's name.
        method: whether ``t`` is a method's name.
        args, kwargs: the call's arguments.
        varies: says whether an argument depends on the network's input (one that does not is a weight).

    >>> op_kind(torch.add, False, ("x", "weight"), {}, lambda a: a == "x")
    'affine'
    """
    record = operator_of(t, method)
    if isinstance(record.kind, str):
        return record.kind
    return record.kind(record.bind(args, kwargs), varies)


def role(node: fx.Node, kind: str) -> str:
    """What a node does to spikes, given its operator kind: ``move``, ``sum``, ``scale``, ``choose`` or ``other``.

    >>> role(fx.Graph().call_function(torch.cat), "linear"), role(fx.Graph().call_method("mean"), "linear")
    ('move', 'sum')
    """
    if node.op not in ("call_method", "call_function"):
        return "other"
    record = operator_of(node.target, node.op == "call_method")
    if kind == "affine" and record.role == "move":  # a padding with a constant, which is a current
        return "move"
    if kind != "linear":
        return "choose" if kind == "homogeneous" else "other"
    if isinstance(record.role, str):
        return record.role
    return record.role(record.bind(node.args, node.kwargs))


def acts_on_batch(t: Any, method: bool, args: tuple[Any, ...], kwargs: dict[str, Any], ndim: int) -> bool:
    """Whether a call moves, cuts, joins or reduces dimension 0, so that it cannot run on time folded into it.

    Args:
        t, method, args, kwargs: as for :func:`op_kind`; a size that depends on the batch is given as
            ``None``.
        ndim: dimensions of the (first) tensor.

    >>> acts_on_batch(torch.cat, False, (["x", "y"],), {}, 2)
    True
    >>> acts_on_batch("permute", True, ("x", 0, 2, 1), {}, 3)
    False
    """
    record = operator_of(t, method)
    return record.batch is not None and record.batch(record.bind(args, kwargs), ndim)
