"""What the modules of either framework take from a neuron's record: settings, signature, classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ..dynamics.neuron import NEURONS, REQUIRED, Neuron, get

__all__ = ["ModuleClasses", "module_options", "module_signature", "settings_repr"]

Module = TypeVar("Module")


def module_options(neuron: Neuron, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a neuron's module, checked.

    Args:
        name: of the module's class, for messages.

    Raises:
        TypeError: a missing or unknown one.
        ValueError: a value that makes no sense.
    """
    known = {option.name: option for option in neuron.settable}
    if unknown := [key for key in given if key not in known]:
        raise TypeError(f"{name} got an unexpected keyword argument {unknown[0]!r}")
    found = {key: given.get(key, option.default) for key, option in known.items()}
    if missing := [key for key, value in found.items() if value is REQUIRED]:
        raise TypeError(f"{name} needs {missing[0]}, {known[missing[0]].meaning}")
    for key, value in found.items():
        try:
            known[key].check(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def module_signature(base: Callable[..., Any], neuron: Neuron) -> inspect.Signature:
    """The signature of a module's class: its base's, with the neuron's settings by name."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    given = [p for p in inspect.signature(base).parameters.values() if p.name not in ("self", "options")]
    scaled = neuron.weight is not None
    given = [p.replace(default=scaled, annotation=bool) if p.name == "scaled" else p for p in given]
    first = next(i for i, p in enumerate(given) if p.kind is keyword)
    own = [inspect.Parameter(option.name, keyword, default=option.default) for option in neuron.settable]
    return inspect.Signature([*given[:first], *own, *given[first:]])


def settings_repr(neuron: Neuron, options: dict[str, Any], latency: int) -> str:
    """A module's settings as its repr lists them."""
    own = {option.name: options[option.name] for option in neuron.settable}
    shown = [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in own.items()]
    if neuron.latency is not None:
        shown.append(f"latency={latency}")
    return "".join(f", {entry}" for entry in shown)


class ModuleClasses(Generic[Module]):
    """A framework's classes by their neuron: those that are written out, and those made from a record when wanted.

    Args:
        base: what the made ones derive from.
        module: the module that gives them by their name, which is where pickle looks.
        suffix: what follows the neuron's name in theirs.
        written: the classes that are written out.
    """

    def __init__(self, base: type[Module], module: str, suffix: str, *written: type[Module]) -> None:
        self.base, self.module, self.suffix = base, module, suffix
        self._found: dict[str, type[Module]] = {cls.neuron.name: cls for cls in written}  # type: ignore[attr-defined]
        self._written = frozenset(self._found)

    def of(self, name: str) -> type[Module]:
        """The class of a neuron.

        Raises:
            ValueError: an unknown neuron.
        """
        record = get(name)
        found = self._found.get(name)
        if found is None or found.neuron is not record:  # type: ignore[attr-defined]
            about = f"The neuron {name!r}; arguments as in `{self.base.__name__}`, and the neuron's own settings."
            namespace = {"neuron": record, "__module__": self.module, "__doc__": about}
            found = self._found[name] = type(self._name(record), (self.base,), namespace)
        return found

    def named(self, name: str) -> type[Module]:
        """The class of this name that is made from a record, which is how pickle finds it.

        Raises:
            AttributeError: no registered neuron has it.
        """
        for record in NEURONS.values():
            if record.name not in self._written and name == self._name(record):
                return self.of(record.name)
        raise AttributeError(f"module {self.module!r} has no attribute {name!r}")

    def _name(self, neuron: Neuron) -> str:
        """``"leaky_threshold"`` → ``LeakyThreshold``, and the suffix."""
        return "".join(word[:1].upper() + word[1:] for word in neuron.name.split("_")) + self.suffix
