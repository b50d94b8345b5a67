"""Running ``torch.export``: sizes that may vary get names, what its runs say is kept from the terminal."""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import operator
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.utils._pytree import keystr

from snnconv.graph.capture.forms import form_of
from snnconv.graph.capture.fx import TraceFailure
from snnconv.graph.capture.whole_numbers import whole_numbers
from snnconv.graph.source import ConversionError

__all__ = ["Recorded", "Watch", "arguments_of", "forgetting", "program_of", "twice"]

QUESTIONS = 100
"""Conditions on sizes from which on a network is captured for its own sizes alone: each makes the next one slower."""
_TALKATIVE = ("fx.experimental.symbolic_shapes", "_export.non_strict_utils")
Progress = Callable[[str, int, int], None]


def twice(value: Any) -> Any:
    """One sample as two: torch.export takes a size of 1 for a constant."""
    return torch.cat([value, value]) if isinstance(value, Tensor) and value.dim() and value.shape[0] == 1 else value


def arguments_of(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], list[str]]:
    """The inputs as a call gives them, and the names that each leaf of them has."""
    bound = inspect.BoundArguments(inspect.signature(model.forward), OrderedDict(inputs))
    others = {k: v for k, v in inputs.items() if k not in bound.signature.parameters}
    args, kwargs = bound.args, {**bound.kwargs, **others}
    order: list[str] = []
    for name, parameter in bound.signature.parameters.items():
        if name in inputs and parameter.kind == parameter.VAR_POSITIONAL:
            order += [f"{name}[{i}]" for i in range(len(inputs[name]))]
        elif name in inputs and len(order) < len(args):
            order.append(name)
    return args, kwargs, [*order, *kwargs]


class Recorded:
    """A network's forward that gives its tensors in a flat list, and remembers how they belong together."""

    def __init__(self, model: nn.Module) -> None:
        self.form: Any = None
        original = model.forward

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> list[Any]:
            found: list[Any] = []
            try:
                self.form = form_of(original(*args, **kwargs), found)
            except Exception as error:
                raise _Stopped(_first_line(error)) from error
            return found

        self.forward = forward


