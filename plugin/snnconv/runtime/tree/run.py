"""One run of a module tree: its forward as it is, every call of it watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from snnconv.graph.source import ConversionError, Site
from snnconv.graph.store import Store
from snnconv.runtime.batch import Whole, call
from snnconv.runtime.readout import Held, opened, presented
from snnconv.runtime.run import RunState
from snnconv.runtime.tree.call import Call, kind_of, others, tensors
from snnconv.runtime.tree.decisions import Asked
from snnconv.runtime.tree.found import Found, site_of
from snnconv.runtime.tree.functions import VIEW_ATTRIBUTES, Arguments, Function, function
from snnconv.runtime.tree.steps import step_by_step
from snnconv.runtime.tree.time import Time
from snnconv.runtime.tree.values import CONSTANT, INPUT, MEANS, NEURONS, STEPS, Memory, Value, storage_of
from snnconv.runtime.tree.writes import computed_beside, write
from snnconv.runtime.values import NeuronFn, numbers

__all__ = ["TreeRun"]


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
        asked: which numbers it asked for.
        sent: what the neurons put out.
    """

    def __init__(
        self,
        neuron: NeuronFn,
        timesteps: int,
        state: RunState,
        sites: Mapping[str, Site],
        biases: Store,
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
        self.asked = Asked(keeps)
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
        if self.asked.first is not None:
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
        sent = {name: iter(outs) for name, outs in self.sent.items()}
        state = RunState(self.state.steps, self.state.static, before, self.state.whole, self.state.backend)
        again = TreeRun(
            lambda site, _: next(sent[site]), self.timesteps, state, self.sites, self.biases, self.max_pool, None, True
        )
        again.asked.pick = min
        try:
            other = again._forward(modules, x)
            same = again.asked.calls == self.asked.calls and others(other) == others(out)
        except Exception:  # another way may end anywhere
            same = False
        if not same:
            raise self.asked.refusal()

    def _given(self, out: Any) -> Any:
        def plain(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            raw = value.raw if isinstance(value, Value) else value
            if isinstance(value, Value) and self.found is not None:
                self.found.at_output |= value.memory.analog
            if not self.timesteps:
                return raw
            if not isinstance(value, Value) or not value.changes:
                return Held(raw.expand(self.timesteps, *raw.shape), constant=not isinstance(value, Value))
            counts = value.is_floating_point() or value.is_complex()
            if value.memory.time == STEPS and counts:
                return raw
            means = self.time.means(value, self.time.key("output", "means"))
            return Held(means, self.time.steps(value, "output") if counts else None)

        given = tree_map(plain, opened(out))
        return given if self.timesteps else presented(given)

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
        if self.asked.first is not None:
            self.asked.calls.append((path, what.name, [v for v in given.leaves if not isinstance(v, Tensor)]))
        if what.leaves_tensors:
            return self._decided(what, func, given, path)
        if what.reshapes_in_place and isinstance(args[0], Value):
            raise ConversionError(
                f"{self._at(path)}: {what.name} changes the shape of a tensor in place, and a network that runs call "
                f"by call cannot; write x = x.{what.name.strip('_')}(...)"
            )
        site = site_of(what, args, kwargs, path, module)
        if site is not None:
            operand: Any = args[0] if args else kwargs["input"]
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
        values = [v for v in leaves if isinstance(v, Value)]
        like = what.makes_like and not any(v.memory.origin for v in values if v is not leaves[0])
        origin = CONSTANT if like else max((v.memory.origin for v in values), default=CONSTANT)
        kind = kind_of(what, given, origin)
        analog = frozenset() if self.found is None else self.found.analog(what, kind, values, origin, path)
        changing = {i: v for i, v in enumerate(leaves) if isinstance(v, Value) and v.changes}
        raw = [v.raw if isinstance(v, Value) else v for v in leaves]
        if like and changing:
            raw[0], changing = raw[0][0], {}
        call = Call(what, func, given, raw)
        if not changing:
            return self._wrapped(call.plainly(), call, leaves, origin, None, analog)
        key = self.time.key(path, what.name)
        alone = kind in ("linear", "affine") or (kind == "homogeneous" and self.max_pool != "accumulated")
        stepwise = all(v.memory.time == STEPS for v in changing.values())
        steps = {i: v.raw for i, v in changing.items()}
        if stepwise and kind == "homogeneous" and not alone:
            out = self.time.on_sums(key, steps, lambda sums: call.over_steps(sums, kind))
            return self._wrapped(out, call, leaves, origin, STEPS, analog)
        if alone and stepwise:
            out = call.over_steps(steps, kind)
            if all(v.is_floating_point() or v.is_complex() for v in tensors(out)):
                return self._wrapped(out, call, leaves, origin, STEPS, analog)
        # whole numbers and truth values are no sum of steps either
        out = call.over_steps({i: self.time.means(v, f"{key}/{i}") for i, v in changing.items()}, kind)
        return self._wrapped(out, call, leaves, origin, MEANS, analog)

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
        self, out: Any, call: Call, leaves: list[Any], origin: int, time: str | None, analog: frozenset[int]
    ) -> Any:
        """Results as values; one that lies in an argument's memory is a view of it."""
        operands = {storage_of(v.raw): (i, v) for i, v in enumerate(leaves) if isinstance(v, Value)}
        channels = call.channels(leaves)
        number = -1

        def wrap(raw: Any) -> Any:
            nonlocal number
            if not isinstance(raw, Tensor):
                return raw
            number += 1
            position, operand = operands.get(storage_of(raw), (0, None))
            if operand is None or operand.memory.time != time or not storage_of(raw):
                return self.value(raw, origin, time, analog, channels)
            return Value(raw, operand.memory, (*operand.views, call.view(position, number)), self)

        return wrap(out) if isinstance(out, Tensor) else tree_map(wrap, out)

    # ------------------------------------------------------------------ changes in place

    def _in_place(self, what: Function, func: Any, args: Any, kwargs: dict[str, Any], path: str) -> Any:
        """A call that changes its first argument: the result is computed beside it, then put in its place."""
        target = args[0] if args else kwargs["input"]
        beside, faster, given = computed_beside(what, func, args, kwargs)
        leaves = given.leaves
        if not isinstance(target, Value):
            if any(isinstance(v, Value) and v.memory.origin for v in leaves):
                raise ConversionError(self._foreign(what.name, path))
            return Call(what, func, given, [v.raw if isinstance(v, Value) else v for v in leaves]).plainly()
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
        if any(isinstance(v, Value) and v.memory.origin == NEURONS for v in given.leaves):
            self.asked.note(what.name)
        raw = [v.raw if isinstance(v, Value) else v for v in given.leaves]
        changing = {i: v for i, v in enumerate(given.leaves) if isinstance(v, Value) and v.changes}
        if not changing:
            return Call(what, func, given, raw).plainly()
        key = self.time.key(path, what.name)
        sequences = {i: self.time.means(v, f"{key}/{i}") for i, v in changing.items()}
        found = step_by_step(func, given, raw, sequences)
        before, _ = self.state.accumulated.get(key, ([], None))
        answer, ends = self.asked.answered(self._at(path), what.name, [*before, *found])
        self.state.accumulated[key] = (ends, None)
        return answer

    # ------------------------------------------------------------------ neurons

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
        out = numbers(self.neuron(name, x))
        if self.keeps:
            self.sent.setdefault(name, []).append(out)
        return self.value(out, NEURONS, STEPS if self.timesteps else None)

    def _at(self, path: str) -> str:
        return path or "the network"
