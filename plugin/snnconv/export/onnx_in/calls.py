"""One call of an ONNX operator while a file is read: values, what they are on two batches, and the graph that grows."""

from __future__ import annotations

import keyword
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from snnconv import limits
from snnconv.graph.source import ConversionError

__all__ = ["OPERATORS", "Build", "Call", "Value", "register_onnx_operator"]


@dataclass(frozen=True)
class Value:
    """A value of an ONNX graph.

    Attributes:
        seen: what it is on each of the sample batches, which have different sizes.
        node: of the graph that is built; None where the value depends on no input's data (weights, sizes).
    """

    seen: tuple[Any, ...]
    node: fx.Node | None = None

    @property
    def constant(self) -> bool:
        """Whether it is the same whatever the batch."""
        first = self.seen[0]
        return self.node is None and all(s.shape == first.shape and torch.equal(s, first) for s in self.seen)


Operator = Callable[["Call"], "Value | tuple[Value, ...]"]
OPERATORS: dict[str, Operator] = {}
"""Every operator that is covered, by its name in ONNX (``domain::name`` of another domain than ONNX's own)."""


def register_onnx_operator(name: str) -> Callable[[Operator], Operator]:
    """Make known how an ONNX operator is said in PyTorch.

    >>> @register_onnx_operator("my.domain::Twice")
    ... def twice(call):
    ...     return call.emit(torch.mul, call.value(0), 2)
    >>> del OPERATORS["my.domain::Twice"]
    """

    def known(function: Operator) -> Operator:
        OPERATORS[name] = function
        return function

    return known


@dataclass
class Build:
    """The module that is built.

    Attributes:
        root: modules and constants.
        graph: its calls.
        batches: sizes of the sample batches.
        fixed: size of the batch that the file was written for, or None for any.
        first: the first input, whose dimension 0 is the batch.
    """

    batches: tuple[int, ...]
    fixed: int | None = None
    root: nn.Module = field(default_factory=nn.Module)
    graph: fx.Graph = field(default_factory=fx.Graph)
    first: fx.Node | None = None
    _size: fx.Node | None = None
    _known: dict[int, fx.Node] = field(default_factory=dict)

    @property
    def alone(self) -> str:
        """What messages add where the file was written for one size of the batch."""
        if self.fixed is None:
            return ""
        return f"; the file may hold for a batch of {self.fixed} alone: export it with a dynamic batch"

    def name(self, wanted: str) -> str:
        """A name for a module that is not taken, neither by another nor by what the result has of its own."""
        wanted = "".join(c if c.isascii() and c.isalnum() else "_" for c in wanted).strip("_") or "layer"
        wanted = f"layer_{wanted}" if keyword.iskeyword(wanted) or wanted in _GLOBALS else wanted
        wanted = f"_{wanted}" if wanted[0].isdigit() else wanted
        number, unique = 2, wanted
        while hasattr(self.root, unique) or hasattr(fx.GraphModule, unique):
            unique, number = f"{wanted}_{number}", number + 1
        return unique

    def placeholder(self, wanted: str) -> fx.Node:
        """An input; its name is the file's where an argument of a function may have it."""
        name = "".join(c if c.isascii() and c.isalnum() else "_" for c in wanted) or "input"
        taken = {node.target for node in self.graph.nodes} | _GLOBALS
        if name in taken or not name.isidentifier() or keyword.iskeyword(name):
            name = next(n for i in range(len(taken) + 1) if (n := f"input_{name}" + "_" * i) not in taken)
        return self.graph.placeholder(name)

    def check_size(self, what: str, function: Callable[..., Any], args: Any, kwargs: Any, batch: int | None) -> None:
        """Refuse a result that is too large, before it is computed.

        Args:
            what: the call, for messages.
            function: of tensors and plain arguments.
            args, kwargs: of the function.
            batch: size of the sample batch that they come from; None where they are the same for every batch.

        Raises:
            ConversionError: more values than `snnconv.limits.VALUES`, of the batch that the file is for.
        """
        as_meta = tree_map(lambda v: v.to("meta") if isinstance(v, Tensor) else v, (args, kwargs))
        try:
            found = function(*as_meta[0], **as_meta[1])
        except Exception:  # of a function that needs values, or of one that fails: the call itself says so
            return
        share = 1.0 if batch is None else max(self.fixed or 1, *self.batches) / batch
        for value in tree_leaves(found):
            if isinstance(value, Tensor) and math.prod(value.shape) * share > limits.VALUES:
                raise ConversionError(
                    f"{what} gives values of shape {list(value.shape)}, more than snnconv.limits.VALUES = "
                    f"{limits.VALUES}"
                )

    def node_of(self, value: Value, what: str) -> fx.Node:
        """The graph's node of a value; a constant becomes a buffer.

        Raises:
            ConversionError: a constant that depends on the size of the batch.
        """
        if value.node is not None:
            return value.node
        if not value.constant:
            raise ConversionError(f"{what}: it computes with the size of the batch, which is not covered")
        if id(value) not in self._known:
            name = self.name("constant")
            self.root.register_buffer(name, value.seen[0].clone())
            self._known[id(value)] = self.graph.get_attr(name)
            self._kept.append(value)  # its id stays its own
        return self._known[id(value)]

    _kept: list[Value] = field(default_factory=list)

    def sizes(self, seen: Sequence[Sequence[int]], what: str, last: bool = False) -> list[Any]:
        """Sizes that were seen on each batch, as arguments: numbers, or multiples of the batch's size.

        Args:
            seen: for each batch.
            what: whose they are, for messages.
            last: one that varies may be -1, as in a reshape.
        """
        varying = [i for i, column in enumerate(zip(*seen, strict=True)) if len(set(column)) > 1]
        result: list[Any] = [int(n) for n in seen[0]]
        for i in varying:
            ratios = {sizes[i] / batch for sizes, batch in zip(seen, self.batches, strict=True)}
            if len(ratios) > 1 or next(iter(ratios)) % 1:
                raise ConversionError(f"{what}: a size is no multiple of the batch, which is not covered")
            if last and len(varying) == 1:
                result[i] = -1
                continue
            if self._size is None:
                with self.graph.inserting_after(self.first):
                    self._size = self.graph.call_method("size", (self.first, 0))
            ratio = int(next(iter(ratios)))
            result[i] = self._size if ratio == 1 else self.graph.call_function(operator.mul, (self._size, ratio))
        return result


