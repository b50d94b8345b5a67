"""Layer-by-layer execution of a source graph over time.

Time is folded into the batch, ``[T·B, ...]``, so that every operator runs once on all steps. What does not
depend on a neuron is computed once, not T times (the input is a constant current).

Three codings. In **rate** coding a value is its mean over the steps: constants enter at every step. In **sum**
coding (shifted-threshold IF) a value is the sum over the steps of weighted spikes: constants enter once. In
**differential** coding (multi-threshold neurons) a value is Σ_t d[t]/t: constants enter once, at t = 1. An
operator that is not linear acts on what has been accumulated so far, y_t = f(x̄_t). That is what the next such
operator reads; a layer with weights, or neurons, read what each step adds to it, so that they have exactly f of
its input's value at every horizon.

An operator that is not known to treat the inputs of a batch one by one runs on every step as it is.
"""

from __future__ import annotations

import copy
import functools
import itertools
import operator
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map_only

from snnconv.graph.flow import Flow
from snnconv.graph.ops import op_name
from snnconv.graph.source import ConversionError, SourceGraph, activation_site
from snnconv.runtime.batch import Batch, Whole
from snnconv.runtime.fuse import Deferred, conv_added_to, residual_adds
from snnconv.runtime.int8 import Int8
from snnconv.runtime.readout import Held, native, presented
from snnconv.runtime.run import Call, RunState
from snnconv.runtime.shapes import both_worlds
from snnconv.runtime.stepping import Stepping
from snnconv.runtime.values import (
    Accumulated,
    Args,
    Kwargs,
    NeuronFn,
    Pair,
    Record,
    Sized,
    Spikes,
    Static,
    Temporal,
    Tree,
    folded,
    has_pair,
    is_pair,
    leafwise,
    leaves,
    mapped,
    plain,
    unfolded,
    without_time,
    wrapped,
)

__all__ = ["Executor"]


