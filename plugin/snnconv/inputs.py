"""Inputs: from whatever the user has (a tensor, pairs, dictionaries, a loader) to batches that a network takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_any, tree_map

from snnconv.graph.source import ConversionError
from snnconv.runtime.batch import Batch, Whole, batch_of, entries, named_leaves, same_shapes, unbatched
from snnconv.runtime.readout import join_batches
from snnconv.runtime.signature import PLAIN, Signature

if TYPE_CHECKING:
    from snnconv.network import SpikingNetwork

__all__ = ["Progress", "Reader", "Take", "input_batches", "input_of", "label_of", "network_batches", "placement"]

Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)``."""
Take = int | Sequence[str] | Callable[[Any], Any] | None
"""Which of a batch's entries are inputs: how many of the first, their names, a function, or what forward takes."""

_KEYS = ("input", "inputs", "x", "image", "images", "img", "pixel_values", "data")
_LABELS = ("label", "labels", "target", "targets", "y", "data_samples")


def input_of(batch: Any) -> Tensor:
    """The input tensor of a loader's batch: a tensor, ``(input, target)``, or a dictionary.

    Raises:
        ConversionError: there is no input in it; the message says what there is.

    >>> input_of((torch.zeros(2, 3), torch.zeros(2))).shape
    torch.Size([2, 3])
    """
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        for key in _KEYS:
            if isinstance(value := batch.get(key), Tensor):
                return value
        for value in batch.values():
            if isinstance(value, Tensor) and value.is_floating_point():
                return value
        raise ConversionError(f"a batch is a dictionary without an input tensor; its keys are {list(batch)}")
    if isinstance(batch, (tuple, list)) and batch:
        return input_of(batch[0])
    raise ConversionError(
        f"a batch is a {type(batch).__name__}; give tensors, (input, target) pairs or dictionaries with one of {_KEYS}"
    )


def label_of(batch: Any) -> Tensor | None:
    """Class labels ``[B]`` of a loader's batch: of ``(input, label)``, or of a dictionary; ``None`` without.

    >>> label_of((torch.zeros(2, 3), torch.tensor([1, 0])))
    tensor([1, 0])
    """
    found: Any = None
    if isinstance(batch, Mapping):
        found = next((batch[key] for key in _LABELS if key in batch), None)
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        found = batch[1]
    classes = isinstance(found, Tensor) and found.dim() == 1 and not found.is_floating_point()
    return found if classes else None


