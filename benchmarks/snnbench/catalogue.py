"""The benchmark configs by their short names: ``bccd/retinanet_r18`` is ``configs/detection/bccd/retinanet_r18.py``.

A checkout reads its own folder ``configs``; an installed package the copy that came with it.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

__all__ = ["ConfigNotFound", "find", "folder", "names"]


class ConfigNotFound(ValueError):
    """No config of that name or path; the message lists the nearest."""


def folder() -> Path:
    """The folder of the configs.

    >>> (folder() / "_base_").is_dir()
    True
    """
    installed = Path(__file__).with_name("configs")
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def names() -> dict[str, Path]:
    """Every config by its short name, the last folder and the file's stem.

    >>> "cifar10/resnet20" in names()
    True
    """
    found = sorted(path for path in folder().rglob("*.py") if not any(p.startswith("_") for p in path.parts[-3:]))
    return {f"{path.parent.name}/{path.stem}": path for path in found}


def find(config: str | os.PathLike[str]) -> Path:
    """The file of a config, given as a path or by its short name.

    Raises:
        ConfigNotFound: neither.

    >>> find("cifar10/resnet20").name
    'resnet20.py'
    """
    path = Path(config)
    if path.is_file():
        return path
    known = names()
    name = path.as_posix()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ConfigNotFound(f"there is no config {name}{hint} (snnconv bench --list shows all)")
