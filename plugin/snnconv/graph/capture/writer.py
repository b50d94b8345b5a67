"""An exported program's operators, written as those of the operator table."""

from __future__ import annotations

import functools
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils._pytree import keystr, tree_flatten_with_path

from snnconv.graph.capture.aten import ALIASES, CHECKS, FIRST, Call, Uncovered, translated
from snnconv.graph.capture.forms import put_together
from snnconv.graph.capture.fx import TraceFailure, check_finite, check_weights
from snnconv.graph.capture.kept import NAME, Kept
from snnconv.graph.source import SourceGraph

__all__ = ["Writer"]

_PARTS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
_PYTHON = (operator, torch, __import__("math"))


class Writer:
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
        """The exported program as a graph of this package's operators."""
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
        self.graph.output(put_together(self.form, given, self.graph))
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


def _dims(value: Any) -> int:
    """Number of dimensions of what a node gives."""
    made = value.meta.get("val") if isinstance(value, fx.Node) else None
    return made.dim() if isinstance(made, Tensor) else 1


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path.partition("@")[0])
    except AttributeError:
        return None
