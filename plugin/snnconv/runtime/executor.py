"""Layer-by-layer execution of a source graph over time.

Time is folded into the batch, ``[T·B, ...]``, so that every operator runs once on all steps. What does not
depend on a neuron is computed once, not T times (the input is a constant current).

Two codings. In **rate** coding a value is its mean over the steps: constants enter at every step. In **sum**
coding (shifted-threshold IF) a value is the sum over the steps of weighted spikes: constants enter once. An
operator that is not linear acts on what has been accumulated so far, y_t = f(x̄_t), and hands on the
difference, so that its output carries exactly f of its input's value at every horizon.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils._pytree import tree_any, tree_leaves, tree_map, tree_map_only

from snnconv.dynamics.pooling import accumulated_max_pool, running_sum
from snnconv.graph.flow import Flow
from snnconv.graph.ops import acts_on_batch, is_synapse, op_name
from snnconv.graph.source import ConversionError, SourceGraph, activation_site
from snnconv.runtime.batch import Batch, Whole
from snnconv.runtime.fuse import Deferred, conv_added_to, residual_adds
from snnconv.runtime.int8 import Int8
from snnconv.runtime.readout import Output
from snnconv.runtime.values import Pair, Spikes, Static, Temporal, has_pair, is_pair, leafwise, plain, wrapped

__all__ = ["Executor", "RunState", "Static", "Temporal"]


@dataclass
class RunState:
    """What a run carries from one chunk of steps to the next.

    Attributes:
        steps: that have run.
        static: values that no neuron changes.
        accumulated: what operators that act on the sum so far remember.
        whole: no steps follow in a phase, so that nothing need be remembered.
        backend: of the kernels.
    """

    steps: int = 0
    static: dict[str, Any] = field(default_factory=dict)
    accumulated: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    whole: bool = False
    backend: str = "auto"

    def restart(self) -> None:
        """Begin a new phase: forget what was accumulated, keep what is constant."""
        self.steps = 0
        self.accumulated.clear()


@dataclass
class Call:
    """An operator's call whose graph values are among its positional arguments, not inside them.

    Attributes:
        args: positional arguments, graph nodes in their places.
        slots: those places, each with its node.
        on_batch: whether it acts on dimension 0, by the number of dimensions.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    slots: list[tuple[int, fx.Node]]
    on_batch: dict[int, bool] = field(default_factory=dict)


NeuronFn = Callable[[str, Tensor], Any]


