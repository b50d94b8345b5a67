"""The network that the command line names, and its weights."""

from __future__ import annotations

import importlib.util
import inspect
import re
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnconv.cli.inputs import InputError
from snnconv.files.untrusted import CheckpointError, load_weights

__all__ = ["called", "find_device", "imported", "is_random", "load_model"]


def load_model(spec: str, weights: Path | None, classes: int | None, pretrained: bool) -> nn.Module:
    """The network of a spec ``torchvision:name``, ``timm:name`` or ``file.py:function``, in eval mode.

    Raises:
        InputError: a spec that names no network, options that do not go with it, weights that do not fit.
    """
    kind, separator, name = spec.rpartition(":")
    if not separator or not name:
        raise InputError(f"{spec!r} names no network: write torchvision:resnet18, timm:resnet26 or file.py:function")
    if kind == "torchvision":
        model = _torchvision(name, classes, pretrained)
    elif kind == "timm":
        model = _timm(name, classes, pretrained)
    elif kind.endswith(".py"):
        if classes is not None or pretrained:
            raise InputError("--classes and --pretrained belong to torchvision: and timm: networks")
        model = _factory(Path(kind), name)
    else:
        raise InputError(f"{kind!r} is neither torchvision, timm nor a .py file")
    if weights is not None:
        _load_weights(model, weights, sized=kind in ("torchvision", "timm") and classes is None)
    return model.eval()


def find_device(name: str | None) -> torch.device:
    """The device of this name, the CPU for none.

    Raises:
        InputError: no device's name, or one that is not here.

    >>> find_device(None)
    device(type='cpu')
    """
    if name is None:
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).add(1).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"--device {name}: {reason}; snnconv doctor says which GPU torch finds") from error
    return device


def is_random(spec: str, weights: Path | None, pretrained: bool) -> bool:
    """Whether a network's weights are random; a function of one's own may read some by itself.

    >>> is_random("timm:resnet26", None, False), is_random("net.py:make", None, False)
    (True, False)
    """
    return weights is None and not pretrained and not spec.rpartition(":")[0].endswith(".py")


def _torchvision(name: str, classes: int | None, pretrained: bool) -> nn.Module:
    try:
        from torchvision import models
    except ImportError as error:
        raise InputError("torchvision is not installed: pip install torchvision") from error
    if name not in models.list_models():
        raise InputError(f"torchvision has no model {name!r}; torchvision.models.list_models() names them")
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if name in ("googlenet", "inception_v3") and not pretrained:
        options |= {"aux_logits": False, "init_weights": True}
    model: nn.Module = models.get_model(name, weights="DEFAULT" if pretrained else None, **options)
    return model


def _timm(name: str, classes: int | None, pretrained: bool) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise InputError("timm is not installed: pip install timm") from error
    if not timm.is_model(name.split(".")[0]):
        raise InputError(f"timm has no model {name!r}; timm.list_models() names them")
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    return timm.create_model(name, pretrained=pretrained, **options)


def _factory(path: Path, name: str) -> nn.Module:
    found = imported(path, name)
    model = found if isinstance(found, nn.Module) else called(path, found)  # one that the file has made already
    if not isinstance(model, nn.Module):
        raise InputError(f"{path}:{name} returned {type(model).__name__}, not a torch.nn.Module")
    return model


def called(path: Path, function: Any, *arguments: Any) -> Any:
    """What a function of the Python file ``path`` returns; its error with the file and the line.

    Raises:
        InputError: it fails.
    """
    try:
        return function(*arguments)
    except Exception as error:
        raise InputError(
            f"{_place(error, path)}: {function.__name__} fails: {type(error).__name__}: {error}"
        ) from error


def _place(error: Exception, path: Path) -> str:
    """``file:line`` of the last line of ``path`` that an error went through."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{path}:{error.lineno}"
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == path.resolve()
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)


def imported(path: Path, name: str) -> Any:
    """The function ``name`` of a Python file, which runs.

    Raises:
        InputError: there is no such file or function, or the file fails.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None:
        raise InputError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{_place(error, path)}: fails on import: {type(error).__name__}: {error}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        own = [v for v in vars(module).values() if inspect.isfunction(v) and v.__module__ == module.__name__]
        raise InputError(f"{path} has no function {name!r}; it has: {', '.join(v.__name__ for v in own) or 'none'}")
    return factory


def _load_weights(model: nn.Module, path: Path, sized: bool) -> None:
    """``sized``: whether ``--classes`` could make the network fit."""
    try:
        load_weights(model, path)
    except (CheckpointError, FileNotFoundError) as error:
        found = re.search(r"is (\d+)(x[\dx]+)? in the file and (\d+)(x[\dx]+)? in the model", str(error))
        if sized and found and found[1] != found[3] and found[2] == found[4]:
            raise InputError(f"{error}; use --classes {found[1]}") from error
        raise InputError(str(error)) from error