@dataclass
class Call:
    """One call of an operator.

    Attributes:
        build: where it is built.
        kind: its operator.
        name: its own name in the file.
        inputs: its operands; None for one that is left out.
        attributes: its settings.
        version: of the operator set.
    """

    build: Build
    kind: str
    name: str
    inputs: list[Value | None]
    attributes: dict[str, Any]
    version: int
    outputs: int = 1

    @property
    def what(self) -> str:
        """How messages call it."""
        return f"{self.kind} {self.name!r:.80}"

    def has(self, index: int) -> bool:
        """Whether an operand is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Value:
        """An operand.

        Raises:
            ConversionError: it is left out.
        """
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise ConversionError(f"{self.what} has no input {index}")
        return value

    def tensor(self, index: int) -> Tensor:
        """An operand that has to be a constant, such as a weight.

        Raises:
            ConversionError: it is computed.
        """
        value = self.value(index)
        if not value.constant:
            raise ConversionError(f"{self.what}: input {index} is computed, and only a constant is covered there")
        found: Tensor = value.seen[0]
        return found

    def weight(self, index: int) -> Tensor | None:
        """A constant of floating numbers, or None where it is computed or left out."""
        if not self.has(index) or not self.value(index).constant:
            return None
        found: Tensor = self.value(index).seen[0]
        return found if found.is_floating_point() else None

    def ints(self, index: int, attribute: str | None = None) -> list[int] | None:
        """Whole numbers given as an operand or, in older files, as an attribute."""
        if self.has(index):
            return [int(n) for n in self.tensor(index).reshape(-1)]
        found = None if attribute is None else self.attributes.get(attribute)
        return None if found is None else [int(n) for n in found]

    def get(self, name: str, default: Any = None) -> Any:
        """A setting."""
        return self.attributes.get(name, default)

    def refuse(self, why: str) -> ConversionError:
        """The error that this call is not covered."""
        return ConversionError(f"{self.what}: {why} is not covered; register_onnx_operator can say it")

    def emit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Value:
        """``function`` of values and plain arguments, on the samples and as a call of the graph."""
        given = (args, kwargs)
        values = [v for v in tree_leaves(given, is_leaf=_is_value) if isinstance(v, Value)]
        plain = all(v.node is None for v in values)
        seen = []
        for i, batch in enumerate(self.build.batches):
            a, k = tree_map(lambda v, i=i: v.seen[i] if isinstance(v, Value) else v, given, is_leaf=_is_value)
            self.build.check_size(self.what, function, a, k, None if plain else batch)
            seen.append(function(*a, **k))
        if plain:
            return Value(tuple(seen))
        build, what = self.build, self.what
        a, k = tree_map(lambda v: build.node_of(v, what) if isinstance(v, Value) else v, given, is_leaf=_is_value)
        return Value(tuple(seen), build.graph.call_function(function, tuple(a), k))

    def emit_sizes(self, function: Callable[..., Any], x: Value, seen: Sequence[Sequence[int]], last: bool) -> Value:
        """``function(x, sizes)`` with sizes that may depend on the batch."""
        for v, sizes, batch in zip(x.seen, seen, self.build.batches, strict=True):
            self.build.check_size(self.what, function, (v, list(sizes)), {}, None if x.node is None else batch)
        if x.node is None and all(list(s) == list(seen[0]) for s in seen):
            return Value(tuple(function(v, list(s)) for v, s in zip(x.seen, seen, strict=True)))
        sizes = self.build.sizes(seen, self.what, last)
        node = self.build.graph.call_function(function, (self.build.node_of(x, self.what), sizes))
        return Value(tuple(function(v, list(s)) for v, s in zip(x.seen, seen, strict=True)), node)

    def module(self, module: nn.Module, x: Value) -> Value:
        """``module`` of a value; a layer of the network, named as the file does."""
        module.requires_grad_(False).eval()
        held = {n: v.to("meta") for n, v in (*module.named_parameters(), *module.named_buffers())}
        for v, batch in zip(x.seen, self.build.batches, strict=True):
            self.build.check_size(
                self.what, torch.func.functional_call, (module, held, (v,)), {}, None if x.node is None else batch
            )
        with torch.no_grad():
            seen = tuple(module(v) for v in x.seen)
        if x.node is None:
            return Value(seen)
        build, name = self.build, self.build.name(self.name)
        build.root.add_module(name, module)
        return Value(seen, build.graph.call_module(name, (x.node,)))

    def each(self, value: Value, count: int) -> tuple[Value, ...]:
        """The parts of a tuple."""
        return tuple(self.emit(operator.getitem, value, i) for i in range(count))


_GLOBALS = {"self", "torch", "operator", "math", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree"}
"""What the code of a graph calls by these names."""


def _is_value(value: Any) -> bool:
    return isinstance(value, Value)