class _Stopped(Exception):
    """The network's forward failed; torch would hang its graph on the error, and print it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "partial_fx_graph":
            super().__setattr__(name, value)


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0][:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _TooMany(Exception):
    """So much was asked of sizes that they had better be numbers."""


class Watch:
    """Sees every module that runs: says how far the network is, and ends a run that asks too much of sizes.

    Attributes:
        knowing: torch's environments of sizes that were met (:func:`forgetting`).
    """

    def __init__(self, model: nn.Module, progress: Progress | None, knowing: list[Any]) -> None:
        self.knowing = knowing
        self.modules = [module for module in model.modules() if module is not model]
        self.progress = progress
        self.done = 0

    def __call__(self, module: nn.Module, args: Any) -> None:
        for shape_env in self.meet(args):
            if len(shape_env.guards) > QUESTIONS:
                raise _TooMany(f"more than {QUESTIONS} conditions on sizes")
        self.done = min(self.done + 1, len(self.modules) - 1)
        self.tell(self.done)

    def meet(self, values: Any) -> list[Any]:
        """Who knows the sizes of some values, remembered."""
        sizes: Iterator[Any] = (d for v in values if isinstance(v, Tensor) for d in v.shape)
        sizes = (size for size in sizes if isinstance(size, torch.SymInt))
        met = [size.node.shape_env for size in itertools.islice(sizes, 1)]
        self.knowing += [shape_env for shape_env in met if not any(shape_env is known for known in self.knowing)]
        return met

    def tell(self, done: int) -> None:
        """Say how many of the modules have run."""
        if self.progress is not None and self.modules:
            self.progress("capturing the network", done, len(self.modules))

    @contextmanager
    def over(self) -> Iterator[None]:
        """Watch the modules while a block runs."""
        self.done = 0
        hooks = [module.register_forward_pre_hook(self) for module in self.modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def program_of(
    model: nn.Module, forward: Recorded, args: Any, kwargs: Any, whole: frozenset[str], watch: Watch
) -> torch.export.ExportedProgram:
    """The exported program; sizes that may vary have names, or the batch alone where they cannot.

    Raises:
        TraceFailure: it does not export, with torch's reason.
    """
    model.forward = forward.forward
    failures: list[Exception] = []
    fast = torch.backends.mha.get_fastpath_enabled()
    for all_sizes in (True, False):
        dynamic = _free_sizes(model, args, kwargs, whole, all_sizes)
        try:
            torch.backends.mha.set_fastpath_enabled(False)  # one kernel in place of a network's attention
            with torch.no_grad(), _quiet(), whole_numbers(model), watch.over():
                program = _exported(model, args, kwargs, dynamic)
                inputs = [node.meta.get("val") for node in program.graph.find_nodes(op="placeholder")]
                watch.meet(inputs)
                return program
        except ConversionError:
            raise
        except Exception as error:  # forward is foreign code: whatever it raises means that it does not export
            failures.append(error)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            watch.tell(len(watch.modules))
    last = failures[-1]
    raise TraceFailure(str(last) if isinstance(last, _Stopped) else _first_line(last)) from last


@contextmanager
def forgetting() -> Iterator[list[Any]]:
    """Without what torch keeps of an export for good: some 200 kB a network.

    Its caches know sizes by their names, which each export makes anew; and whoever knows the sizes holds the inputs,
    whose sizes hold him, which no garbage collector sees. The block puts him into the list.
    """
    from torch._dynamo import config
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    knowing: list[Any] = []
    with config.patch(fake_tensor_cache_enabled=False):
        try:
            yield knowing
        finally:
            for shape_env in knowing:
                (getattr(shape_env, "tracked_fakes", None) or []).clear()
            for method in vars(ShapeEnv).values():
                getattr(method, "cache_clear", lambda: None)()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.export says to those who call it themselves."""
    loggers = [logging.getLogger(f"torch.{name}") for name in _TALKATIVE]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.addFilter(_nothing)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _exported(model: nn.Module, args: Any, kwargs: Any, dynamic: Any) -> torch.export.ExportedProgram:
    # the IR for training holds convolutions, norms and in-place operators as they were written
    export: Any = getattr(torch.export, "export_for_training", None)
    if export is None or tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 7):
        export = torch.export.export
    program: torch.export.ExportedProgram = export(model, args, kwargs, dynamic_shapes=dynamic, strict=False)
    if _overwrites_shared(program.graph):
        program = program.run_decompositions({})
    return program


def _free_sizes(model: nn.Module, args: Any, kwargs: Any, whole: frozenset[str], all_sizes: bool) -> Any:
    other = Dim.AUTO if all_sizes else Dim.STATIC

    def free(name: str, value: Any) -> Any:
        def dims(path: Any, leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return None
            batch = f"{name}{keystr(path)}" not in whole
            return {
                axis: Dim.DYNAMIC if batch and axis == 0 else Dim.STATIC if size == 1 else other
                for axis, size in enumerate(leaf.shape)
            }

        return torch.utils._pytree.tree_map_with_path(dims, value)

    signature = inspect.signature(model.forward)
    bound = signature.bind(*args, **kwargs).arguments
    shapes: dict[str, Any] = {}
    for name, value in bound.items():
        if signature.parameters[name].kind == inspect.Parameter.VAR_KEYWORD:
            shapes |= {key: free(key, v) for key, v in value.items()}
        else:
            shapes[name] = free(name, value)
    return shapes


def _overwrites_shared(graph: fx.Graph) -> bool:
    """Whether a tensor is overwritten that is a part of another, or has a part, which is read later."""
    family: dict[fx.Node, set[fx.Node]] = {}
    order = {node: number for number, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        inputs = node.all_input_nodes
        if node.op == "placeholder" or schema is None:
            shared = node.target is operator.getitem and inputs
            family[node] = family.setdefault(inputs[0], {inputs[0]}) if shared else {node}
            family[node].add(node)
            continue
        written = schema.is_mutable
        alias = any(r.alias_info is not None for r in schema.returns) or schema.name in ("aten::dropout",)
        if inputs and written:
            relatives = family[inputs[0]] - {inputs[0]}
            if inputs[0].op == "placeholder" or any(
                order[user] > order[node] for relative in relatives for user in relative.users if user is not node
            ):
                return True
        if inputs and alias:
            family[node] = family[inputs[0]]
            if not written:
                family[node].add(node)
            else:
                family[node] = {node}
        else:
            family[node] = {node}
    return False
