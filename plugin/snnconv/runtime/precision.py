"""What layers that read spikes compute in, and its layers made of the weights and thresholds of the moment."""

from __future__ import annotations

import torch
from torch import Tensor

from snnconv.graph.source import ConversionError
from snnconv.methods.base import Method
from snnconv.runtime.int8 import Int8, supported
from snnconv.runtime.population import Population
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.values import Versions

__all__ = ["PRECISIONS", "check_precision", "int8_layers"]

PRECISIONS = ("float32", "int8")

MOST = 127
"""Levels above zero, with as many below, that a byte holds."""


def check_precision(name: str, program: Program, method: Method) -> None:
    """Refuse a precision that a network does not run in.

    Raises:
        ValueError: an unknown one.
        RuntimeError: ``"int8"`` on a processor without the instructions.
        ConversionError: ``"int8"`` where spikes do not fit, or the network does not trace.
    """
    if name not in PRECISIONS:
        raise ValueError(f"unknown precision {name!r}: choose 'float32' or 'int8'")
    if name != "int8":
        return
    if supported():
        raise RuntimeError(f"precision 'int8' does not run here: {supported()}")
    if not isinstance(program, GraphProgram):
        raise ConversionError("precision 'int8' needs a network that traces; this one runs call by call")
    if method.coding == "sum" and method.timesteps > 8:
        raise ConversionError(f"precision 'int8' holds 8 bits, and T = {method.timesteps}: take T of 8 or less")
    for site, place in program.sites.items():
        record, options = method.neuron_at(place.function)
        if method.coding == "sum" and record.negative(**options) and method.levels > MOST:
            raise ConversionError(
                f"{site}: precision 'int8' holds {MOST} levels of both signs, and T = {method.timesteps} has "
                f"{method.levels}: take T of 7 or less"
            )
    if method.record.amplitudes is not None:
        raise ConversionError(
            f"precision 'int8' takes spikes of one size; those of {method.neuron!r} neurons have several"
        )


def int8_layers(program: Program, population: Population) -> Int8:
    """The layers that run in 8 bits: made where they are not there yet, or of what has changed since."""
    assert isinstance(program, GraphProgram)
    executor = program.executor
    sources = [*(population.neurons[name].v_threshold for name in population.neurons), *program.source.tensors.values()]
    if executor.int8 is None or not executor.int8.made_of.unchanged(sources):
        executor.int8 = _made(program, population, sources)
    return executor.int8


def _made(program: GraphProgram, population: Population, sources: list[Tensor]) -> Int8:
    if any(tensor.device.type != "cpu" for tensor in sources):
        raise ConversionError("precision 'int8' runs on the CPU: move the network there with .cpu()")
    made_of = Versions(sources)
    amplitudes, lowest = {}, {}
    for name in population.neurons:
        scan = population.method.scan_arguments(population.neurons[name])
        worth = population.threshold(name) if scan is None else torch.as_tensor(scan["v_threshold"])
        amplitudes[name] = worth if scan is None or scan["scaled"] else torch.ones_like(worth)
        record, options = population.method.neuron_at(program.sites[name].function)
        least = -population.method.levels if population.method.coding == "sum" else -1
        lowest[name] = least if record.negative(**options) else 0
    return Int8(program.source, amplitudes, lowest, made_of)
