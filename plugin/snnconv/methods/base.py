"""What all methods have in common, and the table of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from snnconv import limits
from snnconv.dynamics import neuron as neurons
from snnconv.dynamics.function import REALISATIONS
from snnconv.dynamics.placing import at_function, default_realisation
from snnconv.graph.activation import Activation
from snnconv.methods import corrections
from snnconv.methods.statistics import STATISTICS
from snnconv.neurons.frameworks import FRAMEWORKS, neuron_class
from snnconv.neurons.frameworks import neuron as make_neuron
from snnconv.tables import add, named

__all__ = ["METHODS", "Method", "get", "register"]

Delay = Literal["auto"] | int | None
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class Method:
    """Base of the conversion methods: frozen dataclasses, known by their name once they are registered (`register`).

    A method of one's own names its neuron (`snnconv.dynamics.neuron`), and says what else differs from this base:

    >>> from dataclasses import dataclass
    >>> from snnconv import methods
    >>> @methods.register
    ... @dataclass(frozen=True)
    ... class Percentile(methods.IF):
    ...     name = "percentile"
    ...     thresholds: str = "99.9%"
    >>> methods.get("percentile")(timesteps=8).to_dict()["thresholds"]
    '99.9%'
    >>> del methods.METHODS["percentile"]

    Attributes:
        name: the word for it, in files and on the command line (with hyphens).
        neuron: name of its neuron.
        converts: kinds of activation that it converts; None: every kind there is a neuron for.
        refused_thresholds: where thresholds must not come from, each with the reason.
        timesteps: T, steps that are read out.
        thresholds: where thresholds come from: ``"mse"`` (least squared quantisation error), ``"max"``, a percentile
            such as ``"99.9%"``, one of your own (`snnconv.methods.statistics`), ``"ltb"`` (local threshold balancing),
            ``"trained"`` (the network's own rate norm layers or quantised activations).
        per_channel: one threshold per channel, or one per site.
        correction: what follows the thresholds: ``"none"``; ``"bias"`` shifts each channel's bias by the mean error
            that is left when the converted network feeds itself; ``"reconstruct"`` adjusts weights, biases and
            thresholds so that the converted network's outputs match the source network's on the calibration images
            (no labels); or one of your own (`snnconv.methods.corrections`).
        max_pool: a max-pooling acts on currents ``"accumulated"`` so far, or ``"instantaneous"`` ones.
        layers: what is different at single sites, by their names: fields of the method, each with its value there
            (``overrides`` of :func:`snnconv.convert` makes it).
        realisation: of activations other than clips at their neurons: ``"ladder"``, comparisons of the input with
            thresholds; ``"function"``, the function is evaluated; None: ladders of up to 12 bits in sum coding.
    """

    name: ClassVar[str] = ""
    neuron: ClassVar[str] = ""
    converts: ClassVar[frozenset[str] | None] = None
    refused_thresholds: ClassVar[dict[str, str]] = {}

    timesteps: int
    thresholds: str = field(default="mse", kw_only=True)
    per_channel: bool = field(default=True, kw_only=True)
    correction: str = field(default="bias", kw_only=True, metadata={"known": corrections.CORRECTIONS})
    max_pool: Literal["accumulated", "instantaneous"] = field(default="accumulated", kw_only=True)
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, kw_only=True, repr=False, hash=False)
    realisation: Literal["ladder", "function"] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._whole("timesteps", 1)
        self._bounded("timesteps")
        try:
            corrections.get(self.correction)
        except ValueError as error:
            raise ValueError(f"{self._label}: {error}") from None
        self._one_of("max_pool", ("accumulated", "instantaneous"))
        self._one_of("realisation", (None, *REALISATIONS))
        if not isinstance(self.per_channel, bool):
            raise TypeError(f"{self._label}: per_channel must be True or False, got {self.per_channel!r}")
        if self.thresholds in self.refused_thresholds:
            raise ValueError(
                f"{self._label}: thresholds={self.thresholds!r} makes no sense: "
                f"{self.refused_thresholds[self.thresholds]}"
            )
        self.percent  # noqa: B018 - validates the percentile
        for site in self.layers:
            self._check_layer(site)

    @classmethod
    def choices(cls) -> list[Field[Any]]:
        """The fields that are set for the whole network, by plain values.

        >>> from snnconv import methods
        >>> [field.name for field in methods.ShiftedThreshold.choices()][:2]
        ['timesteps', 'thresholds']
        """
        return [field for field in fields(cls) if field.init and field.name != "layers"]

    # ------------------------------------------------------------------ what a method answers

    @property
    def record(self) -> neurons.Neuron:
        """The record of this method's neuron.

        Raises:
            ValueError: it is not registered; the message lists those that are.
        """
        return neurons.get(self.neuron)

    @property
    def coding(self) -> str:
        """``"rate"``, ``"sum"`` or ``"differential"``, as its neuron codes."""
        return self.record.coding

    def at(self, site: str) -> Method:
        """This method as it is at one site.

        >>> from snnconv import methods
        >>> mixed = methods.ShiftedThreshold(4, layers={"relu": {"timesteps": 3}})
        >>> mixed.at("relu").levels, mixed.at("other").levels
        (7, 15)
        """
        changes = self.layers.get(site)
        return replace(self, layers={}, **changes) if changes else self

    @property
    def of_a_layer(self) -> frozenset[str]:
        """Fields that may differ from layer to layer: in rate coding all layers step together, so not the steps."""
        names = {f.name for f in fields(self)}
        together = {"timesteps", "pre_timesteps"} if self.coding == "rate" else set()
        return frozenset({"thresholds", "per_channel", *self.neuron_options} & names - together)

    @property
    def levels(self) -> int:
        """Levels above zero that one neuron's output can take over the steps that are read out."""
        return self.timesteps

    @property
    def pre_timesteps_(self) -> int:
        """Steps before the ones that are read out."""
        return 0

    @property
    def latency(self) -> int:
        """Every step that the method runs."""
        return self.pre_timesteps_ + self.timesteps

    @property
    def powers(self) -> int | None:
        """How many sizes θ/2^k its quantiser has; None: even levels, as many as `levels` says."""
        return None

    @property
    def bits_per_step(self) -> float:
        """log₂ of how many values a neuron may send in one step, to compare T of methods by; rounded to two digits.

        >>> from snnconv import methods
        >>> methods.IF(4).bits_per_step, methods.SignedIF(4).bits_per_step
        (1.0, 1.58)
        """
        sizes = len(self.record.sizes(**self.neuron_options))
        return round(math.log2(1 + sizes * (2 if self.record.signed else 1)), 2)

    @property
    def delay_(self) -> Delay:
        """Delay of the readout: steps left out of the mean, ``"auto"``, or ``None``."""
        return None

    @property
    def calibration_samples_(self) -> int | None:
        """Calibration inputs to use at most; ``None``: what :func:`snnconv.convert` takes."""
        return None

    @property
    def percent(self) -> float | None:
        """Percentile of ``thresholds="99.9%"``, else ``None``."""
        words = (*STATISTICS, "ltb", "trained")
        if self.thresholds in words:
            return None
        match = _PERCENT.fullmatch(str(self.thresholds))
        if not match or not 0 < float(match[1]) <= 100:
            raise ValueError(
                f"{self._label}: thresholds must be {', '.join(map(repr, words))} or a percentile such as '99.9%', "
                f"got {self.thresholds!r}"
            )
        return float(match[1])

    @property
    def neuron_options(self) -> dict[str, Any]:
        """Settings of this method's neuron, besides its threshold."""
        return {}

    def neuron_at(self, function: Activation) -> tuple[neurons.Neuron, dict[str, Any]]:
        """The neuron, with its settings, that this method puts where the activation is ``function``.

        Raises:
            ValueError: it has none for this function, with the reason.

        >>> from snnconv import methods
        >>> from snnconv.graph.activation import ReLU
        >>> methods.IF(timesteps=4).neuron_at(ReLU())[0].name
        'if'
        """
        bits = self.timesteps if self.coding == "sum" else 0
        realisation = self.realisation or default_realisation(self.record, bits)
        try:
            return at_function(self.record, function, realisation, **self.neuron_options)
        except ValueError as error:
            raise ValueError(f"{self._label} has no neuron for {function.name}: {error}") from None

    def takes(self, function: Activation) -> bool:
        """Whether this method's neurons can stand at an activation.

        >>> from snnconv import methods
        >>> from snnconv.graph.functions import SiLU
        >>> methods.IF(timesteps=4).takes(SiLU()), methods.SignedIF(timesteps=4).takes(SiLU())
        (False, True)
        """
        if self.converts is not None and function.name not in self.converts:
            return False
        calibrated = function.encodes or hasattr(function, "threshold")
        if self.thresholds == "trained" and not calibrated:  # an activation that has no threshold of its own
            return False
        try:
            self.neuron_at(function)
        except ValueError:
            return False
        return True

    def node(self, threshold: Tensor, axis: int, function: Activation, framework: str) -> nn.Module:
        """The neuron of this method at an activation, in a framework's class, multi-step.

        It emits θ·s; unit spikes where the activation is in units of its own threshold.

        Raises:
            ValueError: the method has no neuron for this function.
        """
        record, options = self.neuron_at(function)
        return make_neuron(record.name, framework, threshold, channel_axis=axis, scaled=not function.unit, **options)

    def threshold(self, node: nn.Module) -> Tensor:
        """θ of a neuron that :meth:`node` made, as it stands now, in units of the source network's activations."""
        return torch.as_tensor(node.v_threshold)

    def scan_arguments(self, node: nn.Module) -> dict[str, Any] | None:
        """Arguments of :func:`snnconv.dynamics.scan` that equal ``node``; ``None`` where only the node will do."""
        framework = next((f for f in FRAMEWORKS if type(node).__module__ == FRAMEWORKS[f].module), None)
        made: Any = node
        if framework is None or type(node) is not neuron_class(made.neuron.name, framework):
            return None
        settings = {"v_threshold": made.v_threshold, "channel_axis": made.channel_axis, "scaled": made.scaled}
        return {**made.options, "neuron": made.neuron.name, **settings}

    def to_dict(self) -> dict[str, Any]:
        """All choices, as plain values; the inverse of :func:`from_dict`.

        >>> from snnconv import methods
        >>> methods.IF(4).to_dict()["name"]
        'if'
        """
        values = {"name": self.name, **asdict(self)}
        return values if self.layers else {k: v for k, v in values.items() if k != "layers"}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Method:
        """Method from the dictionary that :meth:`to_dict` gives.

        >>> from snnconv import methods
        >>> methods.Method.from_dict(methods.SRP(4, 2).to_dict())
        SRP(timesteps=4, ..., pre_timesteps=2, ...)
        """
        values = dict(values)
        return get(values.pop("name", None))(**values)

    # ------------------------------------------------------------------ validation

    def _check_layer(self, site: str) -> None:
        """Refuse what cannot be different at one site."""
        changes = self.layers[site]
        for name in changes:
            if name not in self.of_a_layer:
                why = "layers step together in rate coding" if "timesteps" in name else "it is of the whole network"
                raise ValueError(
                    f"{self._label}: {name} cannot differ at {site}: {why}; a layer has its own "
                    f"{', '.join(sorted(self.of_a_layer))}"
                )
        if "ltb" in (self.thresholds, changes.get("thresholds")) and "thresholds" in changes:
            raise ValueError(f"{self._label}: threshold balancing is of all layers together, not of {site} alone")
        if self.at(site).timesteps > self.timesteps:
            raise ValueError(
                f"{self._label}: timesteps is {self.timesteps}, and {self.at(site).timesteps} at {site}: timesteps is "
                "the largest of all layers"
            )

    @property
    def _label(self) -> str:
        return f"methods.{type(self).__name__}"

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{self._label}: {name} must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"{self._label}: {name} must be at least {least}, got {value}")

    def _bounded(self, name: str) -> None:
        """Refuse numbers of steps that nobody waits for."""
        if getattr(self, name) > limits.TIMESTEPS:
            raise ValueError(
                f"{self._label}: {name} is {getattr(self, name)}, more than snnconv.limits.TIMESTEPS = "
                f"{limits.TIMESTEPS}; set that higher where it is meant"
            )

    def _one_of(self, name: str, choices: tuple[str | None, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ValueError(f"{self._label}: {name} must be one of {choices}, got {getattr(self, name)!r}")

    def _fraction(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value < 0.5:
            raise ValueError(f"{self._label}: {name} must be in [0, 0.5) (a fraction of the threshold), got {value!r}")

    def _check_delay(self, value: Delay) -> None:
        if value is None or value == "auto":
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{self._label}: delay must be 'auto', None or a whole number of steps, got {value!r}")
        if not 0 <= value < self.timesteps:
            raise ValueError(
                f"{self._label}: delay must be in 0 … timesteps − 1 = {self.timesteps - 1}, got {value}: "
                "no step would be left to read"
            )


METHODS: dict[str, type[Method]] = {}
"""Every known method by its name."""

Kind = TypeVar("Kind", bound=type[Method])


def register(cls: Kind, *, replace: bool = False) -> Kind:
    """Make a method known by its name: to `get`, to saved files and to the command line; returns it.

    Args:
        replace: take the place of another method of this name.

    Raises:
        TypeError: no method.
        ValueError: no name, no neuron, or the name is another method's.
    """
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise TypeError(f"a method is a dataclass derived from methods.Method, got {cls!r}")
    for field_ in ("name", "neuron"):
        if not getattr(cls, field_):
            raise ValueError(f'method {cls.__name__} has no {field_}: give it one, {field_} = "..."')
    method: type[Method] = cls
    add(METHODS, cls.name, method, "method", replace=replace)
    return cls


def load_installed(name: str | None = None) -> None:
    """Import the modules that installed packages name under the entry point group ``snnconv.methods``.

    Args:
        name: only those of this method, which is the entry point's name.
    """
    for entry in entry_points(group="snnconv.methods"):
        if name in (None, entry.name):
            entry.load()


def get(name: str) -> type[Method]:
    """The method of this name: registered, or of an installed package that names it (`load_installed`).

    Raises:
        ValueError: no such method; the message lists the known ones.

    >>> get("signed_if").__name__
    'SignedIF'
    """
    if name not in METHODS:
        load_installed(str(name))
    return named(
        METHODS, name, "method",
        "one of your own is known once the module that registers it (snnconv.methods.register) has been imported",
    )  # fmt: skip
