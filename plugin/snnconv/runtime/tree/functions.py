"""What the run of a module tree has to know of a function that a forward calls."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

__all__ = ["VIEW_ATTRIBUTES", "Arguments", "Function", "function"]

_IN_PLACE = frozenset({
    "__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ifloordiv__", "__imod__", "__ipow__",
    "__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__", "__setitem__",
})  # fmt: skip
_RESHAPED = frozenset({
    "squeeze_", "unsqueeze_", "transpose_", "t_", "swapaxes_", "swapdims_", "resize_", "resize_as_", "set_",
    "as_strided_",
})  # fmt: skip
_QUERIES = frozenset({
    "size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "get_device", "element_size",
    "is_floating_point", "is_complex", "is_signed", "is_inference", "is_same_size", "storage_offset", "is_pinned",
    "dim_order", "is_shared", "is_conj", "is_neg", "is_storage", "is_tensor", "result_type", "can_cast", "has_names",
    "__len__", "__hash__",
})  # fmt: skip
_LIKE = frozenset({
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like", "new_zeros",
    "new_ones", "new_empty", "new_full", "new_tensor", "new",
})  # fmt: skip
_PYTHON = frozenset({
    "item", "tolist", "numpy", "equal", "allclose", "is_nonzero", "__bool__", "__float__", "__int__", "__index__",
    "__complex__", "__contains__", "__array__", "data_ptr", "__dlpack__",
})  # fmt: skip
_HANDLES = frozenset({"requires_grad_", "retain_grad", "detach_", "share_memory_"})
_DROPOUT = frozenset({
    "dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "alpha_dropout_", "feature_dropout",
    "feature_dropout_", "feature_alpha_dropout", "feature_alpha_dropout_",
})  # fmt: skip
_COPIES = frozenset({"copy_", "zero_", "fill_", "__setitem__"})
VIEW_ATTRIBUTES = frozenset({"T", "mT", "H", "mH", "real", "imag", "data"})
"""Attributes that are tensors."""


@dataclass(frozen=True)
class Function:
    """A function of a forward.

    Attributes:
        name: as PyTorch has it: ``conv2d``, ``add_``, ``__getitem__``.
        bare: the same without underscores: ``add``, ``getitem``.
        target: as :func:`snnconv.graph.ops.op_kind` takes it: the function, or a method's name.
        method: whether ``target`` is a method's name.
        attribute: of the tensor, where it reads or sets one.
        flag: position of an ``inplace`` argument, or None.
        view: whether it gives a view of its first argument.
        queries: it asks for a shape, a dtype or a device.
        prints: it asks for a text.
        makes_like: it makes a constant of a tensor's shape.
        leaves_tensors: it asks for the values themselves, as Python has them.
        keeps_values: it changes what autograd makes of a tensor, and nothing else.
        reshapes_in_place: it changes a tensor's shape, not its values.
        overwrites: it puts values where others were, so that it is linear in both.
        writes: it changes its first argument.
    """

    name: str
    bare: str
    target: Any
    method: bool
    attribute: str | None = None
    flag: int | None = None
    view: bool = False
    queries: bool = False
    prints: bool = False
    makes_like: bool = False
    leaves_tensors: bool = False
    keeps_values: bool = False
    reshapes_in_place: bool = False
    overwrites: bool = False
    writes: bool = False

    def in_place(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call changes its first argument."""
        return self.writes or self.flagged(args, kwargs)

    def flagged(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call says ``inplace=True``."""
        given = self.flag is not None and len(args) > self.flag and args[self.flag] is True
        return given or kwargs.get("inplace") is True

    def does_nothing(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call is a dropout of evaluation mode."""
        if self.name not in _DROPOUT:
            return False
        default = not self.name.startswith(("alpha", "feature_alpha"))  # as torch.nn.functional has them
        return not kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else default))


class Arguments:
    """The arguments of one call as a flat list, and how they nest.

    >>> given = Arguments(([1, "x"],), {"dim": 2})
    >>> given.leaves, given.filled([3, "y", 4])
    ([1, 'x', 2], (([3, 'y'],), {'dim': 4}))
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._spec: TreeSpec | None = None
        flat = [*args, *kwargs.values()]
        if any(isinstance(v, (tuple, list, dict)) and not _numbers(v) for v in flat):
            self.leaves, self._spec = tree_flatten((args, kwargs))
        else:  # no need to look inside
            self.leaves = flat
            self._count, self._names = len(args), tuple(kwargs)

    def filled(self, leaves: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments with other leaves."""
        if self._spec is not None:
            args, kwargs = tree_unflatten(leaves, self._spec)
            return args, kwargs
        return tuple(leaves[: self._count]), dict(zip(self._names, leaves[self._count :], strict=True))


def _numbers(values: Any) -> bool:
    return type(values) in (tuple, list, torch.Size) and all(type(v) is int for v in values)


@functools.lru_cache(maxsize=4096)
def function(func: Any) -> Function:
    """What there is to know of ``func``.

    >>> function(Tensor.add_).bare, function(Tensor.add_).in_place((), {})
    ('add', True)
    """
    name = getattr(func, "__name__", type(func).__name__)
    owner = getattr(func, "__self__", None)
    if name in ("__get__", "__set__", "__delete__"):
        return Function(name, name.strip("_"), name, True, getattr(owner, "__name__", "attribute"))
    packet = getattr(func, "overloadpacket", func if isinstance(func, torch._ops.OpOverloadPacket) else None)
    if packet is not None:  # called past Python, by its internal name
        name = packet.__name__
    method = packet is not None or getattr(Tensor, name, None) is func
    flag = None
    if isinstance(func, FunctionType):
        names = list(inspect.signature(func).parameters)
        flag = names.index("inplace") if "inplace" in names else None
    return Function(
        name,
        name.strip("_"),
        name if method else func,
        method,
        flag=flag,
        view=_gives_view(name),
        queries=name in _QUERIES,
        prints=name in ("__repr__", "__str__", "__format__"),
        makes_like=name in _LIKE,
        leaves_tensors=name in _PYTHON,
        keeps_values=name in _HANDLES,
        reshapes_in_place=name in _RESHAPED,
        overwrites=name in _COPIES,
        writes=name in _IN_PLACE or (name.endswith("_") and not name.endswith("__")),
    )


def _gives_view(name: str) -> bool:
    """Whether PyTorch's own schema says that the result is a view, which moves values and changes none."""
    packet = getattr(torch.ops.aten, name, None) if not name.startswith("__") else None
    if packet is None:
        return False
    for overload in packet.overloads():
        returns = getattr(packet, overload)._schema.returns
        if returns and returns[0].alias_info is not None and not returns[0].alias_info.is_write:
            return True
    return False
