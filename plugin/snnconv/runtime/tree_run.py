"""One run of a module tree: its forward as it is, every call of it watched."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from snnconv.graph.ops import SYNAPSES, op_kind
from snnconv.graph.sites import is_activation_module, relu_bounds
from snnconv.graph.source import ConversionError, Site
from snnconv.runtime.batch import Whole, call
from snnconv.runtime.executor import NeuronFn, RunState
from snnconv.runtime.readout import Output
from snnconv.runtime.tree_calls import VIEW_ATTRIBUTES, Arguments, Function, function
from snnconv.runtime.tree_steps import over_steps, step_by_step
from snnconv.runtime.tree_time import Time
from snnconv.runtime.tree_values import CONSTANT, INPUT, MEANS, NEURONS, STEPS, Memory, Value, storage_of
from snnconv.runtime.tree_writes import computed_beside, write

__all__ = ["Found", "Place", "TreeRun"]

_TRUTHS = frozenset({"__bool__", "equal", "allclose", "is_nonzero", "__contains__"})
_KEEPS_CHANNELS = frozenset({"add", "iadd", "sub", "mul", "batch_norm", "contiguous", "to", "dropout"})


class Place(nn.Module):
    """Stands for a trained activation: one call that the run recognises."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

    def forward(self, z: Tensor) -> Tensor:
        return torch.relu(z)


@dataclass
class Found:
    """What a first run finds out about a network.

    Attributes:
        sites: the activations, by name, in execution order.
        synapses: paths of the modules in which layers with weights are.
        operators: calls without spiking equivalent: path, name, and whether they act on what neurons put out.
        inside: those of them that a layer with weights or a neuron reads, by number.
        at_output: those that the output reads.
    """

    sites: dict[str, Site] = field(default_factory=dict)
    synapses: list[str] = field(default_factory=list)
    operators: list[tuple[str, str, bool]] = field(default_factory=list)
    inside: set[int] = field(default_factory=set)
    at_output: set[int] = field(default_factory=set)


