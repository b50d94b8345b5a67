"""What a conversion refuses before any work is done: arguments that do not go together, networks that cannot spike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from snnconv.graph.source import ConversionError, Site
from snnconv.graph.unwrap import refuse
from snnconv.methods import corrections
from snnconv.methods.base import Method
from snnconv.network import SpikingNetwork
from snnconv.neurons.frameworks import FRAMEWORKS, neuron_class
from snnconv.runtime.sequence import INPUTS, check_follows

__all__ = ["check_arguments", "check_input", "check_normalisation", "check_sites"]


def check_arguments(model: Any, method: Any, framework: str) -> None:
    """Refuse a network, a method or a framework that :func:`snnconv.convert` cannot take.

    Raises:
        ConversionError: a network that is converted already, exported or quantised; an unknown framework.
        TypeError: no method.
        ImportError: a framework that is not installed.
    """
    if isinstance(model, SpikingNetwork):
        raise ConversionError("this network is already converted; convert the network it was made from")
    refuse(model)
    if isinstance(method, type) and issubclass(method, Method):
        raise TypeError(f"give an instance, methods.{method.__name__}(timesteps=...), not the class")
    if not isinstance(method, Method):
        raise TypeError(f"method must be one of snnconv.methods, got {type(method).__name__}")
    if framework not in FRAMEWORKS:
        raise ConversionError(f"framework must be one of {tuple(FRAMEWORKS)}, got {framework!r}")
    neuron_class(method.neuron, framework)  # says what to install before any work is done


def check_input(input: str, method: Method) -> bool:
    """Whether calls will take sequences.

    Raises:
        ConversionError: a method that cannot follow one, with the reason.
        ValueError: neither ``"constant"`` nor ``"sequence"``.
    """
    if input not in INPUTS:
        raise ValueError(f"input must be one of {INPUTS}, got {input!r}")
    if input == "sequence":
        check_follows(method, method.delay_)
    return input == "sequence"


def check_normalisation(normalisation: str, method: Method) -> None:
    """Refuse ladders of rows where values are no sums of weighted spikes.

    Raises:
        ConversionError: with what to use instead.
    """
    if normalisation == "ladder" and method.coding != "sum":
        codes = "by rates" if method.coding == "rate" else "differences"
        raise ConversionError(
            "normalisation='ladder' sends the bits of a row's values once they are whole, and "
            f"methods.{type(method).__name__} codes {codes}, step by step: use methods.ShiftedThreshold, or "
            "normalisation='function'"
        )


def check_sites(model: nn.Module, method: Method, sites: Mapping[str, Site], calibrated: bool) -> None:
    """Refuse a network without activations that can spike, and activations that a method does not take.

    ``calibrated``: whether there is calibration data.

    Raises:
        ConversionError: with the activation's name.
    """
    if not sites:
        kinds = sorted({type(m).__name__ for m in model.modules() if "activation" in type(m).__module__})
        raise ConversionError(
            f"this network has no activation that methods.{type(method).__name__} has neurons for, so nothing can spike"
            + (f"; it has {', '.join(kinds)}" if kinds else "")
            + ": methods.SignedIF and methods.ShiftedThreshold take every activation that turns at known places, and "
            "with cover='synapses' layers read spikes whatever the activations are"
        )
    fits = corrections.get(method.correction).fits_quantiser
    if fits and any(method.at(name).thresholds == "trained" for name in sites):
        raise ConversionError(
            f"correction={method.correction!r} changes thresholds, and thresholds='trained' keeps them: "
            "use correction='bias' or 'none'"
        )
    for name, site in sites.items():
        trained = method.at(name).thresholds == "trained"
        if site.function.encodes:
            if trained and not calibrated:
                raise ConversionError(
                    f"{name}: an encoder has no trained threshold: give calibration data with thresholds='trained', too"
                )
            continue
        if trained and site.threshold is None:
            raise ConversionError(
                f"{name}: thresholds='trained' needs an activations.RateNorm or QuantReLU layer here, found a ReLU; "
                "use thresholds='mse' with calibration data"
            )
        if method.converts is not None and site.kind not in method.converts:
            wanted = " and ".join(sorted(method.converts))
            raise ConversionError(f"{name}: methods.{type(method).__name__} converts {wanted}, found {site.kind}")
        try:
            method.at(name).neuron_at(site.function)
        except ValueError as error:
            raise ConversionError(f"{name}: {error}") from None
        if site.function.unit and (not trained or method.coding != "rate"):
            raise ConversionError(
                f"{name}: a rate norm layer's output is normalised by its own threshold; convert it with "
                "methods.RateNorm, or IF, SignedIF or SRP with thresholds='trained'"
            )
