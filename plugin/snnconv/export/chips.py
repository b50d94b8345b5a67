"""Chips of convolution cores: what their makers publish of them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CHIPS", "Chip", "register_chip"]


@dataclass(frozen=True, kw_only=True)
class Chip:
    """What a chip of convolution cores can hold; each core is a convolution, its neurons, and a sum pooling.

    Attributes:
        name: the word for it.
        source: where its maker publishes these limits.
        kernel_memory: of each core, in weights.
        neuron_memory: of each core, in neurons.
        bias_memory: of each core, in biases.
        largest_input: height and width of what a core reads.
        largest_map: height and width of what its neurons form.
        channels: most channels of either.
        kernel: largest kernel.
        strides: strides that there are.
        padding: largest padding.
        pooling: sum-pooling windows that there are.
        fan_out: cores that one core may send to.
        weight_bits: of a weight.
        neuron_bits: of a membrane.
        neurons: names of the neurons that its own are.
    """

    name: str
    source: str
    kernel_memory: tuple[int, ...]
    neuron_memory: tuple[int, ...]
    bias_memory: tuple[int, ...]
    largest_input: int
    largest_map: int
    channels: int
    kernel: int
    strides: tuple[int, ...]
    padding: int
    pooling: tuple[int, ...]
    fan_out: int
    weight_bits: int
    neuron_bits: int
    neurons: tuple[str, ...] = ("if",)


CHIPS: dict[str, Chip] = {}
"""Every known chip by its name."""


def register_chip(chip: Chip) -> Chip:
    """Make a chip known by its name; returns it.

    Raises:
        ValueError: another chip has this name.
    """
    if CHIPS.get(chip.name, chip) != chip:
        raise ValueError(f"there is a chip {chip.name!r} already: choose another name")
    CHIPS[chip.name] = chip
    return chip


_KI = 1024
register_chip(
    Chip(
        name="speck2f",
        source="SynSense, sinabs 3: docs/speck/overview.md (limits), backend/dynapcnn/chips/dynapcnn.py (memories)",
        kernel_memory=tuple(n * _KI for n in (16, 16, 16, 32, 32, 64, 64, 16, 16)),
        neuron_memory=tuple(n * _KI for n in (64, 64, 64, 32, 32, 16, 16, 16, 16)),
        bias_memory=(_KI,) * 9,
        largest_input=128,
        largest_map=64,
        channels=1024,
        kernel=16,
        strides=(1, 2, 4, 8),
        padding=7,
        pooling=(1, 2, 4),
        fan_out=2,
        weight_bits=8,
        neuron_bits=16,
    )
)
