"""Forward hooks of the user's: which of them only look at what passes, read off their code without calling them."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Iterator
from contextvars import ContextVar
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

__all__ = ["belongs", "only_looks", "parts_of", "rebound"]

_KEEPING = frozenset({
    "append", "appendleft", "extend", "insert", "add", "update", "__setitem__", "put", "put_nowait", "print", "setattr",
})  # fmt: skip
"""What a hook of one expression calls to keep what it saw; all of these return nothing."""
_PLAIN = (str, bytes, int, float, complex, type(None), type, tuple, frozenset, FunctionType, Tensor)
_FILLERS = frozenset({
    "CACHE", "EXTENDED_ARG", "NOP", "RESUME", "PRECALL", "PUSH_NULL", "COPY_FREE_VARS", "MAKE_CELL", "NOT_TAKEN",
})  # fmt: skip


def only_looks(hook: Any) -> bool:
    """Whether a hook changes nothing that passes: it returns nothing and calls no method that writes in place.

    A hook of which this cannot be seen does not "only look"; one that reads a context variable neither: what it keeps
    there belongs to the call that runs, whose forward reads it (as Hugging Face's models collect hidden states).

    >>> seen = []
    >>> only_looks(lambda module, args, out: seen.append(out.shape)), only_looks(lambda module, args, out: 2 * out)
    (True, False)
    """
    while isinstance(hook, (functools.partial, MethodType)):
        hook = hook.func if isinstance(hook, functools.partial) else hook.__func__
    if not isinstance(hook, FunctionType):
        hook = inspect.getattr_static(type(hook), "__call__", None)
    if not isinstance(hook, FunctionType):
        return False
    if any(isinstance(one, ContextVar) for one in _read_outside(hook)):
        return False
    return _returns_nothing(hook.__code__) and not any(_in_place(name) for name in hook.__code__.co_names)


def _read_outside(hook: FunctionType) -> Iterator[Any]:
    """What a function reads that is neither given to it nor made by it, each with what it holds."""
    cells = [cell.cell_contents for cell in hook.__closure__ or () if cell != CellType()]
    for one in [*(hook.__globals__.get(name) for name in hook.__code__.co_names), *cells]:
        yield one
        if not isinstance(one, (type, ModuleType)):
            yield from getattr(one, "__dict__", {}).values()


def _in_place(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


def _returns_nothing(code: CodeType) -> bool:
    steps = [step for step in dis.get_instructions(code) if step.opname not in _FILLERS]
    found = False
    for before, step in zip([None, *steps], steps, strict=False):
        if step.opname == "RETURN_CONST" and step.argval is not None:
            return False
        if step.opname == "RETURN_VALUE":
            nothing = before is not None and before.opname == "LOAD_CONST" and before.argval is None
            if not (nothing and not step.is_jump_target) and not _keeps(steps):
                return False
        found |= step.opname.startswith("RETURN")
    return found


def _keeps(steps: list[dis.Instruction]) -> bool:
    """Whether a code is one call of something that keeps: ``seen.append(...)``, ``print(...)``."""
    if any(step.is_jump_target or "JUMP" in step.opname for step in steps) or len(steps) < 3:
        return False
    if steps[-1].opname != "RETURN_VALUE" or not steps[-2].opname.startswith("CALL"):
        return False
    chain = [steps[0]]
    for step in steps[1:]:
        if step.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        chain.append(step)
    return steps[0].opname.startswith("LOAD_") and chain[-1].argval in _KEEPING


def parts_of(model: nn.Module) -> dict[int, Any]:
    """The modules of a network and what they hold besides tensors, by identity."""
    found: dict[int, Any] = {}
    for module in model.modules():
        found[id(module)] = module
        for key, value in vars(module).items():
            for one in () if key.endswith("_hooks") else (value, *_inside(value)):
                if not isinstance(one, _PLAIN):
                    found[id(one)] = one
    return found


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple, set)):
        yield from value


def belongs(hook: Any, parts: dict[int, Any]) -> bool:
    """Whether a hook is the network's own: it holds a part of the network, which its forward may read."""
    if id(hook) in parts:
        return True
    if isinstance(hook, functools.partial):
        return any(belongs(v, parts) for v in (hook.func, *hook.args, *hook.keywords.values()))
    if isinstance(hook, MethodType):
        return id(hook.__self__) in parts
    return any(id(cell.cell_contents) in parts for cell in getattr(hook, "__closure__", None) or ())


def rebound(hook: Any, copies: dict[int, Any]) -> Any:
    """A hook that holds the copies of what it held."""
    if isinstance(hook, functools.partial):
        keywords = {k: copies.get(id(v), v) for k, v in hook.keywords.items()}
        return functools.partial(
            rebound(hook.func, copies), *(copies.get(id(v), rebound(v, copies)) for v in hook.args), **keywords
        )
    if isinstance(hook, MethodType):
        return MethodType(hook.__func__, copies.get(id(hook.__self__), hook.__self__))
    if isinstance(hook, FunctionType) and hook.__closure__:
        cells = tuple(CellType(copies.get(id(c.cell_contents), c.cell_contents)) for c in hook.__closure__)
        new = FunctionType(hook.__code__, hook.__globals__, hook.__name__, hook.__defaults__, cells)
        new.__kwdefaults__ = hook.__kwdefaults__
        return new
    return copies.get(id(hook), hook)