class Reader:
    """Tells the inputs of a loader's batches from what else is in them, by what the network's forward takes.

    A network of one input takes a tensor, the first of a pair or tuple, or one entry of a dictionary. One of n inputs
    takes the first n of a tuple, or a tuple of n that comes first (``((x, y), label)``), or the entries of a dictionary
    that have its arguments' names; arguments with a default are taken where a dictionary has them, unless their name is
    a label's.

    Args:
        signature: of the network; ``None``: one input.
        take: says it instead: how many of a batch's first entries are inputs, the names of the inputs, or a function
            from a batch to its inputs.

    >>> reader = Reader(Signature.of(nn.Bilinear(2, 3, 1)))
    >>> given, rest = reader.divide((torch.zeros(4, 2), torch.zeros(4, 3), torch.zeros(4)))
    >>> list(given), len(rest)
    (['input1', 'input2'], 1)
    """

    def __init__(self, signature: Signature | None = None, take: Take = None) -> None:
        self.signature = signature or Signature(("x",), ("x",))
        self.take = take
        if isinstance(take, str):
            raise TypeError(f"calibration_inputs takes several names, got the text {take!r}: write ({take!r},)")
        if isinstance(take, int) and (isinstance(take, bool) or take < 1):
            raise ValueError(f"calibration_inputs is {take}: how many of a batch's entries are inputs, 1 or more")
        if take is not None and not callable(take) and not isinstance(take, int):
            unknown = [name for name in take if name not in self.signature.names]
            if unknown:
                raise ConversionError(
                    f"calibration_inputs names {unknown[0]!r}, which is no argument of the network's forward; it has "
                    f"{', '.join(self.signature.names)}"
                )

    def divide(self, batch: Any) -> tuple[Any, Any]:
        """What goes into the network, a tensor or values by argument, and the rest of the batch.

        Raises:
            ConversionError: a batch that does not hold what the network takes.
        """
        take = self.take
        if isinstance(batch, Batch):
            return dict(batch.values), ()
        if callable(take):
            return self._named(take(batch)), batch
        if take is not None and not isinstance(take, int):
            return self._by_name(batch, tuple(take))
        if isinstance(batch, Mapping):
            return self._of_mapping(batch)
        wanted = take or max(1, len(self.signature.required))
        if isinstance(batch, Tensor) and wanted == 1:
            return self._named(batch), ()
        if not isinstance(batch, (tuple, list)) or not batch:
            raise self._unfit(batch, wanted)
        first = batch[0]
        if wanted > 1 and isinstance(first, (tuple, list)) and len(first) >= wanted:  # ((x, y), label)
            return self._named(tuple(first[:wanted])), batch[1:]
        if isinstance(first, Mapping) and take is None:  # ({"x": ..., "y": ...}, label)
            return self._of_mapping(first)[0], batch[1:]
        if len(batch) < wanted or not tree_any(lambda v: isinstance(v, Tensor), first):
            raise self._unfit(batch, wanted)
        given = batch[:wanted]
        return self._named(tuple(given) if wanted > 1 or not isinstance(first, Tensor) else first), batch[wanted:]

    def labels(self, rest: Any) -> Tensor | None:
        """Class labels ``[B]`` among what `divide` left, or ``None``."""
        return label_of(rest if isinstance(rest, Mapping) else (None, *rest))

    def _of_mapping(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        required, names = self.signature.required, self.signature.names
        optional = [name for name in names if name not in required and name not in _LABELS]
        given = {name: batch[name] for name in names if name in batch and name in (*required, *optional)}
        if given and all(name in given for name in required):
            return self._named(given), {k: v for k, v in batch.items() if k not in given}
        if len(required) > 1:
            raise ConversionError(
                f"the network takes {', '.join(required)}; a batch is a dictionary with the keys {list(batch)}: name "
                "its entries like the arguments of forward, or say how with calibration_inputs=lambda batch: {...}"
            )
        return self._named(input_of(batch)), batch

    def _by_name(self, batch: Any, names: tuple[str, ...]) -> tuple[Any, Any]:
        if isinstance(batch, Mapping):
            absent = [name for name in names if name not in batch]
            if absent:
                raise ConversionError(f"a batch has no {absent[0]!r}; its keys are {list(batch)}")
            return self._named({n: batch[n] for n in names}), {k: v for k, v in batch.items() if k not in names}
        values = (batch,) if isinstance(batch, Tensor) else batch
        if not isinstance(values, (tuple, list)) or len(values) < len(names):
            raise self._unfit(batch, len(names))
        return self._named(dict(zip(names, values, strict=False))), values[len(names) :]

    def _named(self, value: Any) -> Any:
        """A tensor where that is all the network takes, else values by argument."""
        names = [name.lstrip("*") for name in self.signature.parameters] or ["x"]
        if isinstance(value, Tensor):
            value = (value,)
        if isinstance(value, (tuple, list)):
            star = next((i for i, name in enumerate(self.signature.parameters) if name.startswith("*")), None)
            if star is not None and len(value) > star and not (star == 0 and len(value) == 1):
                value = (*value[:star], tuple(value[star:]))
            if len(value) > len(names):
                raise ConversionError(f"the network takes {', '.join(names)}; a batch has {len(value)} inputs for it")
            value = dict(zip(names, value, strict=False))
        if not isinstance(value, Mapping):
            raise ConversionError(f"calibration_inputs gave a {type(value).__name__}; give tensors or a dictionary")
        if list(value) == names[:1] and isinstance(value[names[0]], Tensor):
            return value[names[0]]
        return dict(value)

    def _unfit(self, batch: Any, wanted: int) -> ConversionError:
        if len(self.signature.required) <= 1 and wanted == 1:
            return ConversionError(
                f"a batch is a {type(batch).__name__}; give tensors, (input, target) pairs or dictionaries with one of "
                f"{_KEYS}"
            )
        size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        names = list(self.signature.names[:wanted])
        return ConversionError(
            f"the network takes several inputs, {', '.join(names)}, and a batch is a {type(batch).__name__}{size}: "
            f"give ({', '.join(names)}) tuples, or dictionaries {{{', '.join(f'{n!r}: ...' for n in names)}}}"
        )


def input_batches(
    data: Any,
    limit: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int = 64,
    name: str = "calibration",
    reader: Reader | None = None,
) -> list[Any]:
    """Inputs ``[B, ...]`` from tensors, dictionaries, a list of batches, or a loader; at most ``limit`` samples.

    Args:
        data: a tensor ``[N, ...]``, a tuple or dictionary of them for a network of several inputs, or an iterable of
            batches.
        limit: number of samples to take, from the start.
        device: where to put them.
        dtype: the network's dtype; other floating dtypes are refused.
        batch_size: samples a batch, where all have one shape.
        name: what the data is, for error messages.
        reader: tells inputs from labels; one input where there is none.

    Returns:
        Tensors, or `Batch` objects where a network takes several inputs.

    Raises:
        ConversionError: no data, NaN or infinite values, a dtype or shape that does not fit.

    >>> [b.shape[0] for b in input_batches(torch.zeros(5, 3), batch_size=2)]
    [2, 2, 1]
    """
    reader = reader or Reader()
    found: list[Any] = []
    count = 0
    for index, batch in enumerate(_as_batches(data, name, batch_size, reader)):
        given, _ = reader.divide(batch)
        if isinstance(given, Tensor) and limit is not None:
            given = given[: limit - count]
        _check(given, index, dtype, name)
        if found and [v.dim() for v in entries(given).values()] != [v.dim() for v in entries(found[0]).values()]:
            raise ConversionError(f"{name} batch {index} has {_shapes(given)}, the first one {_shapes(found[0])}")
        size = _size(given)
        if size:
            found.append(given)
            count += size
        if limit is not None and count >= limit:
            break
    if not found:
        raise ConversionError(f"{name} is empty: it gave no samples")
    batches = _batched(found)
    if limit is not None and count > limit:
        batches[-1] = batches[-1][: len(batches[-1]) - (count - limit)]
    if device is not None:
        batches = [x.to(device) for x in batches]
    if not same_shapes(batches):
        return batches
    again = join_batches(batches).split(batch_size)
    return [x.map(torch.clone) if isinstance(x, Batch) else x.clone() for x in again]


def _as_batches(data: Any, name: str, batch_size: int, reader: Reader) -> Iterable[Any]:
    several = len(reader.signature.required) > 1 and (reader.take is None or isinstance(reader.take, int))
    if data is None:
        raise ConversionError(f"{name} data is needed: give a tensor, a list of tensors or a loader")
    if isinstance(data, Tensor):
        if data.dim() < 2:
            raise ConversionError(f"{name} must be a batch [N, ...], got shape {tuple(data.shape)}")
        return list(data.split(batch_size)) if len(data) else []
    if isinstance(data, (Mapping, Batch)):
        return [data.values if isinstance(data, Batch) else data]
    if several and isinstance(data, tuple) and all(isinstance(v, Tensor) for v in data):
        return [data]
    if not isinstance(data, Iterable) or isinstance(data, str):
        raise ConversionError(f"{name} must be a tensor, a list of tensors or a loader, got {type(data).__name__}")
    return data


def _batched(found: list[Any]) -> list[Any]:
    """Values by argument as batches: what has another size along dimension 0, in any of them, is no batch of it."""
    if isinstance(found[0], Tensor):
        return found
    whole: set[str] = set().union(*(unbatched(values) for values in found))
    kept: list[Whole] = []

    def shared(value: Any) -> Any:
        if not isinstance(value, Whole):
            return value
        for known in kept:
            if known.data.shape == value.data.shape and torch.equal(known.data, value.data):
                return known
        kept.append(value)
        return value

    return [Batch(tree_map(shared, batch_of(values, whole).values)) for values in found]


def _size(given: Any) -> int:
    sizes = [v.shape[0] for v in entries(given).values() if v.dim()]
    return sizes[0] if sizes else 0


def _shapes(given: Any) -> str:
    found = entries(given)
    if list(found) == [""]:
        return f"shape {tuple(found[''].shape)}"
    return "the shapes " + ", ".join(f"{name} {tuple(v.shape)}" for name, v in found.items())


def _check(given: Any, index: int, dtype: torch.dtype | None, name: str) -> None:
    tensors = entries(given)
    where = f"{name} batch {index}"
    if not any(v.dim() for v in tensors.values()):
        raise ConversionError(f"{where} has no tensor with a batch dimension")
    for key, value in {} if isinstance(given, Tensor) else named_leaves(given).items():
        if not isinstance(value, (Tensor, Whole, *PLAIN)):
            raise ConversionError(f"{where}: input {key!r} is a {type(value).__name__}; give tensors and plain values")
    for number, (key, x) in enumerate(tensors.items()):
        what = f"{where}: input {key!r}" if key else where
        if not key and x.dim() < 2:
            raise ConversionError(f"{what} has shape {tuple(x.shape)}; a batch [B, ...] is needed")
        if dtype is not None and x.dtype != dtype and (not key or x.is_floating_point()):
            hint = "scale it to the values the network was trained on, then " if not x.is_floating_point() else ""
            raise ConversionError(
                f"{what} is {x.dtype}, the network's weights are {dtype}: {hint}convert it with .to({dtype})"
            )
        # -inf in what follows the first input is an attention mask
        if x.is_floating_point() and not bool((torch.isfinite(x) | (x == -torch.inf) & (number > 0)).all()):
            raise ConversionError(f"{what} has NaN or infinite values")


def network_batches(snn: SpikingNetwork, data: Any, limit: int | None) -> list[Any]:
    """Inputs from ``data`` on the network's device, in batches that fit its memory budget.

    Raises:
        ConversionError: no inputs, or ones that the network does not take.
    """
    batches = input_batches(data, limit, placement(snn)[0], name="the data", reader=Reader(snn.signature))
    return [x for batch in batches for x in snn.slices(batch)]


def placement(module: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and floating dtype of a network's weights (``None`` where it has none).

    >>> placement(nn.Linear(1, 1))
    (device(type='cpu'), torch.float32)
    """
    tensors = [*module.parameters(), *module.buffers()]
    floating = [t for t in tensors if t.is_floating_point()]
    return (tensors[0].device if tensors else None), (floating[0].dtype if floating else None)
