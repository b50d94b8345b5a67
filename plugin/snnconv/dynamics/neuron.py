"""What a neuron is: one record with its equation, its state and its settings. Everything else is built from it.

The kernels (`snnconv.dynamics.scan`), the modules of both frameworks, the runs of a converted network, the audit, 8-bit
layers and exports read the record; none of them knows a neuron by name. A neuron of one's own is one record more:

>>> from typing import NamedTuple
>>> import torch
>>> from snnconv import dynamics
>>> from snnconv.dynamics.neuron import NEURONS, Neuron, register
>>> class Leaky(NamedTuple):
...     v: torch.Tensor
>>> def initial(x_like, v_threshold):
...     return Leaky(torch.zeros_like(x_like))
>>> def step(x, state, v_threshold, *, surrogate=None, detach_reset=False):
...     v = 0.5 * state.v + x
...     spike = (v >= v_threshold).to(x.dtype)
...     return spike, Leaky(v - spike * v_threshold)
>>> leaky = register(Neuron(name="leaky", state=Leaky, initial=initial, step=step))
>>> dynamics.scan("leaky", torch.full((4, 1, 1), 0.6), 1.0).flatten()
tensor([0., 0., 1., 0.])
>>> del NEURONS["leaky"]
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from snnconv.tables import add, named

from .function import StandIn, Work
from .threshold import membrane_dtype, stack_steps

__all__ = ["NEURONS", "REQUIRED", "Neuron", "Option", "PrePhase", "follow", "get", "register"]

REQUIRED: Any = inspect.Parameter.empty
"""Default of an option that has none."""


def _anything(value: Any) -> None:
    """Accept every value."""


@dataclass(frozen=True)
class Option:
    """A setting of a neuron, besides its threshold.

    Attributes:
        name: the keyword under which the equation and the modules take it.
        default: its value where nobody gives one; `REQUIRED` has none.
        check: raises ValueError for a value that makes no sense.
        meaning: a few words that say what it is.
    """

    name: str
    default: Any = REQUIRED
    check: Callable[[Any], None] = _anything
    meaning: str = ""


@dataclass(frozen=True)
class PrePhase:
    """A first phase that decides which neurons may fire in the second; both start afresh, and the second is read.

    Attributes:
        neuron: what runs in each of the two phases.
        steps: name of the option that holds the first phase's length.
        allowed: ``allowed(state, v_threshold, **options)``: from the state after the first phase, who may fire
            ``[B, ...]``, bool.
    """

    neuron: Neuron
    steps: str
    allowed: Callable[..., Tensor]

    def options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Of the two-phase neuron's options those of the one that runs in a phase; what it lacks by default."""
        return {option.name: options.get(option.name, option.default) for option in self.neuron.options}


