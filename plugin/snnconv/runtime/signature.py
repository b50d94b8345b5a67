"""The inputs of a network: arguments of its forward, told apart by name, with what calibration gave them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from snnconv.graph.source import ConversionError
from snnconv.runtime.batch import Batch, batch_of, entries, unbatched, whole_names

__all__ = ["Entry", "Signature"]

PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Entry:
    """One tensor that a network takes.

    Attributes:
        name: of the argument, with the place where the argument holds several: ``pair[0]``.
        shape: of one sample ``[...]``, or of all where there is no batch dimension.
        dtype: as calibration had it.
        floating: whether that is a floating dtype.
        batch: whether dimension 0 is the batch.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    floating: bool
    batch: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "shape": list(self.shape)}


@dataclass(frozen=True)
class Signature:
    """Arguments of a network's forward.

    Attributes:
        parameters: their names in order, ``*`` before one that takes all positional values that are left.
        required: those that calls must give.
        entries: the tensors among them, as calibration had them; empty where there was no calibration.
        constants: arguments that are no tensors, by name; every call has these values.
    """

    parameters: tuple[str, ...]
    required: tuple[str, ...]
    entries: tuple[Entry, ...] = ()
    constants: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, model: nn.Module) -> Signature:
        """The arguments of a module's forward.

        >>> Signature.of(nn.Bilinear(1, 1, 1)).required
        ('input1', 'input2')
        """
        found = [p for p in inspect.signature(model.forward).parameters.values() if p.kind != p.VAR_KEYWORD]
        names = [f"*{p.name}" if p.kind == p.VAR_POSITIONAL else p.name for p in found]
        required = [p.name for p in found if p.default is p.empty and p.kind != p.VAR_POSITIONAL]
        return cls(tuple(names), tuple(required))

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], placeholders: Sequence[str] = ()) -> Signature:
        """The arguments that ``SpikingNetwork.input_spec`` lists; of a file of before, those of its graph."""
        tensors = tuple(Entry(**{**v, "shape": tuple(v["shape"])}) for v in spec.get("inputs", ()))
        if not tensors and spec.get("shape") is not None:
            name = placeholders[0] if placeholders else "x"
            tensors = (Entry(name, tuple(spec["shape"]), str(spec["dtype"]), bool(spec["floating"])),)
        given = list(dict.fromkeys(entry.name.partition("[")[0] for entry in tensors)) or list(placeholders)
        parameters = tuple(spec.get("parameters", ())) or tuple(placeholders) or tuple(given)
        return cls(parameters, tuple(given), tensors, tuple(dict(spec.get("constants", {})).items()))

    def described(self, x: Any) -> dict[str, Any]:
        """What ``input_spec`` says of the inputs, from calibration's first batch."""
        whole = whole_names(x)
        found = [
            Entry(name or self.names[0], tuple(v.shape if name in whole else v.shape[1:]), str(v.dtype).split(".")[1],
                  v.is_floating_point(), name not in whole)
            for name, v in entries(x).items()
        ]  # fmt: skip
        first = next((entry for entry in found if entry.batch), found[0])
        constants = {k: v for k, v in x.values.items() if isinstance(v, PLAIN)} if isinstance(x, Batch) else {}
        return {
            "shape": list(first.shape),
            "dtype": first.dtype,
            "floating": first.floating,
            "inputs": [entry.to_dict() for entry in found],
            "parameters": list(self.parameters),
            "constants": constants,
        }

    @property
    def names(self) -> list[str]:
        """Names of the arguments in order."""
        return [name.lstrip("*") for name in self.parameters] or ["x"]

    @property
    def traced(self) -> tuple[tuple[str, ...], dict[str, Any]]:
        """What tracing needs to know: the arguments that calls give, and those that are constants."""
        names = dict.fromkeys(entry.name.partition("[")[0] for entry in self.entries)
        return tuple(names), dict(self.constants)

    @property
    def one(self) -> bool:
        """Whether the network takes one tensor, as its first argument."""
        if self.entries:
            return len(self.entries) == 1 and self.entries[0].name == self.names[0] and not self.constants
        return len(self.required) <= 1 and self.required in ((), (self.names[0],))

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """One input of values given as to forward: a tensor, or a `Batch` where there are several.

        Raises:
            ConversionError: an argument that is missing, unknown, given twice, or that calibration did not have.
        """
        if len(args) == 1 and not kwargs and isinstance(args[0], Batch):
            return args[0]
        if self.one and len(args) == 1 and not kwargs and not isinstance(args[0], Mapping):
            x = args[0]
            return x[0] if isinstance(x, (tuple, list)) and len(x) == 1 and isinstance(x[0], Tensor) else x
        given = self._named(args, kwargs)
        self._check_names(given)
        if self.one:
            return given[self.names[0]]
        return self._batch(given)

    def _named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        names = self.names
        if len(args) == 1 and not kwargs:
            (value,) = args
            if isinstance(value, Mapping) and set(value) <= {*names, *self.required}:
                args, kwargs = (), value
            elif isinstance(value, (tuple, list)) and len(self.required) != 1:
                args = value
        star = next((i for i, name in enumerate(self.parameters) if name.startswith("*")), None)
        if star is not None and len(args) > star:
            args = (*args[:star], tuple(args[star:]))
        if len(args) > len(names):
            raise ConversionError(f"the network takes {_count(len(names))} ({', '.join(names)}), got {len(args)}")
        given = dict(zip(names, args, strict=False))
        twice = [name for name in kwargs if name in given]
        if twice:
            raise ConversionError(f"input {twice[0]!r} is given twice, by position and by name")
        return {**given, **kwargs}

    def _check_names(self, given: dict[str, Any]) -> None:
        wanted = [*self.required, *(name for name, _ in self.constants)]
        missing = [name for name in self.required if given.get(name) is None]
        if missing:
            shown = ", ".join(self.required)
            raise ConversionError(f"input {missing[0]!r} is missing: this network takes {shown}")
        for name, value in given.items():
            if name in wanted or value is None:
                continue
            if name not in self.names:
                raise ConversionError(f"this network has no input {name!r}; it takes {', '.join(wanted)}")
            if self.entries:
                example = ", ".join(f"{n!r}: ..." for n in (*self.required, name))
                raise ConversionError(
                    f"this network was converted without {name!r}, which kept its default: convert it with calibration "
                    f"inputs that have it, calibration=[{{{example}}}]"
                )
        for name, value in self.constants:
            if given.get(name, value) != value:
                raise ConversionError(
                    f"this network was converted with {name}={value!r} and cannot run with {given[name]!r}: "
                    "convert it once more with that"
                )

    def _batch(self, given: dict[str, Any]) -> Batch:
        known = {entry.name: entry.batch for entry in self.entries}
        values = {**{k: v for k, v in given.items() if v is not None}, **dict(self.constants)}
        order = [name for name in self.names if name in values] + [n for n in values if n not in self.names]
        values = {name: values[name] for name in order}
        whole = {name for name, batch in known.items() if not batch} if known else unbatched(values)
        return batch_of(values, whole)

    def growth(self, x: Any) -> float:
        """How many times as large as calibration's a sample is, where it is larger.

        >>> import torch
        >>> Signature(("x",), ("x",), (Entry("x", (3, 8, 8), "float32", True),)).growth(torch.zeros(1, 3, 16, 16))
        4.0
        """
        if not self.entries or (isinstance(x, Tensor) and tuple(x.shape[1:]) == self.entries[0].shape):
            return 1.0
        known = {entry.name: entry for entry in self.entries}
        before = now = 0
        for name, value in entries(x).items():
            entry = known.get(name, self.entries[0])
            if entry.batch:
                before += math.prod(entry.shape)
                now += math.prod(value.shape[1:])
        return max(1.0, now / before) if before else 1.0

    # ------------------------------------------------------------------ checking values

    def check(self, x: Any, reference: Tensor | None) -> list[str]:
        """Refuse an input that the network cannot take; name those whose dimension 1 is new.

        Args:
            x: what `bind` gave.
            reference: one of the network's tensors: its device and dtype are wanted.

        Raises:
            ConversionError: another shape, dtype or device, with what was wanted.
        """
        found = self._tensors(x)
        sizes = {name: v.shape[0] for name, v in found.items() if v.dim() and name not in whole_names(x)}
        if len(sizes) > 1 and len(set(sizes.values())) > 1:
            shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ConversionError(
                f"the inputs have batches of several sizes ({shown}): dimension 0 is the batch of each"
            )
        known = {entry.name: entry for entry in self.entries}
        if known and not (len(known) == 1 and "" in found) and set(found) != set(known):
            raise ConversionError(
                f"the inputs hold the tensors {', '.join(found)}; this network was converted for {', '.join(known)}"
            )
        new = []
        for name, value in found.items():
            entry = known.get(name) or (self.entries[0] if len(known) == 1 else None)
            if entry is not None:
                _check_shape(value, entry, name)
                if entry.batch and entry.shape and value.shape[1] != entry.shape[0]:
                    new.append(
                        f"wrong input shape {tuple(value.shape)}{_of(name)}: dimension 1 must be {entry.shape[0]}"
                    )
            if reference is not None:
                _check_dtype(value, entry, name, reference)
        return new

    def _tensors(self, x: Any) -> dict[str, Tensor]:
        if isinstance(x, Tensor):
            return {"": x}
        if isinstance(x, Batch):
            return entries(x)
        if isinstance(x, (tuple, list)) and x and all(isinstance(v, Tensor) for v in x) and not self.entries:
            return {}
        wanted = f"the inputs {', '.join(self.required)}" if len(self.required) > 1 else "a tensor [B, ...]"
        raise ConversionError(f"the network takes {wanted}, got {type(x).__name__}")


