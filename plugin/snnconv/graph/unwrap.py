"""What people put around a network, taken off: wrappers, hooks, parametrisations. What is no network is refused."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim.swa_utils import AveragedModel
from torch.overrides import TorchFunctionMode

from snnconv.graph.hooks import belongs, only_looks, parts_of, rebound
from snnconv.graph.source import ConversionError

__all__ = ["Unwrapped", "copied", "peeled", "refuse", "unwrap"]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_SPIKING = frozenset({
    ("spikingjelly", "BaseNode"), ("snntorch", "SpikingNeuron"), ("sinabs", "StatefulLayer"), ("norse", "SNN"),
    ("norse", "SNNCell"), ("norse", "SNNRecurrent"), ("norse", "SNNRecurrentCell"),
})  # fmt: skip
_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_OF_TRAINING = ("_backward_hooks", "_backward_pre_hooks")


@dataclass
class Unwrapped:
    """A network without what was around it: a copy, and sentences for the report about what was taken off."""

    model: nn.Module
    notes: list[str] = field(default_factory=list)


def unwrap(model: Any, plain: bool = True) -> Unwrapped:
    """A copy of a network without wrappers and hooks that only look, whose weights are plain tensors.

    Wrappers are ``DataParallel``, ``DistributedDataParallel``, ``AveragedModel``, ``torch.compile`` and modules whose
    ``forward(*args, **kwargs)`` hands all it is given to their one child. Forward hooks that only look at what passes
    are left out, by their code, without a call; others, and those that hold a part of the network, are part of it.
    Pruning, weight norm, spectral norm and other parametrisations are evaluated once.

    Args:
        model: the network; it is not changed and not run.
        plain: evaluate parametrisations; else they stay, for training.

    Raises:
        TypeError: no ``nn.Module``.
        ConversionError: what cannot be converted, as :func:`refuse` says.

    >>> found = unwrap(nn.DataParallel(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))))
    >>> type(found.model).__name__, list(found.model.state_dict())
    ('Linear', ['bias', 'weight'])
    """
    refuse(model)
    inner, notes = peeled(model)
    twin, hooks = copied(inner)
    notes += hooks
    for path, module in list(twin.named_modules()):
        child, found = peeled(module)
        if found and path:
            twin.set_submodule(path, child)
            notes += [f"{path}: {note}" for note in found]
    if plain:
        notes += _evaluated(twin)
    return Unwrapped(twin, notes)


# --- what is refused -----------------------------------------------------------------------------------------


def refuse(model: Any) -> None:
    """Refuse what cannot be converted before any work is done.

    Raises:
        TypeError: no ``nn.Module``.
        ConversionError: a compiled or exported program, a network with spiking neurons, a quantised one, one without
            weights; the message names the module and says what to give instead.

    >>> refuse(nn.Sequential(nn.LazyLinear(3)))
    Traceback (most recent call last):
    snnconv.graph.error.ConversionError: 0 (LazyLinear) has no weights yet: run the network once, model(x), and ...
    """
    if isinstance(model, torch.export.ExportedProgram):
        raise ConversionError(_no_forward("an exported program (torch.export)"))
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    for path, module in _modules(model):
        classes = type(module).__mro__
        where, kind = path or "the network", type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise ConversionError(f"{where}: {_no_forward('a TorchScript module (torch.jit)')}")
        if any(c.__module__.startswith("torch.export") for c in classes):
            raise ConversionError(f"{where}: {_no_forward('the module of an exported program (torch.export)')}")
        if any((c.__module__.partition(".")[0], c.__name__) in _SPIKING for c in classes):
            raise ConversionError(
                f"{where}: {kind} is a spiking neuron inside the network that was given; convert makes spiking neurons "
                "of ReLUs: give the network with an nn.ReLU in its place"
            )
        if not _dynamic(module) and any(c.__module__.startswith(_QUANTISED) for c in classes):
            raise ConversionError(
                f"{where}: {kind} is quantised, it computes in whole numbers; give the float network that it was made "
                "from (thresholds have levels of their own)"
            )
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and nn.parameter.is_lazy(tensor):
                raise ConversionError(
                    f"{where} ({kind}) has no weights yet: run the network once, model(x), and train it or load weights"
                )
            if tensor is not None and tensor.is_meta:
                name = f"{path}.{name}".lstrip(".")
                raise ConversionError(
                    f"weight {name!r} is on the meta device, it has no data: load the weights first "
                    "(model.to_empty(device='cpu'), then model.load_state_dict(...))"
                )


def _no_forward(what: str) -> str:
    return f"{what} has no Python forward to read; give the nn.Module that it was made from"


def _modules(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """All modules, except those inside layers that quantise as they run."""
    yield path, module
    if not _dynamic(module):
        for name, child in module.named_children():
            yield from _modules(child, f"{path}.{name}".lstrip("."))


def _dynamic(module: nn.Module) -> bool:
    """Whether a layer quantises as it runs: it takes and gives floats."""
    return type(module).__module__.startswith("torch.ao.nn.quantized.dynamic")


# --- wrappers ------------------------------------------------------------------------------------------------


def peeled(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """The network inside its wrappers, with a sentence for each.

    >>> inside = nn.Linear(1, 1)
    >>> peeled(nn.DataParallel(inside))[0] is inside
    True
    """
    notes = []
    while (inner := _inner(model)) is not None:
        notes.append(f"{type(model).__name__} was taken off: it hands on what it is given")
        model = inner
    return model, notes


def _inner(model: nn.Module) -> nn.Module | None:
    if any(not only_looks(hook) for kind in _HOOKS for hook in getattr(model, kind).values()):
        return None
    if isinstance(model, _WRAPPERS):
        return model.module
    if type(model).__name__ == "OptimizedModule" and "_orig_mod" in model._modules:
        return model._modules["_orig_mod"]
    return _delegate(model)


class _Stub(nn.Module):
    """Stands for a wrapper's child: keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.answer = object()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        return self.answer