class Executor:
    """Interprets a source graph with neurons at its sites.

    Args:
        source: the network.
        neuron: ``neuron(site, x_seq [T, B, ...]) -> out [T, B, ...]``, a tensor or `Spikes`; in the static
            world (``timesteps=None``) it maps ``[B, ...]`` to ``[B, ...]``.
        coding: ``"rate"`` or ``"sum"``.
        max_pool: ``"accumulated"`` (max of the currents accumulated so far) or ``"instantaneous"`` (max at
            each step).

    Attributes:
        may_overwrite: nobody keeps what neurons put out, so that sums may be written over it.
        int8: the layers that run in 8 bits, or None.

    >>> from torch import nn
    >>> from snnconv.graph.capture.fx import source_graph
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
        self.flow = Flow(source.graph)
        self.nodes, self.kinds = self.flow.nodes, self.flow.kinds
        self.varies, self.temporal = self.flow.varies, self.flow.temporal
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
        self.int8: Int8 | None = None
        adds = residual_adds(self.nodes, last)
        self._adds = {add: conv for add, conv in adds.items() if self._slots(conv)}
        self._deferred = set(self._adds.values())

    def expires(self, node: fx.Node) -> list[fx.Node]:
        """Nodes whose values nobody reads after this one."""
        return self._expires.get(node, [])

    @functools.cached_property
    def _calls(self) -> dict[fx.Node, Call]:
        """Calls whose graph values stand nowhere but side by side among the arguments."""
        slots = {node: self._slots(node) for node in self.nodes}
        return {
            node: Call(self._function(node), node.args, node.kwargs, found) for node, found in slots.items() if found
        }

    def _slots(self, node: fx.Node) -> list[tuple[int, fx.Node]]:
        if node.op not in ("call_function", "call_method") or self.kinds[node] in ("site", "shape", "size"):
            return []
        slots = [(index, value) for index, value in enumerate(node.args) if isinstance(value, fx.Node)]
        return slots if {value for _, value in slots} == set(node.all_input_nodes) else []

    # ------------------------------------------------------------------ running

    def __call__(self, x: Any) -> Any:
        """One pass without time: the neuron function maps ``[B, ...]`` to ``[B, ...]``."""
        return leafwise(lambda v: v.static if isinstance(v, Pair) else v.data, self._run(x, 0, RunState()))

    def steps(self, x: Any, timesteps: int, state: RunState | None = None) -> Any:
        """Run ``timesteps`` steps; every tensor of the output is ``[T, B, ...]``."""
        state = RunState() if state is None else state
        out = self._run(x, timesteps, state)

        def unfold(value: Any) -> Any:
            if isinstance(value, Pair):
                return value.static
            folded = self._folded(value, timesteps, state.steps)
            return folded.reshape(timesteps, -1, *folded.shape[1:])

        result = leafwise(unfold, out)
        state.steps += timesteps
        return result

    def _run(self, x: Any, timesteps: int, state: RunState) -> Any:
        env: dict[fx.Node, Any] = {}
        for node in self.nodes:
            if node.op == "output":
                out = _leafwise_nodes(node.args[0], env)
                return Output(out) if isinstance(out, dict) else out
            value = self._directly(node, env, timesteps)
            if value is None:
                # what was computed from shapes holds for this number of steps only
                shaped = any(has_pair(env.get(n)) for n in node.all_input_nodes)
                cached = timesteps and node not in self.temporal and node.op != "get_attr" and not shaped
                if cached and node.name in state.static:
                    value = state.static[node.name]
                else:
                    value = self._evaluate(node, env, x, timesteps, state)
                    if cached and not has_pair(value):
                        state.static[node.name] = value
            env[node] = value
            for observer in self.observers:
                observer(node, plain(value))
            for done in self.expires(node):
                env.pop(done, None)
        raise ConversionError("the network has no output")

    def _directly(self, node: fx.Node, env: dict[fx.Node, Any], timesteps: int) -> Any:
        """What `_evaluate` gives, where all there is to do is to call the operator; None where it is not."""
        world: type[Static | Temporal] = Temporal if timesteps else Static
        if node.op == "get_attr":
            return self.source.tensors[str(node.target)]
        if node.target is activation_site:
            value = plain(env.get(node.args[0]))  # type: ignore[arg-type]
            return self._fire(str(node.kwargs["site"]), value, timesteps) if type(value) is world else None
        call = self._calls.get(node)
        if call is None:
            return None
        if self.int8 is not None and (found := self._in_int8(self.int8, node, call, env, world)) is not None:
            return found
        if node in self._deferred and self._defers(node, timesteps):
            return Deferred([env[a] if isinstance(a, fx.Node) else a for a in call.args], call.kwargs)
        if timesteps and (self.coding == "sum" or not self._each_step_alone(node)):
            return None
        args, whole = list(call.args), list(call.args)
        shapes: list[tuple[int, Any]] = []
        for index, used in call.slots:
            value = plain(env[used])
            if type(value) is world:
                args[index], whole[index] = value.data, value
                shape = value.data.dim(), value.data.shape[:1]
                if shape not in shapes:  # no set: a size that torch.export traces has no hash
                    shapes.append(shape)
            elif used.op == "get_attr":
                args[index] = whole[index] = value
            else:
                return None
        if not shapes:
            return None
        if self.int8 is not None and node in self.int8.layers:
            args[1] = self.int8.layers[node].weight
        if timesteps > 1:
            (ndim, _), *others = shapes
            if others:
                return None
            if ndim not in call.on_batch:
                call.on_batch[ndim] = self._acts_on_batch(node, whole, call.kwargs, timesteps)
            if call.on_batch[ndim]:
                return None
        try:
            out = call.function(*args, **call.kwargs)
        except (RuntimeError, TypeError, IndexError) as error:
            raise _failed(node, error) from error
        return world(out) if isinstance(out, Tensor) else _wrap(out, world)

    def _in_int8(self, int8: Int8, node: fx.Node, call: Call, env: dict[fx.Node, Any], world: type) -> Any:
        """What a layer makes of spikes in 8 bits, or a sum of such with spikes; None where there is none."""
        values = [env[used] for _, used in call.slots]
        spikes = [v for v in values if isinstance(v, Spikes)]
        if node in int8.layers:
            if spikes and spikes[0].world is world:
                return world(int8.runs(node, spikes[0]))
            return None
        if len(spikes) == 1 and spikes[0].world is world and not self.observers:  # they may keep what is written over
            total = int8.adds(node, values)
            return None if total is None else world(total)
        return None

    def _each_step_alone(self, node: fx.Node) -> bool:
        """Whether an operator, in rate coding, acts on every step by itself."""
        kind = self.kinds[node]
        return kind in ("linear", "affine") or (kind == "homogeneous" and self.max_pool != "accumulated")

    def _evaluate(self, node: fx.Node, env: dict[fx.Node, Any], x: Any, timesteps: int, state: RunState) -> Any:
        if node.op == "placeholder":
            return self._input(node, x)
        args = _leafwise_nodes(node.args, env)
        kwargs = _leafwise_nodes(dict(node.kwargs), env)
        if self.int8 is not None and node in self.int8.layers:
            args = (args[0], self.int8.layers[node].weight, *args[2:])
        kind = self.kinds[node]
        if kind == "site":
            return self._fire(str(node.kwargs["site"]), args[0], timesteps)
        function = self._function(node)
        try:
            if node in self._adds and any(isinstance(v, Deferred) for v in args):
                args = self._added(node, args, timesteps, state)
                if len(args) == 1:
                    return args[0]
            values = (args, kwargs)
            if not tree_any(wrapped, values, is_leaf=wrapped):
                return function(*args, **kwargs)
            if kind == "shape" or not tree_any(lambda v: isinstance(v, Static | Temporal), values, is_leaf=wrapped):
                return self._both_worlds(function, args, kwargs, timesteps)
            if not tree_any(lambda v: isinstance(v, Temporal), values, is_leaf=wrapped):
                return self._static_world(function, args, kwargs)
            if kind == "nonlinear" or (kind == "homogeneous" and self.max_pool == "accumulated"):
                pooled = self._pooled(node, args, kwargs, timesteps, state)
                return self._accumulated(node, function, args, kwargs, timesteps, state) if pooled is None else pooled
            return self._stepwise(node, function, args, kwargs, timesteps, state)
        except (RuntimeError, TypeError, IndexError) as error:
            raise _failed(node, error) from error

    def _defers(self, node: fx.Node, timesteps: int) -> bool:
        """Whether a convolution waits for what it is added to."""
        if not self.may_overwrite or self.observers or self.int8 is not None:
            return False
        return not timesteps or (self.coding == "rate" and node in self.temporal)

    def _added(self, node: fx.Node, args: Any, timesteps: int, state: RunState) -> tuple[Any, ...]:
        """The sum alone where the convolution could add it itself, else both operands."""
        conv = self._adds[node]
        other, waiting = sorted(args, key=lambda v: isinstance(v, Deferred))
        kind = type(other)
        if kind in (Static, Temporal) and all(isinstance(v, kind) for v in waiting.args if wrapped(v)):
            positional = [v.data if isinstance(v, kind) else v for v in waiting.args]
            total = conv_added_to(other.data, positional, waiting.kwargs)
            if total is not None:
                return (kind(total),)
        if timesteps:
            value = self._stepwise(conv, torch.conv2d, waiting.args, waiting.kwargs, timesteps, state)
        else:
            value = self._static_world(torch.conv2d, waiting.args, waiting.kwargs)
        return tuple(value if isinstance(v, Deferred) else v for v in args)

    def _input(self, node: fx.Node, x: Any) -> Any:
        if isinstance(x, Batch):
            given = {name: value for name, value in x.values.items() if name == node.target}
        else:
            inputs = x if isinstance(x, tuple) else (x,)
            given = dict(zip([n.target for n in self.nodes if n.op == "placeholder"], inputs, strict=False))
        if node.target in given:
            return tree_map(_static, given[node.target])
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

        return _wrap(function(*leafwise(plain, args), **leafwise(plain, kwargs)), Static)

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
            positional, named = leafwise(lambda v: shaped(v, folded), (args, kwargs))
            return real_device(function(*positional, **named))

        static, folded = world(False), world(True)
        if isinstance(static, Tensor):  # a constant made from shapes: with a batch dimension, or without
            return Static(static) if static.shape != folded.shape else static
        return Pair(static, folded)

    # ------------------------------------------------------------------ operators over time

    def _apply(self, node: fx.Node, function: Callable[..., Any], args: Any, kwargs: Any, timesteps: int) -> Any:
        """Run an operator on all steps at once, or, where it acts on dimension 0, step by step."""
        if not (timesteps > 1 and self._acts_on_batch(node, args, kwargs, timesteps)):
            positional, named = leafwise(lambda v: v.folded if is_pair(v) else v.data, (args, kwargs))
            return function(*positional, **named)
        steps = []
        for t in range(timesteps):

            def at(value: Any, t: int = t) -> Any:
                if isinstance(value, Pair):
                    return value.static
                return value.data.reshape(timesteps, -1, *value.data.shape[1:])[t] if value.data.dim() else value.data

            positional, named = leafwise(at, (args, kwargs))
            steps.append(function(*positional, **named))
        return tree_map(lambda *v: torch.cat(v) if isinstance(v[0], Tensor) and v[0].dim() else v[0], *steps)

    @staticmethod
    def _acts_on_batch(node: fx.Node, args: Any, kwargs: Any, timesteps: int) -> bool:
        tensors = [v.data for v in _flat((args, kwargs)) if isinstance(v, Temporal)]
        if not tensors or node.op == "call_module":
            return False
        if any((v.dim(), v.shape[:1]) != (tensors[0].dim(), tensors[0].shape[:1]) for v in tensors):
            return True  # values with different first dimensions broadcast within a step only
        if node.op == "call_function" and node.target is operator.getitem and not isinstance(args[0], Temporal):
            return False  # an element of a tuple

        def plain(value: Any) -> Any:
            return None if isinstance(value, Pair) and value.static != value.folded else (
                value.static if isinstance(value, Pair) else value
            )  # fmt: skip

        values = leafwise(plain, args), leafwise(plain, kwargs)
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
            return value if is_pair(value) else Temporal(self._folded(value, timesteps, state.steps))

        folded = leafwise(fold, (args, kwargs))
        out = self._apply(node, function, folded[0], folded[1], timesteps)
        if self.coding == "sum" and self._has_constant(node, args, kwargs):
            # f(x) - f(0) is the linear part: the constant enters with the first step only

            def zeros(value: Any) -> Any:
                return value if is_pair(value) else Temporal(torch.zeros_like(value.data))

            empty = leafwise(zeros, folded)
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
        return not is_synapse(node) and any(isinstance(v, Tensor) for v in tree_leaves((args, kwargs), wrapped))

    @staticmethod
    def _pooled(node: fx.Node, args: Any, kwargs: Any, timesteps: int, state: RunState) -> Temporal | None:
        """Max-pooling of a whole phase in one pass; ``None`` where it is no such thing."""
        if not state.whole or node.target is not F.max_pool2d or len(args) > 6 or kwargs.get("return_indices"):
            return None
        if not args or not isinstance(args[0], Temporal) or args[0].data.dim() != 4:
            return None
        seq = args[0].data.unflatten(0, (timesteps, -1))
        window = {k: v for k, v in kwargs.items() if k != "return_indices"}
        return Temporal(accumulated_max_pool(seq, *args[1:], **window, backend=state.backend).flatten(0, 1))

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
            seq = running_sum(value.data.reshape(timesteps, -1, *value.data.shape[1:]), before.get(key))
            totals[key] = seq[-1]
            if mean:
                seq = seq / self._clock(seq, state.steps)
            return Temporal(seq.flatten(0, 1))

        folded = leafwise(running, (args, kwargs))
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

    def _fire(self, site: str, value: Any, timesteps: int) -> Any:
        if not isinstance(value, Static | Temporal):
            raise ConversionError(f"{site}: this activation reads a constant, not the network's input")
        data = value.data
        if not timesteps:
            out = self.neuron(site, data)
            return replace(out, world=Static) if isinstance(out, Spikes) else Static(out)
        if isinstance(value, Static):
            seq = data.unsqueeze(0).expand(1 if self.coding == "sum" else timesteps, *data.shape)
        else:
            if data.shape[0] % timesteps:
                raise ConversionError(
                    f"{site}: its input's first dimension ({data.shape[0]}) is no multiple of the time steps "
                    f"({timesteps}); the network mixes the batch dimension with others"
                )
            seq = data.reshape(timesteps, -1, *data.shape[1:])
        out = self.neuron(site, seq)
        if isinstance(out, Spikes):
            return replace(out, int8_spikes=out.int8_spikes.flatten(0, 1), world=Temporal)
        return Temporal(out.flatten(0, 1))


def _static(value: Any) -> Any:
    """An input as operators take it; what has no batch dimension is a constant like a weight."""
    if isinstance(value, Whole):
        return value.data
    return Static(value) if isinstance(value, Tensor) else value


def _failed(node: fx.Node, error: Exception) -> ConversionError:
    where = node.meta.get("path") or node.name
    return ConversionError(f"{where}: operator {op_name(node)} failed: {error}")


def _leafwise_nodes(tree: Any, env: dict[fx.Node, Any]) -> Any:
    return fx.node.map_arg(tree, lambda n: plain(env[n]))


def _flat(tree: Any) -> list[Any]:
    leaves: list[Any] = []
    leafwise(lambda v: leaves.append(v), tree)
    return leaves


def _wrap(result: Any, kind: type) -> Any:
    """Wrap the tensors of a result; plain numbers stay as they are."""
    return tree_map_only(Tensor, kind, result)


def _sizes(node: fx.Node) -> bool:
    """Whether the arguments of a ``view`` are sizes, not a dtype."""
    return not any(isinstance(a, torch.dtype) for a in (*node.args, *node.kwargs.values()))
