"""The record of an operator: what the project knows of it, and its arguments by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from snnconv.graph.activation import Activation
from snnconv.graph.axes import Rule

__all__ = ["KINDS", "ROLES", "Arguments", "Contracted", "Operator", "Varies"]

KINDS = ("linear", "affine", "homogeneous", "nonlinear", "shape")
ROLES = ("move", "sum", "scale", "choose", "other")

Arguments = Mapping[str, Any]
Varies = Callable[[Any], bool]
Contracted = tuple[int, ...] | None
"""Axes of an operand that a product adds along."""


@dataclass(frozen=True, eq=False)
class Operator:
    """All that the project knows of one operator, in each of its spellings.

    Attributes:
        name: of one that is no function of PyTorch: how a file calls it (``mine.scale_shift``).
        functions: the callables that are this operator.
        methods: the tensor methods that are.
        parameters: names of the positional arguments, in order; a last one ``*name`` takes the rest.
        kind: ``linear``, ``affine``, ``homogeneous``, ``nonlinear``, ``shape`` (asks for a shape, not for values), or a
            function of the arguments by name, and of what says whether an argument depends on the network's input.
        role: what it does to spikes where it is linear: ``move`` (changes their place), ``sum`` (adds or averages
            them), ``scale`` (multiplies them by a constant), ``choose`` (picks among them), ``other``; or a function
            of the arguments.
        batch: whether a call moves, cuts, joins or reduces dimension 0, by the arguments and the number of dimensions;
            ``None`` where none does.
        channels: where the channels of the result stand, by where those of the inputs do and by the arguments: a rule
            of :mod:`snnconv.graph.axes`; ``None`` where they are lost.
        synapse: ``conv``, ``conv_transpose`` or ``linear`` of a layer with weights.
        product: by the arguments, the operands whose product a call is, by name, each with the axes along which the
            product adds (``None``: not known); a layer with weights is one where these are computed.
        activation: whether a reader of a report would call it an activation or a normalisation.
        computes: the activation kind that a call is, by its arguments (weights as tensors); ``None`` where it is none.
        twins: those of ``functions`` that write their result over the first argument (a method ``name_`` does), each
            with the one that does not.
        ladder: of a part of a normalisation by ladders, which: ``softmax``, ``layer_norm`` ..., or ``scale`` of what
            only scales rows; such a call evaluates no function and is not analog.
        codes: whether what it gives are spikes: whole numbers of one step.
        phases: how often the T steps of its codes follow one another: until its result is there.
    """

    functions: tuple[Callable[..., Any], ...] = ()
    methods: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ("input",)
    kind: str | Callable[[Arguments, Varies], str] = "nonlinear"
    role: str | Callable[[Arguments], str] = "other"
    batch: Callable[[Arguments, int], bool] | None = None
    channels: Rule | None = None
    synapse: str = ""
    product: Callable[[Arguments], Mapping[str, Contracted]] | None = None
    activation: bool = False
    computes: Callable[[Arguments], Activation | None] | None = None
    twins: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = ()
    name: str = ""
    ladder: str = ""
    codes: bool = False
    phases: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.kind, str) and self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS} or a function, got {self.kind!r}")
        if isinstance(self.role, str) and self.role not in ROLES:
            raise ValueError(f"role must be one of {ROLES} or a function, got {self.role!r}")

    def bind(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """A call's arguments by name, whatever way they were given.

        >>> Operator(parameters=("input", "weight", "bias", "stride")).bind(("x", "w"), {"stride": 2})
        {'input': 'x', 'weight': 'w', 'stride': 2}
        """
        *fixed, last = self.parameters
        args = tuple(args)
        if not last.startswith("*"):
            found = dict(zip(self.parameters, args, strict=False))
        else:
            found = dict(zip(fixed, args, strict=False))
            rest = args[len(fixed) :]
            if rest:
                alone = len(rest) == 1 and isinstance(rest[0], (tuple, list))
                found[last[1:]] = tuple(rest[0]) if alone else rest
        for key, value in kwargs.items():
            found[self.spelled(key)] = value
        return found

    def spelled(self, key: str) -> str:
        """The parameter that a keyword means (``axis`` is ``dim``).

        >>> Operator(parameters=("input", "dim")).spelled("axis")
        'dim'
        """
        names = [p.lstrip("*") for p in self.parameters]
        if key in names:
            return key
        group = next((g for g in _ALIASES if key in g), ())
        return next((n for n in names if n in group), key)


_ALIASES = (
    {"input", "self", "x", "tensor", "tensors"}, {"dim", "dims", "axis", "axes"}, {"other", "mat2", "tensor2", "x2"},
    {"size", "sizes", "shape", "repeats"}, {"keepdim", "keepdims"}, {"min", "min_val"}, {"max", "max_val"},
)  # fmt: skip
"""Spellings of one parameter."""
