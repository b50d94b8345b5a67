"""Capture by ``torch.export``: from an ``nn.Module`` to a :class:`~snnconv.graph.source.SourceGraph`.

The network runs once, with sizes that have names, so that Python code of any kind is gone; what is left are ATen's
operators, which become those of the operator table. It takes seconds where ``torch.fx`` takes milliseconds.
"""

from __future__ import annotations

import functools
import inspect
import logging
import operator
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map

from snnconv.graph.capture.aten import ALIASES, CHECKS, FIRST, Call, Uncovered, translated
from snnconv.graph.capture.fx import TraceFailure, check_finite, check_weights, tracing_alone
from snnconv.graph.capture.kept import NAME, Kept, keeping
from snnconv.graph.capture.passes import drop_no_ops, make_out_of_place, name_activations, passes
from snnconv.graph.capture.plain import plain_forward
from snnconv.graph.capture.symbols import sizes_of
from snnconv.graph.cover import RELUS, Cover
from snnconv.graph.source import ConversionError, SourceGraph
from snnconv.graph.unwrap import copied
from snnconv.progress import ProgressFn

__all__ = ["export_source", "exported_graph"]

QUESTIONS = 100
"""Conditions on sizes from which on a network is captured for its own sizes alone: each makes the next one slower."""
_TALKATIVE = ("fx.experimental.symbolic_shapes", "_export.non_strict_utils")
_PARTS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
_PYTHON = (operator, torch, __import__("math"))


def exported_graph(
    model: nn.Module,
    inputs: Mapping[str, Any],
    whole: frozenset[str] = frozenset(),
    cover: Cover = RELUS,
    progress: ProgressFn | None = None,
) -> SourceGraph:
    """Export ``model`` in evaluation mode, fold BatchNorm, mark every activation site.

    The model is not changed: the graph holds copies of its weights. Every size that may vary is let free (the batch
    must be); :attr:`~snnconv.graph.source.SourceGraph.sizes` says for which inputs the graph holds.

    Args:
        model: the network.
        inputs: arguments of its forward by name: tensors ``[B, ...]``, plain values, trees of these.
        whole: names of tensors that have no batch dimension.
        cover: where neurons will stand; encoders are not placed yet.
        progress: is told how many of the network's modules have run.

    Raises:
        TraceFailure: the network does not export, or has an operator that the table does not know.
        ConversionError: a weight is NaN or infinite.

    >>> source = exported_graph(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), {"input": torch.rand(2, 2)})
    >>> list(source.sites), source.sizes.dims["input"][1]
    (['1'], 2)
    """
    source = export_source(model, inputs, whole, progress)
    for step in passes(cover):
        step.run(source)
        source.graph.lint()
    return source


def export_source(
    model: nn.Module,
    inputs: Mapping[str, Any],
    whole: frozenset[str] = frozenset(),
    progress: ProgressFn | None = None,
) -> SourceGraph:
    """Export only: in-place operators are made explicit, no-ops of evaluation mode removed."""
    twin = copied(model)[0].eval()
    for module in twin.modules():
        plain = plain_forward(module)
        if plain is not None:
            module.forward = plain
    forward = _Recorded(twin)
    args, kwargs, names = _arguments(twin, inputs)
    args, kwargs = tree_map(_twice, (args, kwargs))
    with tracing_alone(), keeping(twin) as kept:
        program = _program(twin, forward, args, kwargs, whole, _Watch(twin, progress))
        for module in twin.modules():
            module.__dict__.pop("forward", None)
        written = _Writer(program, twin, kept, forward.form, names)
        try:
            source = written.source()
        except Uncovered as missing:
            raise TraceFailure(
                f"torch.export gives the operator {missing}{written.place()}, which has no equivalent here"
            ) from missing
    source.sizes = sizes_of(written.values, {n for n in written.values if n not in whole})
    drop_no_ops(source)
    make_out_of_place(source)
    name_activations(source)
    source.prune()
    return source


def _twice(value: Any) -> Any:
    """One sample as two: torch.export takes a size of 1 for a constant."""
    return torch.cat([value, value]) if isinstance(value, Tensor) and value.dim() and value.shape[0] == 1 else value


def _arguments(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], list[str]]:
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


