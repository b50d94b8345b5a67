"""Activation kinds: what stands at a site of a network, as records in a table that users can extend.

A kind is a frozen dataclass whose fields are its parameters and whose method ``f`` is the function itself. What is
registered is found when a network is captured, named in its report, written to its file and read from it.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from snnconv.graph.error import ConversionError

__all__ = [
    "Activation", "Clip", "Quantised", "QuantisedFunction", "QuantisedSigned", "RateNorm", "ReLU", "activated",
    "activation_site", "broadcast", "called", "get", "leaf_functions", "leaf_module", "register_activation",
]  # fmt: skip


def broadcast(values: Tensor, ndim: int, axis: int) -> Tensor:
    """Reshape one value per channel so that it broadcasts against a tensor of ``ndim`` dimensions on ``axis``.

    >>> broadcast(torch.ones(3), 4, 1).shape
    torch.Size([1, 3, 1, 1])
    """
    if values.dim() == 0 or values.numel() == 1:
        return values.reshape(())
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)


# --- kinds -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activation(ABC):
    """An activation y = f(z), element by element; its fields are its parameters.

    Attributes:
        name: of the kind, unique; it stands in reports and files.
        extrema: where f turns between rising and falling, in order; empty for one that rises everywhere. ``None``: not
            said, so that no neuron can stand for it and it stays analog.
        bounds: infimum and supremum of f over all z.
        linear: whether f is the identity but for a clip that the neuron's spikes are: from below at 0 where it is not
            ``signed``, and at the threshold. Every neuron is one that is not signed; other functions stand at neurons
            that have them.
        encodes: whether it is an encoder's, which stands for no activation of the network.
        unit: whether its output is measured in its own threshold, so that a spike is 1 and not θ.

    A field ``threshold`` (in units of the input, scalar or one value a channel), ``levels`` (above zero) or ``cap``
    (an upper clip, in units of the output) is what a :class:`~snnconv.graph.source.Site` says of itself.

    >>> ReLU(cap=6.0)(torch.tensor([-1.0, 7.0]))
    tensor([0., 6.])
    """

    name: ClassVar[str] = ""
    extrema: ClassVar[tuple[float, ...] | None] = None
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    linear: ClassVar[bool] = False
    encodes: ClassVar[bool] = False
    unit: ClassVar[bool] = False

    @abstractmethod
    def f(self, z: Tensor) -> Tensor:
        """The function; parameters that are tensors broadcast against ``z``."""

    def __call__(self, z: Tensor, axis: int = 1) -> Tensor:
        """f(z) with one value of each parameter a channel, on ``axis``."""
        tensors = {name: broadcast(value.to(z), z.dim(), axis) for name, value in self.tensors().items()}
        return (replace(self, **tensors) if tensors else self).f(z)

    @property
    def signed(self) -> bool:
        """Whether f takes values below zero.

        >>> ReLU().signed
        False
        """
        return self.bounds[0] < 0

    @property
    def rectifies(self) -> bool:
        """Whether it is a ReLU, or a trained activation in place of one: what every method's neurons compute.

        >>> ReLU().rectifies
        True
        """
        return self.linear and not self.signed

    def range(self, low: float, high: float) -> tuple[float, float]:
        """Smallest and largest value of f between ``low`` and ``high``.

        >>> ReLU().range(-2.0, 3.0)
        (0.0, 3.0)
        """
        ends = [low, *(z for z in self.extrema or () if low < z < high), high]
        values = self(torch.tensor(ends, dtype=torch.float64))
        return float(values.min()), float(values.max())

    def tensors(self) -> dict[str, Tensor]:
        """Parameters that are tensors, by name."""
        return {k: v for k, v in self._parameters() if isinstance(v, Tensor)}

    def to(self, device: torch.device | str) -> Self:
        """Copy with its tensors on a device."""
        return replace(self, **{name: value.to(device) for name, value in self.tensors().items()})

    def to_dict(self) -> dict[str, Any]:
        """Name and plain parameters; with :meth:`tensors` all that :meth:`from_dict` needs.

        >>> ReLU(cap=6.0).to_dict()
        {'kind': 'relu', 'cap': 6.0}
        """
        return {"kind": self.name} | {k: v for k, v in self._parameters() if v is not None and not torch.is_tensor(v)}

    @staticmethod
    def from_dict(values: dict[str, Any], tensors: dict[str, Tensor] | None = None) -> Activation:
        """Activation from what :meth:`to_dict` and :meth:`tensors` give.

        Raises:
            ConversionError: a kind that is not registered, or parameters that it does not take.

        >>> Activation.from_dict({"kind": "relu", "cap": 6.0})
        ReLU(cap=6.0)
        """
        given = {k: v for k, v in values.items() if k != "kind"} | (tensors or {})
        kind = get(str(values.get("kind")))
        known = {field.name for field in fields(kind)}
        given = {k: v for k, v in given.items() if k in known or v is not None}
        try:
            return kind(**given)
        except TypeError as error:
            raise ConversionError(f"activation kind {kind.name!r}: {error}") from error

    def _parameters(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in _names(type(self))]


@functools.cache
def _names(kind: type[Activation]) -> tuple[str, ...]:
    """What a kind of activation takes."""
    return tuple(field.name for field in fields(kind))


_KINDS: dict[str, type[Activation]] = {}
_OF_FUNCTION: dict[Callable[..., Any], Callable[..., Activation]] = {}
_OF_MODULE: dict[type[nn.Module], Callable[[Any], Activation]] = {}


def register_activation(
    kind: type[Activation],
    functions: dict[Callable[..., Any], Callable[..., Activation]] | None = None,
    modules: dict[type[nn.Module], Callable[[Any], Activation]] | None = None,
) -> type[Activation]:
    """Add an activation kind to the table.

    Args:
        kind: a frozen dataclass derived from :class:`Activation`.
        functions: functions of one's own that are this activation: each with what makes the kind of the arguments
            behind the first. Capture keeps their calls whole.
        modules: classes of modules that are this activation: each with what makes the kind of the module.

    Returns:
        ``kind``.

    Raises:
        TypeError: no :class:`Activation` with a name.
        ValueError: a name that another kind has.

    >>> @dataclass(frozen=True)
    ... class Cube(Activation):
    ...     name = "cube"
    ...     def f(self, z):
    ...         return z**3
    >>> get(register_activation(Cube).name) is Cube
    True
    """
    if not (isinstance(kind, type) and issubclass(kind, Activation) and kind.name):
        raise TypeError(f"an activation kind is a dataclass derived from Activation with a name, got {kind!r}")
    known = _KINDS.get(kind.name)
    if known is not None and (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(f"there is an activation kind {kind.name!r} already: {known.__module__}.{known.__qualname__}")
    _KINDS[kind.name] = kind
    _OF_FUNCTION.update(functions or {})
    _OF_MODULE.update(modules or {})
    return kind


def get(name: str) -> type[Activation]:
    """The kind of a name.

    Raises:
        ConversionError: there is none; the message lists those that are.

    >>> get("relu")
    <class 'snnconv.graph.activation.ReLU'>
    >>> get("quadrelu")
    Traceback (most recent call last):
    snnconv.graph.error.ConversionError: unknown activation kind 'quadrelu'; known: ...
    """
    if name not in _KINDS:
        raise ConversionError(
            f"unknown activation kind {name!r}; known: {', '.join(sorted(_KINDS))}; register_activation adds one"
        )
    return _KINDS[name]


def called(function: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Activation | None:
    """The kind that a call of a registered function stands for; ``args`` without the first, its input.

    >>> called(torch.relu) is None
    True
    """
    make = _OF_FUNCTION.get(function) if callable(function) else None
    return None if make is None else make(*args, **(kwargs or {}))


def leaf_functions() -> Iterable[Callable[..., Any]]:
    """Functions of users' own that capture keeps whole."""
    return tuple(_OF_FUNCTION)


