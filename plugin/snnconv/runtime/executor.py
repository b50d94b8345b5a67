"""Layer-by-layer execution of a source graph over time.

Time is folded into the batch, ``[T·B, ...]``, so that every operator runs once on all steps. What does not
depend on a neuron is computed once, not T times (the input is a constant current).

Two codings. In **rate** coding a value is its mean over the steps: constants enter at every step. In **sum**
coding (shifted-threshold IF) a value is the sum over the steps of weighted spikes: constants enter once. An
operator that is not linear acts on what has been accumulated so far, y_t = f(x̄_t), and hands on the
difference, so that its output carries exactly f of its input's value at every horizon.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_any, tree_leaves, tree_map, tree_map_only

from snnconv.graph.ops import acts_on_batch, is_synapse, op_kind, op_name, shape_query
from snnconv.graph.source import ConversionError, SourceGraph, activation_site, depends_on
from snnconv.runtime.fuse import Deferred, conv_added_to, residual_adds
from snnconv.runtime.readout import Output

__all__ = ["Executor", "RunState", "Static", "Temporal"]


class Static(NamedTuple):
    """A tensor ``[B, ...]`` that does not change over time."""

    data: Tensor


class Temporal(NamedTuple):
    """A tensor over time, folded: ``[T·B, ...]``, time outermost."""

    data: Tensor


class Pair(NamedTuple):
    """A value derived from shapes: one for a batch of B, one for the folded batch of T·B."""

    static: Any
    folded: Any


_WRAPPERS = (Static, Temporal, Pair)


def _wrapped(value: Any) -> bool:
    return isinstance(value, _WRAPPERS)


def _is_pair(value: Any) -> bool:
    return isinstance(value, Pair)


def _leafwise(function: Callable[[Any], Any], tree: Any) -> Any:
    return tree_map(lambda v: function(v) if _wrapped(v) else v, tree, is_leaf=_wrapped)


@dataclass
class RunState:
    """What a run carries from one chunk of steps to the next."""

    steps: int = 0
    static: dict[str, Any] = field(default_factory=dict)
    accumulated: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def restart(self) -> None:
        """Begin a new phase: forget what was accumulated, keep what is constant."""
        self.steps = 0
        self.accumulated.clear()


NeuronFn = Callable[[str, Tensor], Tensor]


class Executor:
    """Interprets a source graph with neurons at its sites.

    Args:
        source: the network.
        neuron: ``neuron(site, x_seq [T, B, ...]) -> out [T, B, ...]``; in the static world
            (``timesteps=None``) it maps ``[B, ...]`` to ``[B, ...]``.
        coding: ``"rate"`` or ``"sum"``.
        max_pool: ``"accumulated"`` (max of the currents accumulated so far) or ``"instantaneous"`` (max at
            each step).

    Attributes:
        may_overwrite: nobody keeps what neurons put out, so that sums may be written over it.

    >>> from torch import nn
    >>> from snnconv.graph.trace import source_graph
    >>> source = source_graph(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    >>> run = Executor(source, lambda site, x: x.clamp(min=0))
    >>> run(torch.zeros(3, 2)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, source: SourceGraph, neuron: NeuronFn, coding: str = "rate", max_pool: str = "accumulated"
    ) -> None:
        self.source = source
        self.neuron = neuron
        self.coding = coding
        self.max_pool = max_pool
        self.nodes = list(source.graph.nodes)
        inputs = {n for n in self.nodes if n.op == "placeholder"}
        self.varies = depends_on(source.graph, inputs)
        self.temporal = depends_on(source.graph, set(source.site_nodes()))
        self.kinds: dict[fx.Node, str] = {}
        for node in self.nodes:
            self.kinds[node] = self._kind(node)
        self.observers: list[Callable[[fx.Node, Any], None]] = []
        self._expires: dict[fx.Node, list[fx.Node]] = {}
        last: dict[fx.Node, fx.Node] = {}
        for node in self.nodes:
            for used in node.all_input_nodes:
                last[used] = node
        for used, node in last.items():
            if used in self.varies:
                self._expires.setdefault(node, []).append(used)
        self.may_overwrite = False
        self._adds = residual_adds(self.nodes, last)
        self._deferred = set(self._adds.values())

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

        def varies(value: Any) -> bool:
            return value in self.varies and self.kinds[value] not in ("shape", "size")

        return op_kind(
            node.target,
            node.op == "call_method",
            node.args,
            dict(node.kwargs),
            lambda value: isinstance(value, fx.Node) and varies(value),
        )

    # ------------------------------------------------------------------ running

    def __call__(self, x: Any) -> Any:
        """One pass without time: the neuron function maps ``[B, ...]`` to ``[B, ...]``."""
        return _leafwise(lambda v: v.static if isinstance(v, Pair) else v.data, self._run(x, 0, RunState()))

    def steps(self, x: Any, timesteps: int, state: RunState | None = None) -> Any:
        """Run ``timesteps`` steps; every tensor of the output is ``[T, B, ...]``."""
        state = RunState() if state is None else state
        out = self._run(x, timesteps, state)

        def unfold(value: Any) -> Any:
            if isinstance(value, Pair):
                return value.static
            folded = self._folded(value, timesteps, state.steps)
            return folded.reshape(timesteps, -1, *folded.shape[1:])

        result = _leafwise(unfold, out)
        state.steps += timesteps
        return result

    def _run(self, x: Any, timesteps: int, state: RunState) -> Any:
        env: dict[fx.Node, Any] = {}
        for node in self.nodes:
            if node.op == "output":
                out = _leafwise_nodes(node.args[0], env)
                return Output(out) if isinstance(out, dict) else out
            # what was computed from shapes holds for this number of steps only
            shaped = any(tree_any(_is_pair, env.get(n), is_leaf=_wrapped) for n in node.all_input_nodes)
            cached = timesteps and node not in self.temporal and node.op != "get_attr" and not shaped
            if cached and node.name in state.static:
                value = state.static[node.name]
            else:
                value = self._evaluate(node, env, x, timesteps, state)
                if cached and not tree_any(_is_pair, value, is_leaf=_wrapped):
                    state.static[node.name] = value
            env[node] = value
            for observer in self.observers:
                observer(node, value)
            for done in self._expires.get(node, ()):
                env.pop(done, None)
        raise ConversionError("the network has no output")

    def _evaluate(self, node: fx.Node, env: dict[fx.Node, Any], x: Any, timesteps: int, state: RunState) -> Any:
        if node.op == "placeholder":
            return self._input(node, x)
        if node.op == "get_attr":
            return self.source.tensors[str(node.target)]
        args = _leafwise_nodes(node.args, env)
        kwargs = _leafwise_nodes(dict(node.kwargs), env)
        kind = self.kinds[node]
        if node in self._deferred and self._defers(node, timesteps):
            return Deferred(args, kwargs)
        if kind == "site":
            return self._fire(str(node.kwargs["site"]), args[0], timesteps, state)
        function = self._function(node)
        try:
            if node in self._adds and any(isinstance(v, Deferred) for v in args):
                args = self._added(node, args, timesteps, state)
                if len(args) == 1:
                    return args[0]
            values = (args, kwargs)
            if not tree_any(_wrapped, values, is_leaf=_wrapped):
                return function(*args, **kwargs)
            if kind == "shape" or not tree_any(lambda v: isinstance(v, Static | Temporal), values, is_leaf=_wrapped):
                return self._both_worlds(function, args, kwargs, timesteps)
            if not tree_any(lambda v: isinstance(v, Temporal), values, is_leaf=_wrapped):
                return self._static_world(function, args, kwargs)
            if kind == "nonlinear" or (kind == "homogeneous" and self.max_pool == "accumulated"):
                return self._accumulated(node, function, args, kwargs, timesteps, state)
            return self._stepwise(node, function, args, kwargs, timesteps, state)
        except (RuntimeError, TypeError, IndexError) as error:
            where = node.meta.get("path") or node.name
            raise ConversionError(f"{where}: operator {op_name(node)} failed: {error}") from error

    def _defers(self, node: fx.Node, timesteps: int) -> bool:
        """Whether a convolution waits for what it is added to."""
        if not self.may_overwrite or self.observers:
            return False
        return not timesteps or (self.coding == "rate" and node in self.temporal)

    def _added(self, node: fx.Node, args: Any, timesteps: int, state: RunState) -> tuple[Any, ...]:
        """The sum alone where the convolution could add it itself, else both operands."""
        conv = self._adds[node]
        other, waiting = sorted(args, key=lambda v: isinstance(v, Deferred))
        kind = type(other)
        operands = tree_leaves((waiting.args, waiting.kwargs), is_leaf=_wrapped)
        if kind in (Static, Temporal) and all(isinstance(v, kind) for v in operands if _wrapped(v)):
            positional, named = _leafwise(lambda v: v.data, (waiting.args, waiting.kwargs))
            total = conv_added_to(other.data, positional, named)
            if total is not None:
                return (kind(total),)
        if timesteps:
            value = self._stepwise(conv, torch.conv2d, waiting.args, waiting.kwargs, timesteps, state)
        else:
            value = self._static_world(torch.conv2d, waiting.args, waiting.kwargs)
        return tuple(value if isinstance(v, Deferred) else v for v in args)

    def _input(self, node: fx.Node, x: Any) -> Any:
        inputs = x if isinstance(x, tuple) else (x,)
        index = [n for n in self.nodes if n.op == "placeholder"].index(node)
        if index < len(inputs):
            return tree_map_only(Tensor, Static, inputs[index])
        if node.args:
            return node.args[0]
        raise ConversionError(f"the network takes an input {node.target!r} that was not given")

    def _function(self, node: fx.Node) -> Callable[..., Any]:
        if node.op == "call_method":
            # a view of what the source network lays out contiguously may be channels-last here
            method = "reshape" if node.target == "view" and _sizes(node) else str(node.target)
            return lambda value, *args, **kwargs: getattr(value, method)(*args, **kwargs)
        if node.op == "call_module":
            return self.source.modules[str(node.target)]
        return node.target  # type: ignore[return-value]

    # ------------------------------------------------------------------ worlds

    def _folded(self, value: Any, timesteps: int, start: int, repeat: bool = False) -> Any:
        """A wrapped value as seen by an operator that works on all steps at once."""
        if isinstance(value, Temporal):
            return value.data
        if isinstance(value, Pair):
            return value.folded
        if not isinstance(value, Static):
            return value
        data = value.data.unsqueeze(0)
        if self.coding == "rate" or repeat:
            return data.expand(timesteps, *data.shape[1:]).flatten(0, 1)
        first = data if start == 0 else torch.zeros_like(data)
        return torch.cat([first, data.new_zeros((timesteps - 1, *data.shape[1:]))]).flatten(0, 1)

    def _static_world(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        def plain(value: Any) -> Any:
            return value.static if isinstance(value, Pair) else value.data

        return _wrap(function(*_leafwise(plain, args), **_leafwise(plain, kwargs)), Static)

    def _both_worlds(self, function: Callable[..., Any], args: Any, kwargs: Any, timesteps: int) -> Any:
        """Shape arithmetic: evaluate for a batch of B and for the folded batch, without touching data."""
        steps = max(timesteps, 1)

        def shaped(value: Any, folded: bool) -> Any:
            if isinstance(value, Pair):
                return value.folded if folded else value.static
            data = value.data
            batch = data.shape[0] if data.dim() else 1
            batch = batch * steps if isinstance(value, Static) and folded else batch
            batch = batch // steps if isinstance(value, Temporal) and not folded else batch
            return torch.empty((batch, *data.shape[1:]), dtype=data.dtype, device="meta") if data.dim() else data

        def real_device(result: Any) -> Any:
            if isinstance(result, torch.device):
                leaves = [v for v in _flat((args, kwargs)) if isinstance(v, Static | Temporal)]
                return leaves[0].data.device
            return result

        def world(folded: bool) -> Any:
            positional, named = _leafwise(lambda v: shaped(v, folded), (args, kwargs))
            return real_device(function(*positional, **named))

        static, folded = world(False), world(True)
        if isinstance(static, Tensor):  # a constant made from shapes: with a batch dimension, or without
            return Static(static) if static.shape != folded.shape else static
        return Pair(static, folded)

    # ------------------------------------------------------------------ operators over time

    def _apply(self, node: fx.Node, function: Callable[..., Any], args: Any, kwargs: Any, timesteps: int) -> Any:
        """Run an operator on all steps at once, or, where it acts on dimension 0, step by step."""
        if not (timesteps > 1 and self._acts_on_batch(node, args, kwargs, timesteps)):
            positional, named = _leafwise(lambda v: v.folded if _is_pair(v) else v.data, (args, kwargs))
            return function(*positional, **named)
        steps = []
        for t in range(timesteps):

            def at(value: Any, t: int = t) -> Any:
                if isinstance(value, Pair):
                    return value.static
                return value.data.reshape(timesteps, -1, *value.data.shape[1:])[t] if value.data.dim() else value.data

            positional, named = _leafwise(at, (args, kwargs))
            steps.append(function(*positional, **named))
        return tree_map(lambda *v: torch.cat(v) if isinstance(v[0], Tensor) and v[0].dim() else v[0], *steps)

    @staticmethod
    def _acts_on_batch(node: fx.Node, args: Any, kwargs: Any, timesteps: int) -> bool:
        tensors = [v.data for v in _flat((args, kwargs)) if isinstance(v, Temporal)]
        if not tensors or node.op == "call_module":
            return False
        if len({(v.dim(), v.shape[:1]) for v in tensors}) > 1:
            return True  # values with different first dimensions broadcast within a step only
        if node.op == "call_function" and node.target is operator.getitem and not isinstance(args[0], Temporal):
            return False  # an element of a tuple

        def plain(value: Any) -> Any:
            return None if isinstance(value, Pair) and value.static != value.folded else (
                value.static if isinstance(value, Pair) else value
            )  # fmt: skip

        values = _leafwise(plain, args), _leafwise(plain, kwargs)
        return acts_on_batch(node.target, node.op == "call_method", *values, tensors[0].dim())

    def _stepwise(
        self,
        node: fx.Node,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        timesteps: int,
        state: RunState,
    ) -> Any:
        def fold(value: Any) -> Any:
            return value if _is_pair(value) else Temporal(self._folded(value, timesteps, state.steps))

        folded = _leafwise(fold, (args, kwargs))
        out = self._apply(node, function, folded[0], folded[1], timesteps)
        if self.coding == "sum" and self._has_constant(node, args, kwargs):
            # f(x) - f(0) is the linear part: the constant enters with the first step only

            def zeros(value: Any) -> Any:
                return value if _is_pair(value) else Temporal(torch.zeros_like(value.data))

            empty = _leafwise(zeros, folded)
            constant = self._apply(node, function, empty[0], empty[1], timesteps)

            def once(out: Tensor, constant: Tensor) -> Tensor:
                late = out.reshape(timesteps, -1, *out.shape[1:]).clone()
                first = 1 if state.steps == 0 else 0
                late[first:] -= constant.reshape(late.shape)[first:]
                return late.flatten(0, 1)

            out = tree_map(once, out, constant)
        return _wrap(out, Temporal)

    def _has_constant(self, node: fx.Node, args: Any, kwargs: Any) -> bool:
        """Whether an operator that is stepped adds something that does not come from its input."""
        if self.kinds[node] == "affine":
            return True
        return not is_synapse(node) and any(isinstance(v, Tensor) for v in tree_leaves((args, kwargs), _wrapped))

    def _accumulated(
        self,
        node: fx.Node,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        timesteps: int,
        state: RunState,
    ) -> Any:
        """y_t = f(value so far), handed on as differences; see the module's docstring."""
        mean = self.coding == "rate" and self.kinds[node] == "nonlinear"
        before, previous = state.accumulated.get(node.name, ({}, None))
        totals: dict[int, Tensor] = {}
        counter = iter(range(10_000))

        def running(value: Any) -> Any:
            if isinstance(value, Pair):
                return value
            if isinstance(value, Static):
                return Temporal(self._folded(value, timesteps, state.steps, repeat=True))
            key = next(counter)
            seq = value.data.reshape(timesteps, -1, *value.data.shape[1:]).cumsum(0)
            if key in before:
                seq = seq + before[key]
            totals[key] = seq[-1]
            if mean:
                seq = seq / self._clock(seq, state.steps)
            return Temporal(seq.flatten(0, 1))

        folded = _leafwise(running, (args, kwargs))
        y = self._apply(node, function, folded[0], folded[1], timesteps)
        last: list[Tensor] = []

        def difference(out: Tensor) -> Temporal:
            seq = out.reshape(timesteps, -1, *out.shape[1:])
            if mean:
                seq = seq * self._clock(seq, state.steps)
            first = seq[:1] if previous is None else seq[:1] - previous[len(last)]
            last.append(seq[-1])
            return Temporal(torch.cat([first, seq[1:] - seq[:-1]]).flatten(0, 1))

        result = tree_map_only(Tensor, difference, y)
        state.accumulated[node.name] = (totals, last)
        return result

    @staticmethod
    def _clock(seq: Tensor, start: int) -> Tensor:
        steps = torch.arange(start + 1, start + 1 + seq.shape[0], device=seq.device, dtype=seq.dtype)
        return steps.reshape(-1, *[1] * (seq.dim() - 1))

    def _fire(self, site: str, value: Any, timesteps: int, state: RunState) -> Any:
        if not isinstance(value, Static | Temporal):
            raise ConversionError(f"{site}: this activation reads a constant, not the network's input")
        data = value.data
        if not timesteps:
            return Static(self.neuron(site, data))
        if isinstance(value, Static):
            seq = data.unsqueeze(0).expand(1 if self.coding == "sum" else timesteps, *data.shape)
        else:
            if data.shape[0] % timesteps:
                raise ConversionError(
                    f"{site}: its input's first dimension ({data.shape[0]}) is no multiple of the time steps "
                    f"({timesteps}); the network mixes the batch dimension with others"
                )
            seq = data.reshape(timesteps, -1, *data.shape[1:])
        return Temporal(self.neuron(site, seq).flatten(0, 1))


def _leafwise_nodes(tree: Any, env: dict[fx.Node, Any]) -> Any:
    return fx.node.map_arg(tree, lambda n: env[n])


def _flat(tree: Any) -> list[Any]:
    leaves: list[Any] = []
    _leafwise(lambda v: leaves.append(v), tree)
    return leaves


def _wrap(result: Any, kind: type) -> Any:
    """Wrap the tensors of a result; plain numbers stay as they are."""
    return tree_map_only(Tensor, kind, result)


def _sizes(node: fx.Node) -> bool:
    """Whether the arguments of a ``view`` are sizes, not a dtype."""
    return not any(isinstance(a, torch.dtype) for a in (*node.args, *node.kwargs.values()))