class TreeRun(TorchFunctionMode):
    """Watches one forward pass.

    Tensors of the forward are `Value`: they have the shapes of one step. Without time they hold what the source
    network would hold. Over time, what depends on a neuron holds all steps. A call that is linear in it acts on each
    step as it is; any other acts on the mean of all steps so far, y_t = f(x̄_t), and where a neuron reads y it gets
    t·y_t − (t−1)·y_(t−1), so that the mean of what it got is y_t at every horizon.

    Args:
        neuron: ``neuron(site, x_seq)``, as for the graph executor.
        timesteps: steps of this run, 0 for a pass without time.
        state: what the steps before left.
        sites, biases: of the network; constant currents by site.
        max_pool: as for the graph executor.
        found: where to write down what is found; without it, a site that is not in ``sites`` is an error.
        keeps: whether to keep what the neurons put out, for a forward that asks for numbers.

    Attributes:
        places: the modules that the forward is in, from the outermost, with their paths.
        asks: whether the forward has asked for numbers that depend on what neurons put out.
        asked: where the forward first asked for a number that changes over time, and how; ``pick`` chose which it saw.
        calls: what it called from then on, with what besides tensors.
        sent: what the neurons put out.
    """

    def __init__(
        self,
        neuron: NeuronFn,
        timesteps: int,
        state: RunState,
        sites: Mapping[str, Site],
        biases: Mapping[str, Tensor],
        max_pool: str = "accumulated",
        found: Found | None = None,
        keeps: bool = False,
    ) -> None:
        super().__init__()
        self.neuron = neuron
        self.timesteps = timesteps
        self.state = state
        self.sites = sites
        self.biases = biases
        self.max_pool = max_pool
        self.found = found
        self.keeps = keeps
        self.places: list[tuple[str, nn.Module]] = []
        self.fired: Counter[str] = Counter()
        self.time = Time(timesteps, state)
        self.failed: tuple[str, str, Exception] | None = None
        self.over = False
        self.pick: Callable[[Any], Any] = max
        self.asks = False
        self.asked: tuple[str, str] | None = None
        self.calls: list[Any] = []
        self.sent: dict[str, list[Tensor]] = {}

    # ------------------------------------------------------------------ beginning and end

    def __call__(self, modules: Callable[[TreeRun], nn.Module], x: Any) -> Any:
        """Outputs of the forward, ``[T, B, ...]`` over time.

        Args:
            modules: makes the modules of a run.
            x: the input.

        Raises:
            ConversionError: an operator failed, or the forward does what no converted network can; the message names
                the module.
        """
        before = dict(self.state.accumulated)
        out = self._forward(modules, x)
        if self.asked is not None:
            self._check_ways(modules, x, before, out)
        return out

    def _forward(self, modules: Callable[[TreeRun], nn.Module], x: Any) -> Any:
        def given(value: Any) -> Any:
            if isinstance(value, Whole):
                return Whole(self.value(value.data, INPUT))
            return self.value(value, INPUT) if isinstance(value, Tensor) else value

        model, inputs = modules(self), tree_map(given, x)
        try:
            with self:
                out = call(model, inputs)
        except Exception as error:
            if self.failed is None or error is not self.failed[2] or isinstance(error, ConversionError):
                raise
            path, name, _ = self.failed
            raise ConversionError(f"{self._at(path)}: operator {name} failed: {error}") from error
        finally:
            self.over = True
        return self._given(out)

    def _check_ways(self, modules: Callable[[TreeRun], nn.Module], x: Any, before: dict[str, Any], out: Any) -> None:
        """The forward has seen the largest of numbers that change over time: the smallest leads it the same way."""
        assert self.asked is not None
        sent = {name: iter(outs) for name, outs in self.sent.items()}
        state = RunState(self.state.steps, self.state.static, before, self.state.whole, self.state.backend)
        again = TreeRun(
            lambda site, _: next(sent[site]), self.timesteps, state, self.sites, self.biases, self.max_pool, None, True
        )
        again.pick = min
        try:
            other = again._forward(modules, x)
            same = again.calls == self.calls and _without_tensors(other) == _without_tensors(out)
        except Exception:  # another way may end anywhere
            same = False
        if not same:
            raise ConversionError(self._changing(*self.asked))

    def _given(self, out: Any) -> Any:
        def plain(value: Any) -> Any:
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                return Output({f.name: tree_map(plain, getattr(value, f.name)) for f in dataclasses.fields(value)})
            if not isinstance(value, Tensor):
                return value
            if not isinstance(value, Value):
                return value.expand(self.timesteps, *value.shape) if self.timesteps else value
            if self.found is not None:
                self.found.at_output |= value.memory.analog
            if not self.timesteps:
                return value.raw
            if value.changes and not value.is_floating_point():
                return self.time.means(value, "output")
            return self.time.steps(value, "output", last=self.state.whole)

        return tree_map(plain, out)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.call(func, args, kwargs or {})

    # ------------------------------------------------------------------ one call

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a call of the forward gives."""
        what = function(func)
        if self.over:
            return self._afterwards(func, args, kwargs)
        if what.queries:
            return func(*args, **kwargs)
        if what.prints:
            return repr(args[0]) if args[0].changes else func(args[0].raw, *args[1:], **kwargs)
        path, module = self.places[-1] if self.places else ("", None)
        try:
            return self._call(what, func, args, kwargs, path, module)
        except Exception as error:
            if self.failed is None or self.failed[2] is not error:
                self.failed = (path, what.name, error)
            raise

    @staticmethod
    def _afterwards(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A tensor that the user's code kept is read when the run is over."""
        if any(isinstance(v, Value) and v.changes for v in tree_leaves((args, kwargs))):
            raise ConversionError(
                "a tensor that a call of the converted network left behind is read; a converted network keeps nothing "
                "from call to call"
            )
        args, kwargs = tree_map_only(Value, lambda v: v.raw, (args, kwargs))
        return func(*args, **kwargs)

    def _call(
        self, what: Function, func: Any, args: Any, kwargs: dict[str, Any], path: str, module: nn.Module | None
    ) -> Any:
        if what.attribute is not None:
            if what.attribute not in VIEW_ATTRIBUTES or not isinstance(args[0], Value):
                return func(*args, **kwargs)
            if what.name == "__set__":
                raise ConversionError(f"{self._at(path)}: sets .data of a tensor that it computed; use x = y instead")
            name = what.attribute
            func = Tensor.detach if name == "data" else lambda x: getattr(x, name)
            what = function(Tensor.detach)
        elif what.name in ("__deepcopy__", "__copy__"):
            args, what, func = args[:1], function(Tensor.clone), Tensor.clone
        elif what.keeps_values or what.does_nothing(args, kwargs):
            return args[0] if args else kwargs["input"]
        written = kwargs.get("out")
        if written is not None:
            kwargs = {k: v for k, v in kwargs.items() if k != "out"}
        given = Arguments(args, kwargs)
        own = [self._leaf(leaf, path) for leaf in given.leaves]
        if any(a is not b for a, b in zip(given.leaves, own, strict=True)):
            given.leaves = own
            args, kwargs = given.filled(own)
        if self.asked is not None:
            self.calls.append((path, what.name, [v for v in given.leaves if not isinstance(v, Tensor)]))
        if what.leaves_tensors:
            return self._decided(what, func, given, path)
        if what.reshapes_in_place and isinstance(args[0], Value):
            raise ConversionError(
                f"{self._at(path)}: {what.name} changes the shape of a tensor in place, and a network that runs call "
                f"by call cannot; write x = x.{what.name.strip('_')}(...)"
            )
        site = self._site(what, args, kwargs, path, module)
        operand = args[0] if args else kwargs.get("input")
        if site is not None:
            out = self._fire(site, operand, path)
            return self._write(operand, out, path) if what.in_place(args, kwargs) else out
        if what.in_place(args, kwargs):
            return self._in_place(what, func, args, kwargs, path)
        out = self._evaluate(what, func, given, path)
        if written is None:
            return out
        for target, value in zip(tree_leaves(written), tree_leaves(out), strict=True):
            self._write(target, value, path)
        return written

    def _leaf(self, leaf: Any, path: str) -> Any:
        if isinstance(leaf, slice):
            ends = (leaf.start, leaf.stop, leaf.step)
            if not any(isinstance(v, Tensor) for v in ends):
                return leaf
            return slice(*(self._number(v, path) if isinstance(v, Tensor) else v for v in ends))
        if isinstance(leaf, Value) and leaf.run is not self:
            if leaf.changes:
                raise ConversionError(
                    f"{self._at(path)}: reads a tensor that an earlier call of the network left behind; a converted "
                    "network keeps nothing from call to call"
                )
            return leaf.raw
        return leaf

    def _number(self, value: Tensor, path: str) -> int:
        given = Arguments((value,), {})
        return int(self._decided(function(Tensor.__index__), Tensor.__index__, given, path))

    def _evaluate(self, what: Function, func: Any, given: Arguments, path: str) -> Any:
        """A call that changes none of its arguments."""
        leaves = given.leaves
        args, kwargs = given.filled(leaves)
        values = [v for v in leaves if isinstance(v, Value)]
        origin = max((v.memory.origin for v in values), default=CONSTANT)
        if what.makes_like:
            origin = CONSTANT
        kind = self._kind(what, args, kwargs, origin)
        analog = self._analog(what, kind, values, origin, path)
        raw = [v.raw if isinstance(v, Value) else v for v in leaves]
        changing = {i: v for i, v in enumerate(leaves) if isinstance(v, Value) and v.changes}
        if what.makes_like:
            raw = [v.raw[0] if i in changing else v for i, v in enumerate(raw)]
            changing = {}
        if not changing:
            return self._wrapped(
                self._plainly(func, given, raw), leaves, origin, None, analog, (what, func, given, raw)
            )
        key = self.time.key(path, what.name)
        alone = kind in ("linear", "affine") or (kind == "homogeneous" and self.max_pool != "accumulated")
        stepwise = all(v.memory.time == STEPS for v in changing.values())
        if stepwise and kind == "homogeneous" and not alone:
            out = self.time.on_sums(
                key, {i: v.raw for i, v in changing.items()}, lambda s: over_steps(what, func, given, raw, s, kind)
            )
            return self._wrapped(out, leaves, origin, STEPS, analog, None)
        time = STEPS if alone and stepwise else MEANS
        out = self._at_each_step(what, func, given, raw, changing, kind, time, key)
        if time == STEPS and not all(v.is_floating_point() or v.is_complex() for v in _tensors(out)):
            time = MEANS  # whole numbers and truth values are no sum of steps
            out = self._at_each_step(what, func, given, raw, changing, kind, time, key)
        return self._wrapped(out, leaves, origin, time, analog, (what, func, given, raw))

    def _at_each_step(
        self, what: Function, func: Any, given: Arguments, raw: list[Any], changing: dict[int, Value], kind: str,
        time: str, key: str,
    ) -> Any:  # fmt: skip
        sequences = {i: v.raw if time == STEPS else self.time.means(v, f"{key}/{i}") for i, v in changing.items()}
        try:
            return over_steps(what, func, given, raw, sequences, kind)
        except RuntimeError:
            if what.name != "view":
                raise
            # a view of what the source network lays out contiguously may be channels-last here
            return over_steps(what, Tensor.reshape, given, raw, sequences, kind)

    def _plainly(self, func: Any, given: Arguments, raw: list[Any]) -> Any:
        args, kwargs = given.filled(raw)
        try:
            return func(*args, **kwargs)
        except RuntimeError:
            if func is not Tensor.view:
                raise
            return args[0].reshape(*args[1:], **kwargs)

    def _kind(self, what: Function, args: Any, kwargs: dict[str, Any], origin: int) -> str:
        if what.view or what.overwrites:
            indices = args[1:2] if what.name == "__setitem__" else [] if what.overwrites else (args[1:], kwargs)
            return "nonlinear" if self._depends(indices, origin) else "linear"
        return op_kind(what.target, what.method, args, kwargs, lambda v: self._depends(v, origin))

    @staticmethod
    def _depends(value: Any, origin: int) -> bool:
        if isinstance(value, (tuple, list, dict)):
            return any(isinstance(v, Value) and v.memory.origin >= max(origin, INPUT) for v in tree_leaves(value))
        return isinstance(value, Value) and value.memory.origin >= max(origin, INPUT)

    # ------------------------------------------------------------------ values

    def value(
        self,
        raw: Tensor,
        origin: int = CONSTANT,
        time: str | None = None,
        analog: frozenset[int] = frozenset(),
        channels: int | None = None,
    ) -> Value:
        """A tensor as the forward sees it, that is no view of another."""
        return Value(raw, Memory(raw, origin, time, analog, channels), (), self)

    def _wrapped(
        self, out: Any, leaves: list[Any], origin: int, time: str | None, analog: frozenset[int], call: Any
    ) -> Any:
        """Results as values; one that lies in an argument's memory is a view of it."""
        operands = {storage_of(v.raw): (i, v) for i, v in enumerate(leaves) if isinstance(v, Value) and call}
        channels = self._channels(call, leaves) if call else None
        number = -1

        def wrap(raw: Any) -> Any:
            nonlocal number
            if not isinstance(raw, Tensor):
                return raw
            number += 1
            position, operand = operands.get(storage_of(raw), (0, None))
            if operand is None or operand.memory.time != time or not storage_of(raw):
                return self.value(raw, origin, time, analog, channels)
            return Value(raw, operand.memory, (*operand.views, self._view(call, position, number)), self)

        return wrap(out) if isinstance(out, Tensor) else tree_map(wrap, out)

    @staticmethod
    def _channels(call: Any, leaves: list[Any]) -> int | None:
        """The axis of a result's channels: last behind a linear layer, second behind a convolution."""
        what = call[0]
        if not what.method and what.target in SYNAPSES:
            return -1 if SYNAPSES[what.target] == "linear" else 1
        if what.bare not in _KEEPS_CHANNELS:
            return None
        return next((v.memory.channels for v in leaves if isinstance(v, Value) and v.memory.channels is not None), None)

    def _view(self, call: Any, position: int, number: int) -> Callable[[Tensor, bool], Tensor]:
        what, func, given, raw = call
        raw = [None if i == position else leaf for i, leaf in enumerate(raw)]

        def view(root: Tensor, over_time: bool) -> Tensor:
            leaves = [root if i == position else leaf for i, leaf in enumerate(raw)]
            if over_time:
                out = over_steps(what, func, given, leaves, {position: root}, "linear")
            else:
                out = self._plainly(func, given, leaves)
            return _tensors(out)[number]

        return view

    # ------------------------------------------------------------------ changes in place

    def _in_place(self, what: Function, func: Any, args: Any, kwargs: dict[str, Any], path: str) -> Any:
        """A call that changes its first argument: the result is computed beside it, then put in its place."""
        target = args[0] if args else kwargs["input"]
        beside, faster, given = computed_beside(what, func, args, kwargs)
        leaves = given.leaves
        if not isinstance(target, Value):
            if any(isinstance(v, Value) and v.memory.origin for v in leaves):
                raise ConversionError(self._foreign(what.name, path))
            return self._plainly(func, given, [v.raw if isinstance(v, Value) else v for v in leaves])
        if any(isinstance(v, Value) and v.changes for v in leaves) and not target.changes:
            steps = target.raw.expand(self.timesteps, *target.shape)
            at = next(i for i, v in enumerate(leaves) if v is target)
            leaves[at] = self.value(steps, NEURONS, STEPS, target.memory.analog, target.memory.channels)
        out = self._evaluate(what, faster or beside, given, path)
        if out.shape != target.shape or out.dtype != target.dtype:
            out = self._evaluate(what, beside, given, path)
        return self._write(target, out, path)

    def _write(self, target: Any, value: Value, path: str) -> Any:
        if not isinstance(target, Value):
            raise ConversionError(self._foreign("out=", path))
        if not write(target, value, self.time, self.time.key(path, "write")):
            raise ConversionError(
                f"{self._at(path)}: changes part of a tensor in place through a view that cannot be followed; "
                "write into the tensor itself"
            )
        return target

    def _foreign(self, name: str, path: str) -> str:
        return (
            f"{self._at(path)}: {name} writes what the network computes into a tensor that was there before the call; "
            "write it into a copy of that tensor (.clone())"
        )

    # ------------------------------------------------------------------ what Python sees

    def _decided(self, what: Function, func: Any, given: Arguments, path: str) -> Any:
        """What Python sees of a tensor: over time it has to be the same at every step, or lead the same way."""
        if what.name not in _TRUTHS and any(isinstance(v, Value) and v.memory.origin == NEURONS for v in given.leaves):
            self.asks = True
        raw = [v.raw if isinstance(v, Value) else v for v in given.leaves]
        changing = {i: v for i, v in enumerate(given.leaves) if isinstance(v, Value) and v.changes}
        if not changing:
            return self._plainly(func, given, raw)
        key = self.time.key(path, what.name)
        sequences = {i: self.time.means(v, f"{key}/{i}") for i, v in changing.items()}
        found = step_by_step(func, given, raw, sequences)
        before, _ = self.state.accumulated.get(key, ([], None))
        if what.name in ("numpy", "__array__", "data_ptr", "__dlpack__"):
            raise ConversionError(self._changing(path, what.name))
        if all(v == found[0] for v in (*before, *found)):
            self.state.accumulated[key] = (found[:1], None)
            return found[0]
        numbers = self.keeps and all(type(v) in (int, float) and v == v for v in (*before, *found))
        if not numbers:
            raise ConversionError(self._changing(path, what.name))
        self.asked = self.asked or (path, what.name)
        ends = [min(*before, *found), max(*before, *found)]
        self.state.accumulated[key] = (ends, None)
        return self.pick(ends)

    def _changing(self, path: str, name: str) -> str:
        return (
            f"{self._at(path)}: its forward asks for the value of a tensor ({name}, as `if`, float() and .item() do) that "
            "changes from step to step, so that no one way through the network is right for all steps; choose by "
            "torch.where, or convert with methods.ShiftedThreshold, which sends sums"
        )

    # ------------------------------------------------------------------ neurons

    @staticmethod
    def _site(what: Function, args: Any, kwargs: dict[str, Any], path: str, module: nn.Module | None) -> Site | None:
        """The site that a call is, if it is one. What depends on weights alone is computed, not sent as spikes."""
        operand = args[0] if args else kwargs.get("input")
        if not isinstance(operand, Value) or operand.memory.origin == CONSTANT:
            return None
        found, cap = relu_bounds(what.target, what.method, args, kwargs)
        if not found:
            return None
        if isinstance(module, Place):
            return module.site.with_(name=path)
        base = path if is_activation_module(type(module)) else f"{path}.{what.bare}".lstrip(".")
        channels = operand.memory.channels
        if channels is None:
            channels = -1 if operand.dim() == 3 else 1
        return Site(base, cap=cap, axis=channels)

    def _fire(self, site: Site, operand: Value, path: str) -> Value:
        self.fired[site.name] += 1
        number = self.fired[site.name]
        name = site.name if number == 1 else f"{site.name}:{number}"
        if self.found is not None:
            self.found.sites.setdefault(name, site.with_(name=name))
            self.found.inside |= operand.memory.analog
        elif name not in self.sites:
            raise ConversionError(
                f"{name}: the network came to an activation that it did not come to on the calibration data, so it has "
                "no threshold; convert with calibration data (the first batch) that takes this path too"
            )
        x = self.time.steps(operand, name) if self.timesteps else operand.raw
        if name in self.biases:
            shape = [1] * operand.dim()
            shape[self.sites[name].axis] = -1
            x = x + self.biases[name].to(x).reshape(shape)
        out = self.neuron(name, x)
        if self.keeps:
            self.sent.setdefault(name, []).append(out)
        return self.value(out, NEURONS, STEPS if self.timesteps else None)

    # ------------------------------------------------------------------ the report

    def _at(self, path: str) -> str:
        return path or "the network"

    def _analog(self, what: Function, kind: str, values: list[Value], origin: int, path: str) -> frozenset[int]:
        """Operators without spiking equivalent that a result went through, this one among them, by their numbers."""
        if self.found is None:
            return frozenset()
        before: frozenset[int] = frozenset().union(*(v.memory.analog for v in values))
        if not what.method and what.target in SYNAPSES and origin and kind != "nonlinear":
            self.found.inside |= before
            if path not in self.found.synapses:
                self.found.synapses.append(path)
            return frozenset()
        if kind != "nonlinear" or not origin:
            return before
        self.found.operators.append((path, what.bare, origin == NEURONS))
        return before | {len(self.found.operators) - 1}


def _tensors(tree: Any) -> list[Tensor]:
    return [v for v in tree_leaves(tree) if isinstance(v, Tensor)]


def _without_tensors(tree: Any) -> list[Any]:
    return [v for v in tree_leaves(tree) if not isinstance(v, Tensor)]