@dataclass(frozen=True, kw_only=True)
class Neuron:
    """One neuron: a soft-reset equation, with all that runs, shows, saves or exports it needs to know.

    Equations are pure. A threshold is a float or a tensor that broadcasts against one step ``[B, ...]``. ``options``
    are given by keyword, all of them. Spikes are in units of the threshold: 0, 1, or -1 where ``signed``.

    Attributes:
        name: the word for it in `scan`, in methods and in files.
        state: a NamedTuple class, what it remembers from step to step. Fields annotated ``int`` count and start at 0,
            the others are tensors shaped like one step.
        initial: ``initial(x_like, v_threshold, **options)``, the state before the first step of input like ``x_like``.
        step: ``step(x, state, v_threshold, *, surrogate, detach_reset, **options)``: spikes of one step in ``x``'s
            dtype, and the state after it. ``surrogate`` stands for H in training (`Surrogate`).
        multistep: ``multistep(x_seq, v_threshold, *, state, surrogate, detach_reset, **options)``: spikes of a sequence
            ``[T, B, ...]`` and the state after it; `step` after `step` where it is None.
        options: its settings.
        membrane: field of the state that holds the membrane potential.
        signed: whether spikes may be negative whatever its options; else they may with those of ``both_signs``.
        both_signs: options that make it take values of both signs; None: it takes those from 0 alone.
        functions: at a function of the input that is more than a clip (`at_function`): realisation, ``"ladder"`` or
            ``"function"``, → the neuron that stands in for it, which has an option ``function``; the first is the
            default. Empty: none does.
        amplitudes: ``amplitudes(**options)``, the sizes that a spike may have, in units of what its step is worth;
            None: one size, 1.
        gather: for sum coding: ``gather(x_seq, v_threshold, **options)``, the state in which the whole input has come
            in and the first of ``timesteps`` spikes (an option) is due. `step` is then pipelined: it sums the
            inputs of one window of ``timesteps`` while it fires those of the window before. None: rate coding.
        quantises: the sum of its weighted spikes is the quantised activation itself, clip(⌊f(z)/q + 1/2⌋)·q, so that
            a conversion is held against that.
        weight: ``weight(step, **options)``, what the spikes of step 0, 1, ... are worth in thresholds; the state counts
            them in a field ``step``. None: 1.
        latency: ``latency(**options)``, steps before the first output that counts, step by step; None: 0.
        pre_phase: a first phase that decides who may fire.
        lookup: ``lookup(x_like, v_threshold, **options)``, what the equation looks up by the values of the threshold,
            as further keywords for ``step`` and ``multistep``: a call that is exported knows no values and is given
            what was found before it. None: it looks up nothing.
        differential: a spike says what is new: the value after t steps is the sum of the spikes, each divided by the
            number of its step. The current of the first step holds the bias, the others what the spikes of their own
            step bring.
        pulses: ``pulses(spikes)``, how many additions a spike costs at each synapse it reaches, in the spikes' dtype;
            None: one where there is a spike.
        nir: name of the NIR node that is the same neuron, for the writer; empty: there is none.
        work: ``work(steps, **options)``, what one neuron does for an input of ``steps`` steps besides its own
            comparison a step; None: nothing.

    Raises:
        ValueError: fields that do not fit together.
    """

    name: str
    state: type[Any]
    initial: Callable[..., Any]
    step: Callable[..., tuple[Tensor, Any]]
    multistep: Callable[..., tuple[Tensor, Any]] | None = None
    options: tuple[Option, ...] = ()
    membrane: str = "v"
    signed: bool = False
    both_signs: Mapping[str, Any] | None = field(default=None, hash=False)
    functions: Mapping[str, StandIn] = field(default_factory=dict, hash=False)
    amplitudes: Callable[..., tuple[float, ...]] | None = None
    gather: Callable[..., Any] | None = None
    quantises: bool = False
    weight: Callable[..., float] | None = None
    latency: Callable[..., int] | None = None
    pre_phase: PrePhase | None = None
    lookup: Callable[..., dict[str, Any]] | None = None
    differential: bool = False
    pulses: Callable[[Tensor], Tensor] | None = None
    nir: str = ""
    work: Callable[..., Work] | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"a neuron's name is a word of letters, digits and underscores, got {self.name!r}")
        fields = getattr(self.state, "_fields", ())
        if self.membrane not in fields:
            raise ValueError(f"neuron {self.name!r}: its state has {', '.join(fields)}; none is {self.membrane!r}")
        if self.weight is not None and "step" not in self.counters:
            raise ValueError(
                f"neuron {self.name!r} weights its spikes by the step: its state needs a field `step: int`"
            )
        names = {option.name for option in self.options}
        if self.gather is not None and (self.multistep is None or "timesteps" not in names):
            raise ValueError(f"neuron {self.name!r} has gather: it needs multistep and an option 'timesteps' too")
        if self.differential and (self.gather is not None or self.pre_phase is not None):
            raise ValueError(f"neuron {self.name!r} is differential: it steps with all others, in one phase")
        if self.pre_phase is not None and self.pre_phase.steps not in names:
            raise ValueError(f"neuron {self.name!r}: its first phase's length, {self.pre_phase.steps!r}, is no option")

    # ------------------------------------------------------------------ what follows from the fields

    @property
    def coding(self) -> Literal["rate", "sum", "differential"]:
        """``"rate"``: a value is the mean over the steps; ``"sum"``: the sum of weighted spikes; or `differential`."""
        if self.differential:
            return "differential"
        return "rate" if self.gather is None else "sum"

    @property
    def settable(self) -> tuple[Option, ...]:
        """Options that are not the channel axis, which modules and scans have in any case."""
        return tuple(option for option in self.options if option.name != "channel_axis")

    @cached_property
    def has_channels(self) -> bool:
        """Whether the channel axis is an option of the equation."""
        return any(option.name == "channel_axis" for option in self.options)

    def negative(self, **options: Any) -> bool:
        """Whether spikes may be negative with these options.

        Example:
            >>> get("shifted_threshold").negative(signed=True), get("if").negative()
            (True, False)
        """
        set_so = self.both_signs is not None and all(options.get(k) == v for k, v in self.both_signs.items())
        return self.signed or set_so

    def extra(self, steps: int, **options: Any) -> Work:
        """What one neuron does for an input of ``steps`` steps besides its own comparison a step."""
        return Work() if self.work is None else self.work(steps, **options)

    @property
    def resumable(self) -> bool:
        """Whether a sequence may be cut anywhere and go on from its state."""
        return self.gather is None and self.pre_phase is None

    @cached_property
    def counters(self) -> frozenset[str]:
        """Fields of the state that count steps."""
        kinds = inspect.get_annotations(self.state)
        plain = {
            name: getattr(kind, "__forward_arg__", kind) for name, kind in kinds.items()
        }  # as text where written so
        return frozenset(name for name in self.state._fields if plain.get(name) in (int, "int"))

    @cached_property
    def memories(self) -> tuple[str, ...]:
        """The state's fields, the membrane first: the order in which modules keep them."""
        return self.membrane, *(name for name in self.state._fields if name != self.membrane)

    def remembered(self, state: Any) -> tuple[Any, ...]:
        """The values of a state in the order of `memories`."""
        return tuple(getattr(state, name) for name in self.memories)

    def state_of(self, values: Any) -> Any:
        """The state whose values in the order of `memories` these are."""
        return self.state(**dict(zip(self.memories, values, strict=True)))

    def first(self, **options: Any) -> int:
        """Steps before the first output that counts, where the neuron runs step by step."""
        return 0 if self.latency is None else self.latency(**options)

    def sizes(self, **options: Any) -> tuple[float, ...]:
        """Sizes that a spike may have, in units of what its step is worth."""
        return (1.0,) if self.amplitudes is None else self.amplitudes(**options)

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every option, those not given by default, and checked; ``None`` counts as not given.

        Raises:
            ValueError: a missing or unknown option, or a value that makes no sense.
        """
        found = {}
        for option in self.options:
            value = given.get(option.name)
            if value is None:
                value = option.default
                if value is REQUIRED:
                    meaning = f", {option.meaning}" if option.meaning else ""
                    raise ValueError(f"neuron {self.name!r} needs {option.name}{meaning}")
            option.check(value)
            found[option.name] = value
        for name, value in given.items():
            if name not in found and value is not None:
                raise ValueError(self._unknown(name))
        return found

    def _unknown(self, option: str) -> str:
        others = [repr(n.name) for n in NEURONS.values() if option in {o.name for o in n.options}]
        if others:
            return f"{option} is for neuron {' or '.join(others)} only, not {self.name!r}"
        own = ", ".join(o.name for o in self.options)
        return f"neuron {self.name!r} has no option {option!r}; it has {own or 'none'}"

    def sequence(
        self,
        x_seq: Tensor,
        v_threshold: float | Tensor,
        state: Any = None,
        *,
        surrogate: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        **options: Any,
    ) -> tuple[Tensor, Any]:
        """Run the equation over a sequence ``[T, B, ...]``: its spikes in ``x_seq``'s dtype, and the state after it.

        Args:
            state: the state before it; ``None`` starts afresh. In sum coding every call is one window.
        """
        how = {"surrogate": surrogate, "detach_reset": detach_reset}
        if self.multistep is not None:
            return self.multistep(x_seq, v_threshold, state=state, **how, **options)
        if state is None:
            x_like = x_seq[0] if len(x_seq) else x_seq.new_empty(x_seq.shape[1:])
            state = self.initial(x_like, v_threshold, **options)
        steps = []
        for x in x_seq:
            spike, state = self.step(x, state, v_threshold, **how, **options)
            steps.append(spike)
        return stack_steps(steps, x_seq), state


def follow(
    neuron: Neuron,
    x_seq: Tensor,
    v_threshold: float | Tensor,
    *,
    surrogate: Callable[[Tensor], Tensor] | None = None,
    detach_reset: bool = False,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Spikes and membrane potential after every step ``[T, B, ...]``, by the equation, from its start.

    In sum coding the steps are the ``timesteps`` that fire, after the whole of ``x_seq`` has come in.

    Example:
        >>> _, potentials = follow(get("if"), torch.full((4, 1), 0.5), 1.0)
        >>> potentials.flatten()
        tensor([0.0000, 0.5000, 0.0000, 0.5000])
    """
    last = None
    how: dict[str, Any] = {"surrogate": surrogate, "detach_reset": detach_reset}
    if neuron.gather is not None:
        _, last = neuron.sequence(x_seq, v_threshold, **how, **options)
        state = neuron.gather(x_seq, v_threshold, **options)
        silence = torch.zeros_like(x_seq[0], dtype=membrane_dtype(x_seq))
        x_seq = silence.expand(options["timesteps"], *silence.shape)
    else:
        state = neuron.initial(x_seq[0], v_threshold, **options)
    spikes, potentials = [], []
    for x in x_seq:
        spike, state = neuron.step(x, state, v_threshold, **how, **options)
        spikes.append(spike)
        potentials.append(getattr(state, neuron.membrane))
    if last is not None:  # the pipeline has taken in the next window by then
        potentials[-1] = getattr(last, neuron.membrane)
    return torch.stack(spikes), torch.stack(potentials)


NEURONS: dict[str, Neuron] = {}
"""Every known neuron by its name."""


def register(neuron: Neuron, *, replace: bool = False) -> Neuron:
    """Make a neuron known by its name, to everything; returns it.

    Args:
        replace: take the place of another neuron of this name.

    Raises:
        ValueError: the name is another neuron's.
    """
    return add(NEURONS, neuron.name, neuron, "neuron", replace=replace)


def get(name: str) -> Neuron:
    """The neuron of this name.

    Raises:
        ValueError: no such neuron; the message lists the known ones.

    Example:
        >>> get("signed_if").signed
        True
    """
    return named(
        NEURONS, name, "neuron",
        "one of your own is known once the module that registers it (snnconv.dynamics.neuron.register) has been "
        "imported",
    )  # fmt: skip
