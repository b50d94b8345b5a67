"""Where packages are installed, for mmengine, which asks ``pkg_resources``; newer setuptools have none.

``_base_ = "mmdet::..."`` in a config is what asks. Where there is no ``pkg_resources``, a module of the same name
answers what mmengine asks from ``importlib.metadata``.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

__all__ = ["install"]


class _Finder(MetaPathFinder):
    """Finds our ``pkg_resources``; it is asked last, so that an installed one comes first."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != "pkg_resources":
            return None
        return importlib.util.spec_from_file_location(fullname, Path(__file__).with_name("pkg_resources_stand_in.py"))


def install() -> None:
    """Let ``import pkg_resources`` find what mmengine needs of it; calling it again changes nothing.

    >>> install()
    >>> import pkg_resources
    >>> pkg_resources.get_distribution("torch").has_metadata("no such file")
    False
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
