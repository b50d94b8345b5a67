"""Changes in place: the result is computed beside a value, then put in its place, for all views of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from snnconv.runtime.tree.functions import Arguments, Function
from snnconv.runtime.tree.time import Time
from snnconv.runtime.tree.values import MEANS, STEPS, Memory, Value, storage_of

__all__ = ["computed_beside", "write"]


def computed_beside(
    what: Function, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], Callable[..., Any] | None, Arguments]:
    """The same function without a change in place, a faster one where there is one, and the arguments of both.

    >>> import torch
    >>> from snnconv.runtime.tree.functions import function
    >>> x = torch.zeros(2)
    >>> beside, _, given = computed_beside(function(Tensor.fill_), Tensor.fill_, (x, 3), {})
    >>> beside(*given.leaves), x
    (tensor([3., 3.]), tensor([0., 0.]))
    """
    if what.flagged(args, kwargs):
        args = tuple(False if i == what.flag else v for i, v in enumerate(args))
        return func, None, Arguments(args, {k: False if k == "inplace" else v for k, v in kwargs.items()})

    def beside(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        x = x.clone()
        func(x, *args, **kwargs)
        return x

    faster = getattr(Tensor, what.bare) if what.bare in ("add", "sub", "mul", "div") else None
    return beside, faster, Arguments(args, kwargs)


def write(target: Value, value: Value, time: Time, key: str) -> bool:
    """Put ``value`` in place of ``target``, for all who see it; false where a view of it is no view any more.

    No tensor is written over: a neuron may have sent it, somebody may have recorded it.
    """
    old, new = target.memory, value.memory
    others = [v for v in old.alive() if v is not target]
    if not others:
        origin, analog = max(old.origin, new.origin), old.analog | new.analog
        target.becomes(value.raw, Memory(value.raw, origin, new.time, analog, new.channels))
        return True
    root, raw = old.root, value.raw
    if new.time is not None and old.time is None:
        root, old.time = root.expand(time.timesteps, *root.shape), new.time
    elif new.time == MEANS and old.time == STEPS:
        root, old.time = time.running(root, key), MEANS
    elif new.time == STEPS and old.time == MEANS:
        raw = time.running(raw, key)
    elif new.time is None and old.time is not None:
        raw = raw.expand(time.timesteps, *raw.shape)
    root = root.clone()
    for one in (target, *others):
        one.raw, one.means = one.derived(root, old.time is not None), None
    if storage_of(target.raw) != storage_of(root):
        return False
    target.raw.copy_(raw)
    old.root, old.origin, old.analog = root, max(old.origin, new.origin), old.analog | new.analog
    return True
