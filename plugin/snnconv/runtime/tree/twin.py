"""Modules for one run of a forward: its own, with weights that all share."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snnconv.graph.hooks import rebound

if TYPE_CHECKING:
    from snnconv.runtime.tree.run import TreeRun

__all__ = ["twin"]

_LONG = 1000  # of a module's lists: what is longer holds data, not modules
_PLAIN = frozenset({bool, int, float, str, type(None), Tensor, nn.Parameter, set, frozenset, torch.dtype})


def twin(model: nn.Module, run: TreeRun) -> nn.Module:
    """Modules of their own for one run, with the same weights, that say when they are entered and left."""
    paths = {id(module): path for path, module in model.named_modules()}
    known: dict[int, Any] = {}

    def copied(value: Any) -> Any:
        kind = type(value)
        if isinstance(value, nn.Module):
            return module_of(value)
        if kind in (list, tuple, dict, OrderedDict) and len(value) < _LONG:
            if id(value) in known:
                return known[id(value)]
            if kind is tuple:
                return tuple(map(copied, value))
            new = known[id(value)] = copy.copy(value)
            for key in value if isinstance(value, dict) else range(len(value)):
                new[key] = copied(value[key])
            return new
        if kind is MethodType and isinstance(value.__self__, nn.Module):
            return MethodType(value.__func__, module_of(value.__self__))
        if kind is functools.partial:
            return functools.partial(copied(value.func), *map(copied, value.args), **copied(value.keywords))
        return value

    def module_of(module: nn.Module) -> nn.Module:
        if id(module) in known:
            found: nn.Module = known[id(module)]
            return found
        new: nn.Module = object.__new__(type(module))
        known[id(module)] = new
        contents = new.__dict__
        for key, value in module.__dict__.items():
            plain = type(value) in _PLAIN or key.endswith("_hooks")
            contents[key] = value if plain else dict(value) if key in ("_parameters", "_buffers") else copied(value)
        if not type(module).__module__.startswith("torch."):  # a forward may write into its own buffers
            contents["_buffers"] = {k: b if b is None else buffer_of(b) for k, b in module._buffers.items()}
        return new

    def buffer_of(buffer: Tensor) -> Tensor:
        if id(buffer) not in known:
            known[id(buffer)] = run.value(buffer)
        value: Tensor = known[id(buffer)]
        return value

    new = module_of(model)
    for module in model.modules():
        _rebind(module, known)
        _watch(known[id(module)], paths[id(module)], run)
    return new


def _rebind(module: nn.Module, copies: dict[int, Any]) -> None:
    """Hooks that hold a part of the network hold the copy's part."""
    for kind in ("_forward_pre_hooks", "_forward_hooks"):
        hooks = getattr(module, kind)
        if hooks:
            bound = OrderedDict((key, rebound(hook, copies)) for key, hook in hooks.items())
            copies[id(module)].__dict__[kind] = bound


def _watch(module: nn.Module, path: str, run: TreeRun) -> None:
    """Hooks of one run on a module of its own."""

    def enter(module: nn.Module, args: Any) -> None:
        run.places.append((path, module))

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        if run.places and run.places[-1][1] is module:
            run.places.pop()

    hooks = module.__dict__
    hooks["_forward_pre_hooks"] = OrderedDict({-1: enter, **hooks["_forward_pre_hooks"]})
    hooks["_forward_hooks"] = OrderedDict({**hooks["_forward_hooks"], -1: leave})
    hooks["_forward_hooks_always_called"] = OrderedDict({**hooks["_forward_hooks_always_called"], -1: True})
