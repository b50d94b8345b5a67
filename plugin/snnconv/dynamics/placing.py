"""Which neuron stands where a function of the input is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .function import REALISATIONS, Function
from .neuron import NEURONS, Neuron, get

__all__ = ["LADDER_BITS", "at_function", "default_realisation"]

LADDER_BITS = 12
"""Of the ladders that are taken by themselves: with 16 bits a layer has tens of millions of thresholds to find."""


def default_realisation(neuron: Neuron, bits: int) -> str | None:
    """The realisation of a function that is taken where none is asked for; None: the neuron's own first.

    >>> from snnconv.dynamics.neuron import get
    >>> default_realisation(get("shifted_threshold"), 16), default_realisation(get("shifted_threshold"), 8)
    ('function', None)
    """
    return "function" if bits > LADDER_BITS and "function" in neuron.functions else None


def at_function(
    neuron: Neuron, function: Function, realisation: str | None = None, **options: Any
) -> tuple[Neuron, dict[str, Any]]:
    """The neuron, with its settings, that stands in for one where the function of the input is ``function``.

    A clip from 0 (ReLU) is what every neuron computes; the identity takes one that can be set to values of both signs;
    for other functions another neuron stands in.

    Args:
        neuron: what the method has.
        realisation: ``"ladder"`` or ``"function"``; None: the neuron's own first.
        options: the neuron's settings.

    Raises:
        ValueError: the neuron has none for this function, with the reason.

    Example:
        >>> from snnconv.dynamics.neuron import get
        >>> class Square:
        ...     extrema, signed, linear = (0.0,), False, False
        ...     def __call__(self, z, axis=1):
        ...         return z * z
        >>> record, settings = at_function(get("shifted_threshold"), Square(), "function", timesteps=4)
        >>> record.name, settings["signed"], settings["timesteps"]
        ('shifted_threshold', False, 4)
        >>> at_function(get("srp"), Square())
        Traceback (most recent call last):
        ...
        ValueError: neuron 'srp' computes clips from 0 alone; 'if' and ... take other functions
    """
    if realisation is not None and realisation not in REALISATIONS:
        raise ValueError(f"realisation must be one of {REALISATIONS}, got {realisation!r}")
    if function.linear and not function.signed:
        return neuron, dict(options)
    if function.linear:
        if neuron.both_signs is None:
            raise ValueError(
                f"neuron {neuron.name!r} knows no values below 0; {_known(lambda n: n.both_signs is not None)} take "
                "both signs"
            )
        return neuron, {**options, **neuron.both_signs}
    if not neuron.functions:
        raise ValueError(
            f"neuron {neuron.name!r} computes clips from 0 alone; {_known(lambda n: bool(n.functions))} take other "
            "functions"
        )
    if realisation is not None and realisation not in neuron.functions:
        raise ValueError(
            f"neuron {neuron.name!r} has no {realisation!r} of a function; it has {' and '.join(neuron.functions)}"
        )
    name, fixed = neuron.functions[realisation or next(iter(neuron.functions))]
    if function.signed and neuron.both_signs is None:
        raise ValueError(
            f"neuron {neuron.name!r} knows no values below 0, and the function has some; "
            f"{_known(lambda n: n.both_signs is not None and bool(n.functions))} take both signs"
        )
    found = get(name)
    own = {option.name for option in found.options}
    shared = {key: value for key, value in options.items() if key in own}
    return found, {**shared, **fixed, "function": function, "signed": function.signed}


def _known(which: Callable[[Neuron], bool]) -> str:
    return " and ".join(repr(name) for name, neuron in NEURONS.items() if which(neuron)) or "no neuron"
