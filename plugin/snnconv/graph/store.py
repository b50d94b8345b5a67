"""Tensors and modules under dotted names, as a module that moves and saves with its owner."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from torch import Tensor, nn

__all__ = ["Store"]


class Store(nn.Module):
    """Mapping from dotted names to tensors or modules, held as nested buffers, parameters and submodules.

    >>> import torch
    >>> store = Store({"layer1.0.weight": torch.zeros(2)})
    >>> list(store.state_dict()), store["layer1.0.weight"].shape
    (['layer1.0.weight'], torch.Size([2]))
    """

    def __init__(self, values: MutableMapping[str, Any] | None = None) -> None:
        super().__init__()
        self._order: dict[str, None] = {}
        for name, value in (values or {}).items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        *path, leaf = name.split(".")
        owner: nn.Module = self
        for part in path:
            owner = owner._modules[part]  # type: ignore[assignment]
        for kind in (owner._buffers, owner._parameters, owner._modules):
            if leaf in kind:
                return kind[leaf]
        raise KeyError(name)

    def __setitem__(self, name: str, value: Tensor | nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        owner: nn.Module = self
        for part in parent.split(".") if parent else ():
            if part not in owner._modules:
                owner._modules[part] = nn.Module()
            owner = owner._modules[part]  # type: ignore[assignment]
        for kind in (owner._buffers, owner._parameters, owner._modules):
            kind.pop(leaf, None)
        if isinstance(value, nn.Module):
            owner._modules[leaf] = value
        elif isinstance(value, nn.Parameter):
            owner._parameters[leaf] = value
        else:
            owner._buffers[leaf] = value
        self._order[name] = None

    def __contains__(self, name: object) -> bool:
        return name in self._order

    def __iter__(self) -> Iterator[str]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or ``default`` where there is none."""
        return self[name] if name in self._order else default

    def keys(self) -> list[str]:
        """Names, in the order in which they were set."""
        return list(self._order)

    def values(self) -> list[Any]:
        """Values."""
        return [self[name] for name in self._order]

    def items(self) -> list[tuple[str, Any]]:
        """Names and values."""
        return [(name, self[name]) for name in self._order]