def _delegate(model: nn.Module) -> nn.Module | None:
    """The one child of a module whose ``forward(*args, **kwargs)`` does nothing but call it, found out by doing so."""
    children = list(model._modules.items())
    own = [v for v in (*model._parameters.values(), *model._buffers.values()) if v is not None]
    if len(children) != 1 or children[0][1] is None or own:
        return None
    kinds = {p.kind for p in inspect.signature(model.forward).parameters.values()}
    if not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        return None
    stub, twin = _Stub(), object.__new__(type(model))
    twin.__dict__.update(model.__dict__)
    twin.__dict__["_modules"] = {children[0][0]: stub}
    given = object(), {"name": object()} if inspect.Parameter.VAR_KEYWORD in kinds else {}
    try:
        out = twin.forward(given[0], **given[1])
    except Exception:  # it did something with what it was given
        return None
    alone = len(stub.calls) == 1 and stub.calls[0] == ((given[0],), given[1])
    return children[0][1] if alone and out is stub.answer else None


# --- copies --------------------------------------------------------------------------------------------------


class _Detached(TorchFunctionMode):
    """While copying: a tensor that was computed, and that a module keeps, is copied without what it came from."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


def copied(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """A copy without the hooks that only look, and sentences about hooks."""
    parts = parts_of(model)
    memo: dict[int, Any] = {}
    kept: list[tuple[nn.Module, str, int, Any]] = []
    gone: list[str] = []
    stay: list[str] = []
    for path, module in model.named_modules():
        for kind in _HOOKS:
            for key, hook in getattr(module, kind).items():
                where = path or "the network"
                own = isinstance(hook, (WeightNorm, SpectralNorm, prune.BasePruningMethod)) or belongs(hook, parts)
                if own or not only_looks(hook):
                    kept.append((module, kind, key, hook))
                    stay += [] if own else [where]
                else:
                    gone.append(where)
            memo[id(getattr(module, kind))] = OrderedDict()
        for kind in _OF_TRAINING:
            memo[id(getattr(module, kind))] = OrderedDict()
    with _Detached():
        twin: nn.Module = copy.deepcopy(model, memo)
    for module, kind, key, hook in kept:
        holder = getattr(memo[id(module)], kind)
        holder[key] = copy.deepcopy(hook, memo) if _copies(hook) else rebound(hook, memo)
    notes = []
    if gone:
        notes.append(f"forward hooks of {', '.join(dict.fromkeys(gone))} were left out: they only look at what passes")
    if stay:
        notes.append(
            f"forward hooks of {', '.join(dict.fromkeys(stay))} may change what passes: they are part of the network"
        )
    return twin, notes


def _copies(hook: Any) -> bool:
    """Whether a hook is one of PyTorch's own, which hold names and no modules."""
    return isinstance(hook, (WeightNorm, SpectralNorm, prune.BasePruningMethod))


# --- parametrisations ----------------------------------------------------------------------------------------


def _evaluated(model: nn.Module) -> list[str]:
    """Put plain weights in the place of parametrised ones; says which."""
    modes = {module: module.training for module in model.modules()}
    model.eval()  # spectral norm takes a step at each look while it trains
    found: dict[str, list[str]] = {}
    with torch.no_grad():
        for path, module in list(model.named_modules()):
            names = _names(module)
            for name in names:
                found.setdefault(name, []).append(path or "the network")
    for module, mode in modes.items():
        module.training = mode
    return [f"{name} of {', '.join(dict.fromkeys(paths))} was evaluated once" for name, paths in found.items()]


def _names(module: nn.Module) -> list[str]:
    """Remove a module's parametrisations; what they were."""
    names = []
    if parametrize.is_parametrized(module):
        # PyTorch's own remove_parametrizations changes the class, which the network that was copied has too
        chains = dict(module._modules.pop("parametrizations").named_children())  # type: ignore[union-attr]
        values = {name: chain() for name, chain in chains.items()}
        module.__class__ = type(module).__bases__[0]
        for name, chain in chains.items():
            names += [type(one).__name__.strip("_") for one in chain.children()]
            if any(True for _ in chain.parameters(recurse=False)):
                module.register_parameter(name, nn.Parameter(values[name].detach().clone()))
            else:
                module.register_buffer(name, values[name].detach().clone())
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)
        else:
            continue
        names.append("pruning" if isinstance(hook, prune.BasePruningMethod) else type(hook).__name__)
    return names
