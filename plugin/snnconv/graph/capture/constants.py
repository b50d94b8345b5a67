"""Which values of a graph are one number, whatever the input: scalar weights, what follows from such, zeros, ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from snnconv.graph.arguments import arguments
from snnconv.graph.ops import find
from snnconv.graph.source import SourceGraph

__all__ = ["Constants"]


class Constants(dict[fx.Node, float]):
    """The values that are one number, and the numbers; asked node by node, in the graph's order.

    >>> graph = fx.Graph()
    >>> ones = graph.call_function(torch.ones_like, (graph.placeholder("x"),))
    >>> found = Constants(SourceGraph(graph, {}))
    >>> found.note(ones), found.note(graph.call_function(torch.neg, (ones,)))
    (True, True)
    >>> list(found.values()), found.note(graph.call_function(torch.cumsum, (ones, 1)))
    ([1.0, -1.0], False)
    """

    def __init__(self, source: SourceGraph) -> None:
        super().__init__()
        self._source = source
        self._filled: set[fx.Node] = set()
        """Tensors of any size, full of their number: a sum of one is another number."""

    def note(self, node: fx.Node) -> bool:
        """Whether a value is one number, which is then known to what reads it."""
        found = self._of(node)
        if found is not None:
            self[node] = found
        return found is not None

    def _of(self, node: fx.Node) -> float | None:
        if node.op == "get_attr":
            tensor = self._source.tensors.get(str(node.target))
            return float(tensor.detach()) if tensor is not None and tensor.numel() == 1 and tensor.dim() < 2 else None
        if node.op not in ("call_function", "call_method"):
            return None
        given = arguments(node)
        if node.target in _LIKE or (node.target in _FILLED and _as_large(given.get("size"))):
            value = _LIKE.get(node.target, _FILLED.get(node.target))
            number = given.get("fill_value") if value is None else value
            self._filled.add(node)
            return float(number) if isinstance(number, (int, float)) else None
        inputs = node.all_input_nodes
        record = find(node.target, node.op == "call_method")
        if not inputs or record is None or record.kind == "shape" or any(n not in self for n in inputs):
            return None
        found = self._computed(node, 2)
        if self._filled.isdisjoint(inputs):
            return found
        self._filled.add(node)
        return found if found == self._computed(node, 3) else None

    def _computed(self, node: fx.Node, side: int) -> float | None:
        """The one number that a call gives, where what is of any size has ``side`` values in each dimension."""

        def value(used: fx.Node) -> Tensor:
            return torch.full((side,) * 4 if used in self._filled else (), self[used], dtype=torch.float64)

        try:
            args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), value)
            made = getattr(args[0], str(node.target))(*args[1:], **kwargs) if node.op == "call_method" else (
                node.target(*args, **kwargs)  # type: ignore[operator]
            )  # fmt: skip
        except (RuntimeError, TypeError, ValueError, IndexError):
            return None
        one = isinstance(made, Tensor) and made.numel() > 0 and bool((made == made.flatten()[0]).all())
        return float(made.flatten()[0]) if one else None


def _as_large(size: Any) -> bool:
    """Whether a size is that of one number, or one taken from another tensor's."""
    if isinstance(size, (tuple, list)):
        return size in ((), (1,), [], [1]) or any(isinstance(s, fx.Node) for s in size)
    return isinstance(size, fx.Node) or size == 1


_LIKE: dict[Any, float | None] = {torch.zeros_like: 0.0, torch.ones_like: 1.0, torch.full_like: None}
_FILLED: dict[Any, float | None] = {
    torch.zeros: 0.0, torch.ones: 1.0, torch.full: None, "new_zeros": 0.0, "new_ones": 1.0, "new_full": None,
}  # fmt: skip