def leaf_module(module: nn.Module) -> Activation | None:
    """The kind that a module of a registered class stands for.

    >>> leaf_module(nn.ReLU()) is None
    True
    """
    make = next((_OF_MODULE[c] for c in type(module).__mro__ if c in _OF_MODULE), None)
    return None if make is None else make(module)


def activated(x: Tensor, kind: str, **parameters: Any) -> Tensor:
    """An activation of the table as an operator of a graph.

    >>> activated(torch.tensor([-1.0, 7.0]), "relu", cap=6.0)
    tensor([0., 6.])
    """
    return Activation.from_dict({"kind": kind, **parameters})(x)


def activation_site(x: Tensor, site: str) -> Tensor:
    """Marks the place of an activation in a source graph; executors decide what stands there.

    >>> activation_site(torch.tensor([-1.0, 2.0]), "relu")
    tensor([0., 2.])
    """
    return torch.relu(x)


@dataclass(frozen=True)
class ReLU(Activation):
    """max(z, 0), or min(max(z, 0), ``cap``): ReLU6, clamps."""

    name = "relu"
    extrema = ()
    bounds = (0.0, math.inf)
    linear = True

    cap: float | None = None

    def f(self, z: Tensor) -> Tensor:
        return z.clamp(min=0) if self.cap is None else z.clamp(0, self.cap)


