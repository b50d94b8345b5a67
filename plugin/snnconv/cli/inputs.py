"""What the command line is given: a method with its settings; and the error for what it cannot use."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from snnconv.files.atomic import writable

if TYPE_CHECKING:
    from snnconv.methods.base import Method

__all__ = ["InputError", "check_out", "make_method", "method_classes", "method_fields"]


class InputError(ValueError):
    """Something on the command line cannot be used; the message says what, and what to do next."""


def check_out(path: Path, option: str = "--out") -> None:
    """Refuse a file that cannot be written, before the work whose result is to go there.

    Raises:
        InputError: its folder does not exist or takes no files, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise InputError(f"the folder of {option}, {path.parent}, does not exist")
    try:
        writable(path)
    except OSError as error:
        raise InputError(f"{option} {path} cannot be written: {error.strerror or error}") from error


def method_classes() -> dict[str, type[Method]]:
    """Command-line name → dataclass, for every method in `snnconv.methods` and of packages that join by entry point."""
    from snnconv import methods

    methods.base.load_installed()
    return {name.replace("_", "-"): cls for name, cls in methods.METHODS.items()}


def method_fields() -> dict[str, str]:
    """Field of any method → help text: what it means, which values it takes, and the methods' defaults."""
    defaults: dict[str, dict[str, str]] = {}
    meanings: dict[str, str] = {}
    words: dict[str, list[str]] = {}
    for name, cls in method_classes().items():
        described, kinds = _meanings(cls), _kinds(cls)
        for field in cls.choices():
            default = "" if field.default is dataclasses.MISSING else str(field.default).lower()
            defaults.setdefault(field.name, {})[name] = default
            meanings.setdefault(field.name, described.get(field.name, ""))
            known = field.metadata.get("known") or _values(kinds.get(field.name, Any))
            words.setdefault(field.name, [str(value) for value in known])
    texts = {}
    for field_name, by_method in defaults.items():
        parts = [meanings[field_name]]
        parts += [f"One of {', '.join(words[field_name])}."] if words[field_name] else []
        usual = max(by_method.values(), key=list(by_method.values()).count)
        others = [f"{method}: {value}" for method, value in by_method.items() if value != usual]
        if usual:
            parts.append(f"Default {usual}{' (' if others else ''}{', '.join(others)}{')' if others else ''}.")
        if len(by_method) < len(method_classes()):
            parts.append(f"Of {', '.join(by_method)}.")
        texts[field_name] = " ".join(filter(None, parts))
    return texts


def _meanings(cls: type) -> dict[str, str]:
    """What the ``Attributes`` of a class and of those it is derived from say of each field."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        lines = inspect.cleandoc(owner.__doc__ or "").splitlines()
        start = lines.index("Attributes:") + 1 if "Attributes:" in lines else len(lines)
        name = ""
        for line in lines[start:]:
            if line.strip() and not line.startswith(" "):
                break
            if entry := re.match(r"    (\w+): (.*)", line):
                name, found[entry[1]] = entry[1], entry[2]
            elif name and line.strip():
                found[name] += " " + line.strip()
            elif not line.strip():
                name = ""
    return {name: _sentence(text.replace("``", "").replace("`", "")) for name, text in found.items()}


def _sentence(text: str) -> str:
    start = text[:1].upper() if text[:1].isascii() else text[:1]
    return start + text[1:]


def _values(kind: Any) -> list[Any]:
    """The words that a field takes, where it takes words alone; none among them where the type allows it."""
    choices = _choices(kind)
    words = [choice for choice in choices if isinstance(choice, str)]
    if bool in choices:
        words += ["true", "false"]
    if words and int in choices:
        words.append("a whole number")
    if words and type(None) in choices:
        words.append("none")
    return words


def make_method(name: str, settings: Mapping[str, str | None]) -> Any:
    """The method ``name`` with the settings given on the command line, validated by the method itself.

    Raises:
        InputError: an unknown method, settings that it does not have, one that it needs.

    >>> make_method("if", {"timesteps": "8", "correction": "none"}).correction
    'none'
    """
    classes = method_classes()
    if name not in classes:
        raise InputError(f"no method {name!r}; there are: {', '.join(classes)}")
    cls = classes[name]
    kinds = _kinds(cls)
    given = {key: _value(text, kinds.get(key, Any)) for key, text in settings.items() if text is not None}
    own = {field.name for field in cls.choices()}
    if foreign := [f"--{key.replace('_', '-')}" for key in given if key not in own]:
        raise InputError(f"{name} has no {', '.join(foreign)}; it has: {', '.join(sorted(own))}")
    needed = [f.name for f in cls.choices() if f.default is dataclasses.MISSING]
    if missing := [f"--{key.replace('_', '-')}" for key in needed if key not in given]:
        raise InputError(f"{name} needs {' and '.join(missing)}; for instance: {missing[0]} 8")
    try:
        return cls(**given)
    except TypeError as error:
        raise InputError(f"{name}: {str(error).replace(f'{cls.__name__}.__init__() ', '')}") from error


def make_overrides(method: Any, texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is different at single layers, from ``PATTERN:field=value,field=value``.

    Raises:
        InputError: a text of another form.

    >>> from snnconv import methods
    >>> make_overrides(methods.ShiftedThreshold(4), ["layer3.*:timesteps=6"])
    {'layer3.*': {'timesteps': 6}}
    """
    kinds, found = _kinds(type(method)), {}
    for text in texts:
        pattern, colon, changes = text.rpartition(":")
        pairs = [change.partition("=") for change in changes.split(",")]
        if not (colon and pattern) or not all(name.strip() and sign and value for name, sign, value in pairs):
            raise InputError(f"--override {text}: write PATTERN:field=value, such as 'layer3.*:timesteps=6'")
        names = {name.strip().replace("-", "_"): value for name, _, value in pairs}
        found[pattern] = {name: _value(value, kinds.get(name, Any)) for name, value in names.items()}
    return found


def _kinds(cls: type) -> dict[str, Any]:
    """Type of every field, as far as its annotation can be read."""
    try:
        return get_type_hints(cls)
    except NameError:  # of a type that is imported for type checkers alone
        return {}


def _value(text: str, kind: Any) -> Any:
    """A setting as its field wants it: one of its words, none, a truth value, a number; else the text as it is."""
    choices = _choices(kind)
    words = [choice for choice in choices if isinstance(choice, str)]
    lowered = text.strip().lower()
    if text in words:
        return text
    if lowered == "none" and (type(None) in choices or Any in choices):
        return None
    if lowered in ("true", "false") and (bool in choices or Any in choices):
        return lowered == "true"
    for number in (int, float):
        if number in choices or Any in choices or (float in choices and number is int):
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _choices(kind: Any) -> list[Any]:
    """The types of a union and the words of a Literal, side by side."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return [choice for part in get_args(kind) for choice in _choices(part)]
    return [kind]
