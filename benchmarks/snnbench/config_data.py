"""Configs in YAML and JSON: data, of which nothing is run. A Python config is a program, and runs when it is read.

mmengine reads YAML with the loader that makes any Python object, takes a Python file as the base of a JSON config,
imports what ``custom_imports`` names, and imports a ``type`` that no registry knows as a path in a module. Here each
of these is refused by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry, root

from snnconv.files.refusal import brief
from snnconv.files.untrusted import UntrustedFileError, read_json, read_yaml

__all__ = ["SCOPES", "SUFFIXES", "check_types", "read_config"]

SUFFIXES = (".yaml", ".yml", ".json")
SCOPES = ("snnbench", "mmdet", "mmseg", "mmengine")
"""Packages whose registries a config of data may name."""
MOST_VALUES = 100_000
"""Values in such a config and its bases: YAML's references can make billions of a few lines."""
DEEPEST = 30
"""Lists and mappings that a value may lie in."""
_READ_AS_CODE = ("pkl", "pickle", "yaml", "yml")
"""Ends of file names that mmengine reads with a loader that runs code."""
_ADVICE = "write the config in Python, which runs as a program, or leave it out"


def read_config(path: str | os.PathLike[str]) -> Config:
    """A YAML or JSON config, merged with its bases, which are YAML or JSON too.

    Raises:
        UntrustedFileError: no such file, not YAML or JSON, or something in it would run code: the field is named.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "base.json").write_text('{"model": {"depth": 18, "width": 64}}')
    ...     _ = Path(folder, "net.yaml").write_text("_base_: base.json\\nmodel: {depth: 34}\\n")
    ...     read_config(f"{folder}/net.yaml").model
    {'depth': 34, 'width': 64}
    """
    path = Path(path)
    return Config(_merged(path, ()), filename=str(path))


def check_types(config: Config, methods: tuple[str, ...]) -> None:
    """Refuse a ``type`` that no registry knows: mmengine would import it.

    Args:
        config: as :func:`read_config` gives it, after the registries of its scope are filled.
        methods: names that ``type`` may have beside: those of conversion methods.

    Raises:
        UntrustedFileError: the field and the name.
    """
    known = {name for registry in vars(root).values() if isinstance(registry, Registry) for name in _names(registry)}
    for field, key, value in _walk(config.to_dict(), ""):
        if key == "type" and isinstance(value, str) and value not in methods:
            field = brief(field)
            scope, _, name = value.rpartition(".")
            if name not in known or (scope and scope not in SCOPES):
                raise UntrustedFileError(
                    f"{config.filename}: {field}: {value!r:.200} is registered nowhere, and a path in a module is not "
                    f"imported for a YAML or JSON config; {_ADVICE}"
                )


def _names(registry: Registry) -> Iterator[str]:
    yield from registry.module_dict
    for child in registry.children.values():
        yield from _names(child)


def _merged(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The content of a config over that of its bases, checked."""
    if path.resolve() in above:
        raise UntrustedFileError(f"{path}: _base_: is its own base")
    if path.suffix not in SUFFIXES:
        raise UntrustedFileError(
            f"{above[-1]}: _base_: {path} is no YAML or JSON, and a config of data is not built on a program"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UntrustedFileError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UntrustedFileError(f"{path}: not UTF-8 text") from error
    found = read_json(text, str(path)) if path.suffix == ".json" else read_yaml(text, str(path))
    if not isinstance(found, dict):
        raise UntrustedFileError(f"{path}: holds a {type(found).__name__}, not fields with names")
    _check(found, path)
    names = found.pop("_base_", [])
    names = names if isinstance(names, list) else [names]
    bases: dict[str, Any] = {}
    for name in names:
        if not isinstance(name, str):
            raise UntrustedFileError(f"{path}: _base_: {name!r:.200} names no file")
        base = _merged(path.parent / name, (*above, path.resolve()))
        if twice := bases.keys() & base.keys():
            raise UntrustedFileError(f"{path}: _base_: two bases have {sorted(twice)[0]!r:.200}")
        bases |= base
    merged: dict[str, Any] = Config._merge_a_into_b(found, bases)
    return merged


def _check(content: dict[str, Any], path: Path) -> None:
    """Refuse what would run code or never end."""
    for count, (field, key, value) in enumerate(_walk(content, "")):
        field = brief(field)
        if count >= MOST_VALUES:
            raise UntrustedFileError(f"{path}: holds more than {MOST_VALUES:,} values")
        if key == "custom_imports":
            raise UntrustedFileError(f"{path}: {field}: runs the modules that it names; {_ADVICE}")
        if key in ("default_scope", "_scope_") and value not in SCOPES:
            raise UntrustedFileError(f"{path}: {field}: {value!r:.200} is not one of {', '.join(SCOPES)}")
        if isinstance(value, str):
            if "{{" in value:
                raise UntrustedFileError(f"{path}: {field}: a placeholder, {value!r:.200}: write what it stands for")
            if key != "_base_" and value.lower().rpartition(".")[2] in _READ_AS_CODE:
                raise UntrustedFileError(f"{path}: {field}: mmengine reads {value!r:.200} by running what it asks for")
            if key == "env" and ":" in value:
                raise UntrustedFileError(f"{path}: {field}: {value!r:.200} imports a module; {_ADVICE}")
        elif not (value is None or isinstance(value, bool | int | float | dict | list)):
            raise UntrustedFileError(f"{path}: {field}: a {type(value).__name__} is no value of a config")


def _walk(value: Any, field: str, above: tuple[int, ...] = ()) -> Iterator[tuple[str, str, Any]]:
    """Every value with its field and the last name in it: ``("model.blocks[0].type", "type", "Net")``."""
    if id(value) in above:
        raise UntrustedFileError(f"{brief(field)}: holds itself")
    if len(above) > DEEPEST:
        raise UntrustedFileError(f"{field[:60]}: nested in more than {DEEPEST} lists or mappings")
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, item in items:
        where = f"{field}[{name}]" if isinstance(value, list | tuple) else f"{field}.{name}".lstrip(".")
        yield where, re.sub(r"(\[\d+\])+$", "", where).rpartition(".")[2], item
        yield from _walk(item, where, (*above, id(value)))
