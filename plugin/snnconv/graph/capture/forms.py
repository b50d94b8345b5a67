"""What a network returns, as a flat list of tensors and the containers that they belong in."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["Made", "Place", "form_of", "put_together"]


def form_of(value: Any, found: list[Any]) -> Any:
    """A tree of values with `Place` where a tensor, or a size, is."""
    if isinstance(value, (Tensor, torch.SymInt, torch.SymFloat, torch.SymBool)):
        found.append(value)
        return Place(len(found) - 1)
    if isinstance(value, dict):
        if type(value) is not dict:  # Hugging Face's outputs: what is there, by name
            value = {k: v for k, v in value.items() if v is not None}
        return {k: form_of(v, found) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(form_of(v, found) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(form_of(v, found) for v in value)
    if is_dataclass(value) and not isinstance(value, type):
        return Made(type(value), {f.name: form_of(getattr(value, f.name), found) for f in fields(value)})
    return value


class Place(int):
    """The number of a tensor in the flat list of outputs."""


class Made:
    """A dataclass among the outputs."""

    def __init__(self, kind: type, values: dict[str, Any]) -> None:
        self.kind, self.values = kind, values


def put_together(form: Any, given: list[Any], graph: fx.Graph) -> Any:
    """The tensors in the containers in which the network gives them; a dataclass is a node that makes it."""
    if isinstance(form, Place):
        return given[form]
    if isinstance(form, Made):
        return graph.call_function(form.kind, (), put_together(form.values, given, graph))
    if isinstance(form, dict):
        return {k: put_together(v, given, graph) for k, v in form.items()}
    if isinstance(form, tuple) and hasattr(form, "_fields"):
        return type(form)(*(put_together(v, given, graph) for v in form))
    if isinstance(form, (tuple, list)):
        return type(form)(put_together(v, given, graph) for v in form)
    return form