@dataclass(frozen=True, eq=False)
class Quantised(Activation):
    """clip(⌊zL/θ + 1/2⌋, 0, L)·θ/L: a quantised activation with its trained clip θ."""

    name = "quant"
    extrema = ()
    bounds = (0.0, math.inf)
    linear = True

    threshold: Tensor
    levels: int

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, Tensor):  # as a graph's argument holds it
            object.__setattr__(self, "threshold", torch.tensor(float(self.threshold)))

    def f(self, z: Tensor) -> Tensor:
        return (torch.floor(z * self.levels / self.threshold + 0.5) / self.levels).clamp(0, 1) * self.threshold


@dataclass(frozen=True, eq=False)
class QuantisedSigned(Quantised):
    """clip(⌊zL/θ + 1/2⌋, −L, L)·θ/L: quantised values of both signs with their trained clip θ."""

    name = "quant_signed"
    bounds = (-math.inf, math.inf)

    def f(self, z: Tensor) -> Tensor:
        return (torch.floor(z * self.levels / self.threshold + 0.5) / self.levels).clamp(-1, 1) * self.threshold


@dataclass(frozen=True, eq=False)
class QuantisedFunction(Activation):
    """clip(⌊f(z)L/θ + 1/2⌋, −L or 0, L)·θ/L: an activation of another kind, quantised with its trained clip θ.

    ``of``: the other kind and its parameters, tensors as lists: :meth:`of_function` writes it.
    """

    name = "quant_function"

    threshold: Tensor
    levels: int
    of: dict[str, Any]

    def __post_init__(self) -> None:
        try:
            inside = self.function
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConversionError(f"a quantised function of {str(self.of)[:80]}: {error}") from error
        if inside.linear:
            raise ConversionError(
                f"a quantised function of {inside.name}, which is no function but the quantiser itself"
            )

    @staticmethod
    def of_function(function: Activation) -> dict[str, Any]:
        """A kind as plain values."""
        return function.to_dict() | {name: value.tolist() for name, value in function.tensors().items()}

    @functools.cached_property
    def function(self) -> Activation:
        """f."""
        lists = {name: torch.tensor(value) for name, value in self.of.items() if isinstance(value, list)}
        return Activation.from_dict({k: v for k, v in self.of.items() if k not in lists}, lists)

    @property
    def extrema(self) -> tuple[float, ...] | None:  # type: ignore[override]
        return self.function.extrema

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        return self.function.bounds

    def __call__(self, z: Tensor, axis: int = 1) -> Tensor:
        theta = broadcast(self.threshold.to(z), z.dim(), axis)
        codes = torch.floor(self.function(z, axis) * self.levels / theta + 0.5)
        return codes.clamp(-self.levels if self.signed else 0, self.levels) / self.levels * theta

    def f(self, z: Tensor) -> Tensor:
        return self(z)


@dataclass(frozen=True, eq=False)
class RateNorm(Activation):
    """clip(z/θ, 0, 1): a rate norm layer, in units of its own threshold θ = p·r."""

    name = "rate_norm"
    extrema = ()
    bounds = (0.0, math.inf)
    linear = True
    unit = True

    threshold: Tensor

    def f(self, z: Tensor) -> Tensor:
        return (z / self.threshold).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Clip(Activation):
    """clip(z, 0, θ): a rate norm layer in units of its input."""

    name = "clip"
    extrema = ()
    bounds = (0.0, math.inf)
    linear = True

    threshold: Tensor

    def f(self, z: Tensor) -> Tensor:
        return torch.minimum(z.clamp(min=0), self.threshold)


for _kind in (ReLU, Quantised, QuantisedSigned, QuantisedFunction, RateNorm, Clip):
    register_activation(_kind)
