"""Where packages are installed, for mmengine, which asks ``pkg_resources``; newer setuptools have none.

``_base_ = "mmdet::..."`` in a config is what asks. Where there is no ``pkg_resources``, a module of the same name
answers what mmengine asks from ``importlib.metadata``.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

__all__ = ["found"]

STAND_IN = Path(__file__).with_name("pkg_resources_stand_in.py")


class _Finder(MetaPathFinder):
    """Finds our ``pkg_resources``; it is asked last, so that an installed one comes first."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return importlib.util.spec_from_file_location(fullname, STAND_IN) if fullname == "pkg_resources" else None


@contextmanager
def found() -> Iterator[None]:
    """While it lasts, ``import pkg_resources`` finds what mmengine needs of it.

    Afterwards the module is gone again: others, who look whether there is one, want more of it.

    >>> with found():
    ...     import pkg_resources
    ...     pkg_resources.get_distribution("torch").has_metadata("no such file")
    False
    """
    finder = _Finder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        module = sys.modules.get("pkg_resources")
        if module is not None and getattr(module, "__file__", None) == str(STAND_IN):
            del sys.modules["pkg_resources"]
