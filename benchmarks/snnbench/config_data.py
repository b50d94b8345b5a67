"""Configs in YAML and JSON: data, of which nothing is run. A Python config is a program, and runs when it is read.

mmengine reads YAML with the loader that makes any Python object, takes a Python file as the base of a JSON config, and
imports what ``custom_imports`` names. Here each of these is refused by name; `snnbench.config_types` is about what a
config has built by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from snnconv.files.refusal import brief
from snnconv.files.untrusted import UntrustedFileError, read_json, read_yaml

__all__ = ["ADVICE", "SCOPES", "SUFFIXES", "is_data", "read_config", "walk"]

SUFFIXES = (".yaml", ".yml", ".json")
SCOPES = ("snnbench", "mmdet", "mmseg", "mmengine")
"""Packages whose registries a config of data may name."""
MOST_VALUES = 100_000
"""Values in such a config and its bases: YAML's references can make billions of a few lines."""
RESERVED = {"filename", "text", "pretty_text", "env_variables"}
"""Names of fields that mmengine keeps for what it adds to a config."""
DEEPEST = 30
"""Lists and mappings that a value may lie in."""
_READ_AS_CODE = ("pkl", "pickle", "py", "yaml", "yml")
"""Ends of file names that mmengine reads with a loader that runs code."""
ADVICE = "write the config in Python, which runs as a program, or leave it out"


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
    return Config(_merged(path, ()), filename=str(path), format_python_code=False)


def is_data(config: Config) -> bool:
    """Whether a config was read by :func:`read_config`, and is no program."""
    return Path(str(config.filename)).suffix in SUFFIXES


def _merged(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The content of a config over that of its bases, checked."""
    if path.resolve() in above:
        raise UntrustedFileError(f"{path}: _base_: is its own base")
    if path.suffix not in SUFFIXES:
        raise UntrustedFileError(
            f"{above[-1]}: _base_: {path} is no YAML or JSON, and a config of data is not built on a program"
        )
    if path.exists() and not path.is_file():
        raise UntrustedFileError(f"{path}: cannot be read (it is a folder, a pipe or a device)")
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
    try:
        merged: dict[str, Any] = Config._merge_a_into_b(found, bases)
    except (KeyError, TypeError, ValueError) as error:  # a field is a mapping here and none in the base
        raise UntrustedFileError(f"{path}: does not fit its _base_: {brief(error)}") from error
    return merged


def _check(content: dict[str, Any], path: Path) -> None:
    """Refuse what would run code or never end."""
    if reserved := RESERVED & content.keys():
        raise UntrustedFileError(f"{path}: {min(reserved)}: mmengine keeps this name for itself; take another")
    for count, (field, key, value) in enumerate(walk(content, "")):
        field = brief(field)
        if count >= MOST_VALUES:
            raise UntrustedFileError(f"{path}: holds more than {MOST_VALUES:,} values")
        if key == "custom_imports":
            raise UntrustedFileError(f"{path}: {field}: runs the modules that it names; {ADVICE}")
        if key in ("default_scope", "_scope_") and value not in SCOPES:
            raise UntrustedFileError(f"{path}: {field}: {value!r:.200} is not one of {', '.join(SCOPES)}")
        if isinstance(value, str):
            if "{{" in value:
                raise UntrustedFileError(f"{path}: {field}: a placeholder, {value!r:.200}: write what it stands for")
            if key != "_base_" and value.lower().rpartition(".")[2] in _READ_AS_CODE:
                raise UntrustedFileError(f"{path}: {field}: mmengine reads {value!r:.200} by running what it asks for")
            if key == "env" and ":" in value:
                raise UntrustedFileError(f"{path}: {field}: {value!r:.200} imports a module; {ADVICE}")
        elif not (value is None or isinstance(value, bool | int | float | dict | list)):
            raise UntrustedFileError(f"{path}: {field}: a {type(value).__name__} is no value of a config")


def walk(value: Any, field: str, above: tuple[int, ...] = ()) -> Iterator[tuple[str, str, Any]]:
    """Every value with its field and the last name in it: ``("model.blocks[0].type", "type", "Net")``."""
    if id(value) in above:
        raise UntrustedFileError(f"{brief(field)}: holds itself")
    if len(above) > DEEPEST:
        raise UntrustedFileError(f"{field[:60]}: nested in more than {DEEPEST} lists or mappings")
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, item in items:
        where = f"{field}[{name}]" if isinstance(value, list | tuple) else f"{field}.{name}".lstrip(".")
        yield where, re.sub(r"(\[\d+\])+$", "", where).rpartition(".")[2], item
        yield from walk(item, where, (*above, id(value)))