class Executor:
    """Interprets a source graph with neurons at its sites.

    Args:
        source: the network.
        neuron: ``neuron(site, x_seq [T, B, ...]) -> out [T, B, ...]``, a tensor or `Spikes`; in the static
            world (``timesteps=None``) it maps ``[B, ...]`` to ``[B, ...]``.
        coding: ``"rate"``, ``"sum"`` or ``"differential"``.
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
        self.stepping = Stepping(source, self.flow, coding, max_pool)
        self.observers: list[Callable[[fx.Node, object], None]] = []
        self.expires: dict[fx.Node, list[fx.Node]] = {}
        for used, node in self.flow.last_readers.items():
            if used in self.varies:
                self.expires.setdefault(node, []).append(used)
        self.may_overwrite = False
        self.int8: Int8 | None = None
        adds = residual_adds(self.nodes, self.flow.last_readers)
        self._adds = {add: conv for add, conv in adds.items() if self._slots(conv)}
        self._deferred = set(self._adds.values())

    def for_run(self, neuron: NeuronFn) -> Executor:
        """The same executor with other neurons: what is known of the graph is shared, what a run changes is not."""
        _ = self._calls, self.stepping.names  # known before it is copied, so that no run finds them anew
        executor = copy.copy(self)
        executor.neuron = neuron
        return executor

    @functools.cached_property
    def _calls(self) -> dict[fx.Node, Call]:
        """Calls whose graph values stand nowhere but side by side among the arguments."""
        slots = {node: self._slots(node) for node in self.nodes}
        at = self._each_step_alone
        return {n: Call(self._function(n), n.args, n.kwargs, found, at(n)) for n, found in slots.items() if found}

    def _slots(self, node: fx.Node) -> list[tuple[int, fx.Node]]:
        if node.op not in ("call_function", "call_method") or self.kinds[node] in ("site", "shape", "size"):
            return []
        slots = [(index, value) for index, value in enumerate(node.args) if isinstance(value, fx.Node)]
        return slots if {value for _, value in slots} == set(node.all_input_nodes) else []

    # ------------------------------------------------------------------ running

    def __call__(self, x: object) -> object:
        """One pass without time: the neuron function maps ``[B, ...]`` to ``[B, ...]``."""
        return presented(leafwise(without_time, self._run(x, 0, RunState())))

    def totals(self, x: object) -> object:
        """The same, with outputs as :meth:`steps` gives them, of a single step."""

        def of_one_step(value: object) -> object:
            data = without_time(value)
            if not isinstance(data, Tensor):
                return data
            if isinstance(value, Static) and data.is_floating_point():
                return data.unsqueeze(0)
            return Held(data.unsqueeze(0), constant=not wrapped(value))

        return _outputs(of_one_step, self._run(x, 0, RunState()))

    def steps(self, x: object, timesteps: int, state: RunState | None = None) -> object:
        """Run ``timesteps`` steps; every tensor of the output is ``[T, B, ...]``, or a `Held`.

        Differential coding ends here: outputs are steps whose mean is the answer, as in rate coding.
        """
        state = RunState() if state is None else state
        out = self._run(x, timesteps, state)
        number = itertools.count()

        def over_time(value: object) -> object:
            if isinstance(value, Pair):
                return value.static
            if isinstance(value, Temporal):
                return self.stepping.outputs(value, f"output/{next(number)}", timesteps, state)
            if isinstance(value, Accumulated):
                seq = unfolded(value, timesteps)
                if not (seq.is_floating_point() or seq.is_complex()):
                    return Held(seq)
                return Held(seq, self.stepping.outputs(value, f"output/{next(number)}", timesteps, state))
            data = value.data if isinstance(value, Static) else value
            if not isinstance(data, Tensor):
                return data
            return Held(data.unsqueeze(0).expand(timesteps, *data.shape), constant=not wrapped(value))

        result = _outputs(over_time, out)
        state.steps += timesteps
        return result

    def _run(self, x: object, timesteps: int, state: RunState) -> object:
        env: dict[fx.Node, object] = {}
        for node in self.nodes:
            if node.op == "output":
                return native(_leafwise_nodes(node.args[0], env))  # in containers of Python's own
            value = self._directly(node, env, timesteps)
            if value is None:
                # what was computed from shapes holds for this number of steps only
                shaped = self.kinds[node] == "size" or any(has_pair(env.get(n)) for n in node.all_input_nodes)
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
            for done in self.expires.get(node, ()):
                env.pop(done, None)
        raise ConversionError("the network has no output")

    def _directly(self, node: fx.Node, env: dict[fx.Node, object], timesteps: int) -> object:
        """What `_evaluate` gives, where all there is to do is to call the operator; None where it is not."""
        world: type[Static | Temporal] = Temporal if timesteps else Static
        if node.op == "get_attr":
            return self.source.tensors[str(node.target)]
        if node.target is activation_site:
            value = plain(env.get(node.args[0]))  # type: ignore[arg-type]
            return self._fire(str(node.kwargs["site"]), value, timesteps, RunState()) if type(value) is world else None
        call = self._calls.get(node)
        if call is None:
            return None
        if self.int8 is not None and (found := self._in_int8(self.int8, node, call, env, world)) is not None:
            return found
        if node in self._deferred and self._defers(node, timesteps):
            return Deferred(tuple([env[a] if isinstance(a, fx.Node) else a for a in call.args]), call.kwargs)
        if timesteps and not call.each_step:
            return None
        args, whole = list(call.args), list(call.args)
        shapes: list[tuple[int, torch.Size]] = []
        for index, used in call.slots:
            value = env[used]
            if isinstance(value, Spikes):
                value = plain(value)
            if type(value) is world and not getattr(value, "scalar", False):
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
            (ndim, (rows,)), *others = shapes
            if others:
                return None
            key = ndim, bool(rows == timesteps)  # a size that torch.export traces compares as a symbol
            if key not in call.alone:
                call.alone[key] = self.stepping.one_by_one(node, tuple(whole), call.kwargs, timesteps)
            if not call.alone[key]:
                return None
        try:
            out = call.function(*args, **call.kwargs)
        except (RuntimeError, TypeError, IndexError) as error:
            raise _failed(node, error) from error
        if timesteps == 1 and isinstance(out, Tensor) and not out.dim():
            return Temporal(out.reshape(1), True)
        return world(out) if isinstance(out, Tensor) else tree_map_only(Tensor, world, out)

    def _in_int8(self, int8: Int8, node: fx.Node, call: Call, env: dict[fx.Node, object], world: type) -> object:
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
        """Whether an operator acts on every step by itself, constants included."""
        if self.stepping.enters_once:
            return False
        kind = self.kinds[node]
        return kind in ("linear", "affine") or (kind == "homogeneous" and self.max_pool != "accumulated")

    def _evaluate(
        self, node: fx.Node, env: dict[fx.Node, object], x: object, timesteps: int, state: RunState
    ) -> object:
        if node.op == "placeholder":
            return self._input(node, x)
        args: Args = _leafwise_nodes(node.args, env)
        kwargs: Kwargs = _leafwise_nodes(dict(node.kwargs), env)
        if self.int8 is not None and node in self.int8.layers:
            args = (args[0], self.int8.layers[node].weight, *args[2:])
        kind = self.kinds[node]
        if kind == "site":
            return self._fire(str(node.kwargs["site"]), args[0], timesteps, state)
        if kind == "record":
            return Record(node.target, kwargs)  # type: ignore[arg-type]
        function = self._function(node)
        try:
            if node.target in (operator.getitem, getattr) and not wrapped(args[0]) and not isinstance(args[0], Tensor):
                return function(*args)  # of several results one
            if node in self._adds and any(isinstance(v, Deferred) for v in args):
                args = self._added(node, args, timesteps, state)
                if len(args) == 1:
                    return args[0]
            values = [v for v in leaves((args, kwargs)) if wrapped(v)]
            if not values:
                return function(*args, **kwargs)
            if kind == "shape" or all(is_pair(v) for v in values):
                return both_worlds(function, args, kwargs, timesteps)
            if not any(isinstance(v, Temporal | Accumulated) for v in values):
                return self._static_world(function, args, kwargs, Sized if kind == "size" else Static)
            return self.stepping.run(node, function, args, kwargs, timesteps, state)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            if isinstance(error, ConversionError):
                raise
            raise _failed(node, error) from error

    def _defers(self, node: fx.Node, timesteps: int) -> bool:
        """Whether a convolution waits for what it is added to."""
        if not self.may_overwrite or self.observers or self.int8 is not None:
            return False
        return not timesteps or (self.coding == "rate" and node in self.temporal)

    def _added(self, node: fx.Node, args: Args, timesteps: int, state: RunState) -> Args:
        """The sum alone where the convolution could add it itself, else both operands."""
        conv = self._adds[node]
        other = next(v for v in args if not isinstance(v, Deferred))
        waiting = next(v for v in args if isinstance(v, Deferred))
        alike = all(isinstance(v, type(other)) for v in waiting.args if wrapped(v))
        if isinstance(other, Static | Temporal) and not isinstance(other, Sized) and alike:
            positional = [v.data if isinstance(v, Static | Temporal) else v for v in waiting.args]
            total = conv_added_to(other.data, positional, waiting.kwargs)
            if total is not None:
                return (other._replace(data=total),)
        if timesteps:
            value = self.stepping.run(conv, torch.conv2d, waiting.args, waiting.kwargs, timesteps, state)
        else:
            value = self._static_world(torch.conv2d, waiting.args, waiting.kwargs)
        return tuple(value if isinstance(v, Deferred) else v for v in args)

    def _input(self, node: fx.Node, x: object) -> object:
        if isinstance(x, Batch):
            given = {name: value for name, value in x.values.items() if name == node.target}
        else:
            inputs = x if isinstance(x, tuple) else (x,)
            given = dict(zip([n.target for n in self.nodes if n.op == "placeholder"], inputs, strict=False))
        if node.target in given:
            return mapped(_static, given[node.target])
        if node.args:
            return node.args[0]
        raise ConversionError(f"the network takes an input {node.target!r} that was not given")

    def _function(self, node: fx.Node) -> Callable[..., object]:
        if node.op == "call_method":
            # a view of what the source network lays out contiguously may be channels-last here
            method = "reshape" if node.target == "view" and _sizes(node) else str(node.target)
            return lambda value, *args, **kwargs: getattr(value, method)(*args, **kwargs)
        if node.op == "call_module":
            return self.source.modules[str(node.target)]
        return node.target  # type: ignore[return-value]

    # ------------------------------------------------------------------ worlds

    @staticmethod
    def _static_world(function: Callable[..., object], args: Args, kwargs: Kwargs, kind: type = Static) -> object:
        positional, named = leafwise(without_time, (args, kwargs))
        out = function(*positional, **named)
        return kind(out) if isinstance(out, Tensor) else tree_map_only(Tensor, kind, out)

    def _fire(self, site: str, value: object, timesteps: int, state: RunState) -> object:
        if not wrapped(value) and isinstance(value, Tensor):
            return self.source.sites[site].activation(value)  # a constant: no neuron has anything to say
        if isinstance(value, Accumulated):
            value = self.stepping.shares(value, timesteps, state)
        if not isinstance(value, Static | Temporal):
            raise ConversionError(f"{site}: this activation reads no tensor")
        if not timesteps:
            out = self.neuron(site, value.data)
            return replace(out, world=Static) if isinstance(out, Spikes) else Static(out)
        out = self.neuron(site, self.stepping.currents(value, timesteps, state))
        if isinstance(out, Spikes):
            return replace(out, int8_spikes=out.int8_spikes.flatten(0, 1), world=Temporal)
        return folded(out)


def _outputs(function: Callable[[object], object], tree: object) -> object:
    """``function`` of every wrapped value and every tensor."""
    return mapped(lambda v: function(v) if wrapped(v) or isinstance(v, Tensor) else v, tree, wrapped)


def _static(value: object) -> object:
    """An input as operators take it; what has no batch dimension is a constant like a weight."""
    if isinstance(value, Whole):
        return value.data
    return Static(value) if isinstance(value, Tensor) else value


def _failed(node: fx.Node, error: Exception) -> ConversionError:
    where = node.meta.get("path") or node.name
    return ConversionError(f"{where}: operator {op_name(node)} failed: {error}")


def _leafwise_nodes(tree: Tree, env: dict[fx.Node, object]) -> Tree:
    return fx.node.map_arg(tree, lambda n: plain(env[n]))  # type: ignore[type-var, return-value, arg-type]


def _sizes(node: fx.Node) -> bool:
    """Whether the arguments of a ``view`` are sizes, not a dtype."""
    return not any(isinstance(a, torch.dtype) for a in (*node.args, *node.kwargs.values()))