class _Recorded:
    """A network's forward that gives its tensors in a flat list, and remembers how they belong together."""

    def __init__(self, model: nn.Module) -> None:
        self.form: Any = None
        original = model.forward

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> list[Any]:
            found: list[Any] = []
            try:
                self.form = _form(original(*args, **kwargs), found)
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


def _form(value: Any, found: list[Any]) -> Any:
    """A tree of values with `_Place` where a tensor, or a size, is."""
    if isinstance(value, (Tensor, torch.SymInt, torch.SymFloat, torch.SymBool)):
        found.append(value)
        return _Place(len(found) - 1)
    if isinstance(value, dict):
        if type(value) is not dict:  # Hugging Face's outputs: what is there, by name
            value = {k: v for k, v in value.items() if v is not None}
        return {k: _form(v, found) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_form(v, found) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_form(v, found) for v in value)
    if is_dataclass(value) and not isinstance(value, type):
        return _Made(type(value), {f.name: _form(getattr(value, f.name), found) for f in fields(value)})
    return value


class _Place(int):
    """The number of a tensor in the flat list of outputs."""


class _Made:
    """A dataclass among the outputs."""

    def __init__(self, kind: type, values: dict[str, Any]) -> None:
        self.kind, self.values = kind, values


class _TooMany(Exception):
    """So much was asked of sizes that they had better be numbers."""


