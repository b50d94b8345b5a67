"""Where neurons stand in a network: at its activations, or in front of every layer and every product too."""

from __future__ import annotations

from dataclasses import dataclass

from snnconv.graph.error import ConversionError
from snnconv.graph.sites import Wanted, rectifying

__all__ = ["COVERS", "RELUS", "SIGNED", "Cover"]

COVERS = ("activations", "synapses")
SIGNED = ("refuse", "pair")


@dataclass(frozen=True)
class Cover:
    """Where neurons stand.

    Attributes:
        where: ``"activations"``, or ``"synapses"``: every layer with weights after the first and both operands of every
            product read spikes, those of an activation or of an encoder in front of them.
        encode_input: with ``"synapses"``: the first layers, too.
        signed: what becomes of values of both signs where neurons know no negative spike: ``"refuse"``, or ``"pair"``,
            two populations, of which one says what is below zero.
        wanted: the activations, beside ReLUs, that neurons can stand for.

    Raises:
        ConversionError: an unknown choice.

    >>> Cover("synapses").synapses, RELUS.synapses
    (True, False)
    """

    where: str = "activations"
    encode_input: bool = False
    signed: str = "refuse"
    wanted: Wanted = rectifying

    def __post_init__(self) -> None:
        if self.where not in COVERS:
            raise ConversionError(f"cover must be one of {COVERS}, got {self.where!r}")
        if self.signed not in SIGNED:
            raise ConversionError(f"signed must be one of {SIGNED}, got {self.signed!r}")
        if self.encode_input and not self.synapses:
            raise ConversionError(
                "encode_input=True puts neurons in front of the first layers: it needs cover='synapses'"
            )

    @property
    def synapses(self) -> bool:
        """Whether layers and products read spikes alone."""
        return self.where == "synapses"


RELUS = Cover()
"""ReLUs and the trained activations in their place, and nothing else."""
