"""Where neurons stand in a network: at its activations, or in front of every layer and every product too."""

from __future__ import annotations

from dataclasses import dataclass

from snnconv.graph.error import ConversionError
from snnconv.graph.sites import Wanted, rectifying

__all__ = ["COVERS", "NORMALISED", "RELUS", "SIGNED", "Cover"]

COVERS = ("activations", "synapses")
SIGNED = ("refuse", "pair")
NORMALISED = ("function", "ladder")


@dataclass(frozen=True)
class Cover:
    """Where neurons stand.

    Attributes:
        where: ``"activations"``, or ``"synapses"``: every layer with weights after the first and both operands of every
            product read spikes, those of an activation or of an encoder in front of them.
        encode_input: with ``"synapses"``: the first layers, too.
        signed: what becomes of values of both signs where neurons know no negative spike: ``"refuse"``, or ``"pair"``,
            two populations, of which one says what is below zero.
        normalisation: ``"function"``: a softmax or a normalisation over a vector is evaluated; ``"ladder"``, with
            ``"synapses"``: it is had by codes and ladders.
        wanted: the activations, beside ReLUs, that neurons can stand for.

    Raises:
        ConversionError: an unknown choice.

    >>> Cover("synapses").synapses, RELUS.synapses
    (True, False)
    """

    where: str = "activations"
    encode_input: bool = False
    signed: str = "refuse"
    normalisation: str = "function"
    wanted: Wanted = rectifying

    def __post_init__(self) -> None:
        if self.where not in COVERS:
            raise ConversionError(f"cover must be one of {COVERS}, got {self.where!r}")
        if self.signed not in SIGNED:
            raise ConversionError(f"signed must be one of {SIGNED}, got {self.signed!r}")
        if self.normalisation not in NORMALISED:
            raise ConversionError(f"normalisation must be one of {NORMALISED}, got {self.normalisation!r}")
        if self.ladders and not self.synapses:
            raise ConversionError(
                "normalisation='ladder' sends the codes of softmax and normalisations to what reads spikes: it needs "
                "cover='synapses'"
            )
        if self.encode_input and not self.synapses:
            raise ConversionError(
                "encode_input=True puts neurons in front of the first layers: it needs cover='synapses'"
            )

    @property
    def synapses(self) -> bool:
        """Whether layers and products read spikes alone."""
        return self.where == "synapses"

    @property
    def ladders(self) -> bool:
        """Whether softmax and normalisations are had by ladders."""
        return self.normalisation == "ladder"


RELUS = Cover()
"""ReLUs and the trained activations in their place, and nothing else."""