class _Watch:
    """Sees every module that runs: says how far the network is, and ends a run that asks too much of sizes."""

    def __init__(self, model: nn.Module, progress: ProgressFn | None) -> None:
        self.modules = [module for module in model.modules() if module is not model]
        self.progress = progress
        self.done = 0

    def __call__(self, module: nn.Module, args: Any) -> None:
        sizes: Any = (d for v in args if isinstance(v, Tensor) for d in v.shape if isinstance(d, torch.SymInt))
        size = next(sizes, None)
        if size is not None and len(size.node.shape_env.guards) > QUESTIONS:
            raise _TooMany(f"more than {QUESTIONS} conditions on sizes")
        self.done = min(self.done + 1, len(self.modules) - 1)
        self.tell(self.done)

    def tell(self, done: int) -> None:
        if self.progress is not None and self.modules:
            self.progress("capturing the network", done, len(self.modules))

    @contextmanager
    def over(self) -> Iterator[None]:
        self.done = 0
        hooks = [module.register_forward_pre_hook(self) for module in self.modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _program(
    model: nn.Module, forward: _Recorded, args: Any, kwargs: Any, whole: frozenset[str], watch: _Watch
) -> torch.export.ExportedProgram:
    """The exported program; sizes that may vary have names, or the batch alone where they cannot."""
    model.forward = forward.forward
    failures: list[Exception] = []
    fast = torch.backends.mha.get_fastpath_enabled()
    for all_sizes in (True, False):
        dynamic = _free_sizes(model, args, kwargs, whole, all_sizes)
        try:
            torch.backends.mha.set_fastpath_enabled(False)  # one kernel in place of a network's attention
            with torch.no_grad(), _quiet(), watch.over():
                return _exported(model, args, kwargs, dynamic)
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


class _Writer:
    """Writes an exported program's operators as those of the operator table."""

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        model: nn.Module,
        kept: dict[int, Kept],
        form: Any,
        names: list[str],
    ) -> None:
        self.program, self.model, self.kept, self.form, self.names = program, model, kept, form, names
        self.graph = fx.Graph()
        self.tensors: dict[str, Tensor] = {}
        self.modules: dict[str, nn.Module] = {}
        self.values: dict[str, Any] = {}
        self.parts: dict[str, str] = {}  # placeholders that are weights: name → path
        self.env: dict[fx.Node, Any] = {}
        self.at: fx.Node | None = None
        self.where: fx.Node | None = None

    def place(self) -> str:
        """Where the operator that is being written happens."""
        path = self._stack(self.at)[1] if self.at is not None else ""
        return f" in {path}" if path else ""

    def source(self) -> SourceGraph:
        signature = self.program.graph_signature
        for spec in signature.input_specs:
            if spec.kind in _PARTS and spec.target is not None:
                self.parts[spec.arg.name] = spec.target
        self._inputs([s.arg.name for s in signature.input_specs if s.kind == InputKind.USER_INPUT])
        outputs = self._run(self.program.graph_module, None)
        kinds = [s.kind for s in signature.output_specs]
        if OutputKind.BUFFER_MUTATION in kinds:
            names = [str(s.target) for s in signature.output_specs if s.kind == OutputKind.BUFFER_MUTATION]
            raise TraceFailure(f"its forward changes its buffer {names[0]}, so that one call depends on those before")
        given = [v for v, kind in zip(outputs, kinds, strict=True) if kind == OutputKind.USER_OUTPUT]
        self.graph.output(self._together(self.form, given))
        source = SourceGraph(self.graph, self.tensors, modules=self.modules)
        source.graph.lint()
        return source

    def _inputs(self, placeholders: list[str]) -> None:
        """One placeholder an argument; what an argument holds is taken out of it."""
        nodes = {n.name: n for n in self.program.graph.nodes if n.op == "placeholder"}
        spec = self.program.call_spec.in_spec
        leaves = tree_flatten_with_path(torch.utils._pytree.tree_unflatten(list(placeholders), spec))[0]
        made: dict[str, fx.Node] = {}
        order = iter(self.names)
        named: dict[Any, str] = {}
        path: Any
        for path, leaf in leaves:
            key = (path[0].idx, getattr(path[1], "idx", getattr(path[1], "key", None)))
            if key not in named:
                named[key] = next(order)
            name = named[key]
            argument, _, star = name.partition("[")
            node = nodes[leaf]
            value = node.meta.get("val")
            if not isinstance(value, Tensor):
                self.env[node] = value
                continue
            if argument not in made:
                made[argument] = self.graph.placeholder(argument)
            self.where = self.where or made[argument]
            inner = ([int(star.rstrip("]"))] if star else []) + [
                getattr(k, "idx", getattr(k, "key", None)) for k in path[2:]
            ]
            taken = made[argument]
            for step in inner:
                taken = self.graph.call_function(operator.getitem, (taken, step))
            self.env[node] = taken
            self.values[name + keystr(path[2:])] = value

    # ------------------------------------------------------------------ operators

    def _run(self, module: fx.GraphModule, given: list[Any] | None) -> list[Any]:
        """Write a graph's nodes; ``given`` are the inputs of one inside another."""
        inputs = iter(given or [])
        for node in module.graph.nodes:
            self.at = node
            if node.op == "placeholder":
                if given is not None:
                    self.env[node] = next(inputs)
            elif node.op == "get_attr":
                self.env[node] = self._attribute(module, node)
            elif node.op == "output":
                found = node.args[0] if isinstance(node.args[0], (tuple, list)) else [node.args[0]]
                return [self._value(v) for v in found]
            else:
                self.env[node] = self._call(node)
        return []

    def _attribute(self, module: fx.GraphModule, node: fx.Node) -> Any:
        value = functools.reduce(getattr, str(node.target).split("."), module)
        if isinstance(value, Tensor):
            return self._weight(str(node.target), value)
        return value

    def _weight(self, name: str, value: Tensor) -> fx.Node:
        check_finite(name, value)
        if name not in self.tensors:
            self.tensors[name] = value.detach().clone()
        return self.graph.create_node("get_attr", name)

    def _value(self, value: Any) -> Any:
        """An argument as it stands in the graph that is written."""
        if isinstance(value, fx.Node):
            if value not in self.env and value.name in self.parts:
                path = self.parts[value.name]
                tensor = self.program.state_dict.get(path)
                self.env[value] = self._weight(path, self.program.constants[path] if tensor is None else tensor)
            return self.env[value]
        if isinstance(value, (tuple, list)):
            return type(value)(self._value(v) for v in value) if type(value) in (tuple, list) else [
                self._value(v) for v in value
            ]  # fmt: skip
        if isinstance(value, dict):
            return {k: self._value(v) for k, v in value.items()}
        return value

    def _call(self, node: fx.Node) -> Any:
        args, kwargs = self._value(list(node.args)), self._value(dict(node.kwargs))
        before = next(iter(reversed(self.graph.nodes)), None)
        made = self._made(node, args, kwargs)
        stack, path, kind = self._stack(node)
        for one in reversed(self.graph.nodes):
            if one is before:
                break
            one.meta |= {"nn_module_stack": stack, "path": path, "module_type": kind}
        return made

    def _made(self, node: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        target: Any = node.target
        if target is operator.getitem and not isinstance(args[0], fx.Node):
            return args[0][args[1]]  # of several results one
        schema = getattr(target, "_schema", None)
        if schema is None:
            return self._python(node, target, args, kwargs)
        space, _, name = schema.name.partition("::")
        if schema.name == NAME:
            return self._kept(args[0], args[1])
        if name in CHECKS:
            return None
        if space != "aten":
            raise Uncovered(schema.name)
        given = dict(zip((a.name for a in schema.arguments), args, strict=False)) | kwargs
        if name == "sym_size":
            return self.graph.call_method("size", tuple(given.values()))
        written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        if (written and len(written) > 1) or "out" in written:
            raise Uncovered(schema.name)
        bare = name.rstrip("_") if written else name
        if bare in ALIASES:
            return next(iter(given.values()))
        first = node.args[0] if node.args else None
        keywords = frozenset(a.name for a in schema.arguments if a.kwarg_only)
        only_first = all(u.target is operator.getitem and u.args[1] == 0 for u in node.users)
        result = translated(Call(bare, given, self.graph, _dims(first), self._device, keywords, only_first))
        if written and isinstance(first, fx.Node):  # whoever reads it later sees what was written
            self.env[first] = result
            if isinstance(result, fx.Node):
                result.meta["overwrites"] = any(user is not node for user in first.users)
        if bare in FIRST:
            return (result,)
        return result

    def _python(self, node: fx.Node, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Arithmetic on sizes; a graph inside the graph (``with torch.no_grad()``) is written out."""
        inner = [a for a in args if isinstance(a, fx.GraphModule)]
        name = getattr(target, "__name__", str(target))
        if len(inner) == 1 and name in ("wrap_with_set_grad_enabled", "wrap_with_autocast"):
            return tuple(self._run(inner[0], args[args.index(inner[0]) + 1 :]))
        if name in CHECKS:
            return None
        if inner or not any(getattr(space, name, None) is target for space in _PYTHON):
            raise Uncovered(name)
        if not any(isinstance(v, fx.Node) for v in [*args, *kwargs.values()]):
            return target(*args, **kwargs)
        return self.graph.call_function(target, tuple(args), kwargs)

    def _kept(self, tensors: list[Any], number: int) -> list[Any]:
        call = self.kept[number]
        args, kwargs = call.arguments(tensors)
        if call.path is not None:
            module = self.model.get_submodule(call.path)
            check_weights(module, f"{call.path}.")
            self.modules[call.path] = module
            return [self.graph.call_module(call.path, args, kwargs)]
        made = self.graph.call_function(call.function, args, kwargs)
        return [made] if call.single else [self.graph.call_function(operator.getitem, (made, i)) for i in range(9)]

    def _device(self) -> fx.Node:
        return self.graph.call_function(getattr, (self.where, "device"))

    def _stack(self, node: fx.Node) -> tuple[dict[str, Any], str, Any]:
        """In which modules a node happens, as ``torch.fx`` says it: the innermost one's path and class."""
        stack: dict[str, Any] = {}
        for key, (path, kind) in (node.meta.get("nn_module_stack") or {}).items():
            if path and "hook" not in path:
                module = _submodule(self.model, path)
                stack[key] = (path, kind if module is None else type(module))
        path, kind = list(stack.values())[-1] if stack else ("", None)
        return stack, path, kind

    def _together(self, form: Any, given: list[Any]) -> Any:
        """The outputs in the containers in which the network gives them."""
        if isinstance(form, _Place):
            return given[form]
        if isinstance(form, _Made):
            return self.graph.call_function(form.kind, (), self._together(form.values, given))
        if isinstance(form, dict):
            return {k: self._together(v, given) for k, v in form.items()}
        if isinstance(form, tuple) and hasattr(form, "_fields"):
            return type(form)(*(self._together(v, given) for v in form))
        if isinstance(form, (tuple, list)):
            return type(form)(self._together(v, given) for v in form)
        return form


def _dims(value: Any) -> int:
    """Number of dimensions of what a node gives."""
    made = value.meta.get("val") if isinstance(value, fx.Node) else None
    return made.dim() if isinstance(made, Tensor) else 1


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path.partition("@")[0])
    except AttributeError:
        return None