def _check_shape(value: Tensor, entry: Entry, name: str) -> None:
    if value.dim() != len(entry.shape) + entry.batch:
        shown = ", ".join(map(str, (["B"] if entry.batch else []) + list(entry.shape)))
        recording = entry.batch and value.shape[2:] == entry.shape
        raise ConversionError(
            f"wrong input shape {tuple(value.shape)}{_of(name)}: this network was converted for [{shown}]"
            + ("; a recording [T, B, ...] runs by snn.run_sequence(x_seq), whose observe=... is given the spikes, and "
               "its single frames are x_seq.flatten(0, 1)" if recording else "")
        )  # fmt: skip


def _check_dtype(value: Tensor, entry: Entry | None, name: str, reference: Tensor) -> None:
    if value.device != reference.device:
        what = f"input {name!r}" if name else "the input"
        raise ConversionError(f"{what} is on {value.device}, the network on {reference.device}: move one with .to(...)")
    if entry is not None and value.is_floating_point() != entry.floating:
        raise ConversionError(
            f"wrong input dtype {value.dtype}{_of(name)}: this network was converted for {entry.dtype}"
        )
    if value.is_floating_point() and reference.is_floating_point() and value.dtype != reference.dtype:
        raise ConversionError(
            f"wrong input dtype {value.dtype}{_of(name)}: the network's weights are {reference.dtype}; convert the "
            f"input with .to({reference.dtype})"
        )


def _of(name: str) -> str:
    return f" of {name!r}" if name else ""


def _count(number: int) -> str:
    return "one input" if number == 1 else f"{number} inputs"
