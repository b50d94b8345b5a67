"""One text and one hash for what decides a result: settings, and a network's weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from typing import Any

import torch
from torch import nn

__all__ = ["canonical", "config_hash", "digest", "fields_of", "plain"]


def plain(value: Any) -> Any:
    """``value`` in JSON's own types, the same text in every process: for configurations, not for figures.

    Tuples become lists, dataclasses dictionaries, functions their names, infinities and the rest their repr.

    >>> plain({"window": (1, 8), "activation": nn.ReLU})
    {'window': [1, 8], 'activation': 'torch.nn.modules.activation.ReLU'}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"name": type(value).__name__, "fields": fields_of(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=repr)
    if hasattr(value, "tolist"):  # tensors and arrays
        return plain(value.tolist())
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value) if isinstance(value, os.PathLike) else repr(value)


def fields_of(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass of settings, each :func:`plain`."""
    return {f.name: plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}


def config_hash(config: dict[str, Any]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of ``config`` as JSON with sorted keys.

    >>> config_hash({"a": 1, "b": (2, 3)}) == config_hash({"b": [2, 3], "a": 1})
    True
    """
    return hashlib.sha256(canonical(config).encode()).hexdigest()[:16]


def canonical(value: Any) -> str:
    """One text for equal values."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(model: nn.Module) -> str:
    """A hash, 16 hexadecimal digits, of parameters and buffers: the network that a result belongs to.

    >>> a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> digest(a) == digest(a), digest(a) == digest(b)
    (True, False)
    """
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode())
        if isinstance(value, torch.Tensor):
            flat = value.detach().cpu().contiguous().flatten()
            total.update(flat.view(torch.uint8).numpy().tobytes())
        else:  # a module's extra state
            total.update(repr(value).encode())
    return total.hexdigest()[:16]
