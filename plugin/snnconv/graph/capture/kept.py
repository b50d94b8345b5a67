"""Calls that ``torch.export`` keeps whole: activations of users' own, which are Python and no operators.

Within :func:`keeping`, such a module or function is an operator ``snnconv::kept(tensors, number)``; the number tells
which one it is.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from snnconv.graph import activation, ops
from snnconv.graph.trained import TrainedActivation

__all__ = ["NAME", "Kept", "keeping"]

NAME = "snnconv::kept"


@dataclass
class Kept:
    """One call.

    Attributes:
        path: of the module that was called; None for a function.
        function: what was called.
        leaves: its arguments, flat, with ``None`` in each tensor's place.
        tensors: the places of the tensors among them.
        spec: the arguments' structure.
        single: whether it gives one tensor.
    """

    path: str | None
    function: Callable[..., Any]
    leaves: list[Any]
    tensors: list[int]
    spec: TreeSpec
    single: bool = True

    def arguments(self, tensors: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments, with these in the tensors' places."""
        leaves = list(self.leaves)
        for place, value in zip(self.tensors, tensors, strict=True):
            leaves[place] = value
        args, kwargs = tree_unflatten(leaves, self.spec)
        return args, kwargs

    def run(self, tensors: list[Tensor]) -> list[Tensor]:
        """What the function gives; a module's is like its input."""
        if self.path is not None:
            return [torch.empty_like(tensors[0])]
        args, kwargs = self.arguments(tensors)
        out = self.function(*args, **kwargs)
        self.single = isinstance(out, Tensor)
        return [v.clone() for v in ([out] if self.single else out)]


_CALLS: dict[int, Kept] = {}


@functools.cache
def _operator() -> Callable[[list[Tensor], int], list[Tensor]]:
    def run(tensors: list[Tensor], number: int) -> list[Tensor]:
        return _CALLS[number].run(tensors)

    schema = "(Tensor[] tensors, int number) -> Tensor[]"
    made = torch.library.custom_op(NAME, run, mutates_args=(), schema=schema)
    made.register_fake(run)
    return made


@contextmanager
def keeping(model: nn.Module) -> Iterator[dict[int, Kept]]:
    """Within it, calls of activations and operators of users' own are one operator each.

    Modules of ``model`` get another ``forward``, functions another meaning where the model's code names them, on this
    thread.

    Returns:
        the calls by their numbers.
    """
    calls: dict[int, Kept] = {}
    thread = threading.get_ident()
    changed: list[nn.Module] = []
    places: list[tuple[dict[str, Any], str, Any]] = []

    def keep(path: str | None, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        leaves, spec = tree_flatten((args, kwargs))
        tensors = [i for i, v in enumerate(leaves) if isinstance(v, Tensor)]
        call = Kept(path, function, [None if isinstance(v, Tensor) else v for v in leaves], tensors, spec)
        number = max(_CALLS, default=0) + 1
        _CALLS[number] = calls[number] = call
        out = _operator()([leaves[i] for i in tensors], number)
        return out[0] if call.single else tuple(out)

    try:
        for path, module in model.named_modules():
            if isinstance(module, TrainedActivation) or activation.leaf_module(module) is not None:
                module.forward = functools.partial(_call, keep, path, module)
                changed.append(module)
        for function in (*activation.leaf_functions(), *ops.leaf_functions()):
            for space in _spaces(function, model):
                for name, value in list(space.items()):
                    if value is function:
                        places.append((space, name, value))
                        space[name] = _wrapper(keep, function, thread)
        yield calls
    finally:
        for module in changed:
            module.__dict__.pop("forward", None)
        for space, name, value in places:
            space[name] = value
        for number in calls:
            del _CALLS[number]


def _call(keep: Callable[..., Any], path: str, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return keep(path, module, args, kwargs)


def _wrapper(keep: Callable[..., Any], function: Callable[..., Any], thread: int) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return function(*args, **kwargs)
        return keep(None, function, args, kwargs)

    return wrapped


def _spaces(function: Callable[..., Any], model: nn.Module) -> list[dict[str, Any]]:
    """Where a function may be named: its own module, those of the network's classes."""
    names = {getattr(function, "__module__", None), *(type(m).__module__ for m in model.modules())}
    found = {
        id(vars(sys.modules[n])): vars(sys.modules[n]) for n in names if n in sys.modules and _foreign(n, function)
    }
    return list(found.values())


def _foreign(name: str, function: Callable[..., Any]) -> bool:
    return not name.startswith("torch.") or name == getattr(function, "__module__", None)
