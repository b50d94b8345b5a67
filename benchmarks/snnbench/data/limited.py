"""The first samples of a data set, whatever its class takes."""

from __future__ import annotations

import inspect
from typing import Any

from mmengine import registry
from mmengine.config import ConfigDict
from torch.utils.data import Subset

from snnbench.registry import DATASETS

__all__ = ["FirstItems", "first"]


@DATASETS.register_module()
class FirstItems(Subset[Any]):
    """The first items of a data set whose class has no ``indices``.

    Args:
        dataset: how to build it.
        count: how many, at most.
    """

    def __init__(self, dataset: dict[str, Any], count: int) -> None:
        built = registry.DATASETS.build(dataset)
        super().__init__(built, range(min(count, len(built))))
        if hasattr(built, "metainfo"):
            self.metainfo = built.metainfo


def first(dataset: dict[str, Any], count: int) -> ConfigDict:
    """The config of a data set's first ``count`` samples: its own ``indices``, or `FirstItems` around it."""
    kind = dataset["type"]
    if isinstance(kind, str):
        with registry.DATASETS.switch_scope_and_registry(None) as current:
            kind = current.get(kind)
    taken = {} if kind is None else inspect.signature(kind).parameters  # None: an error of mmengine's that names it
    if "indices" in taken or kind is None or any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        return ConfigDict({**dataset, "indices": count})
    return ConfigDict(type=f"{DATASETS.scope}.FirstItems", dataset=dataset, count=count)
