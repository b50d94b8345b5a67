"""Old import paths: served for one release with a warning, or gone with a sentence."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import snnconv
from snnconv import _moved

CHECK = """
import importlib, warnings, snnconv
for old, new in snnconv._moved.MODULES.items():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        got = importlib.import_module(old)
    assert got is importlib.import_module(new), old
    assert got.__spec__.name == new, got.__spec__
    words = [str(w.message) for w in said if w.category is DeprecationWarning]
    assert any(f"{old} is now {new}" in w for w in words), (old, words)
assert callable(snnconv.convert)
assert callable(snnconv.prepare)
"""


def test_a_moved_module_is_the_new_one_and_warns() -> None:
    subprocess.run([sys.executable, "-c", CHECK], check=True)


def test_the_old_name_is_not_bound_on_its_package() -> None:
    sys.modules.pop("snnconv.convert", None)
    with pytest.warns(DeprecationWarning, match=r"snnconv\.convert is now snnconv\.conversion\.convert"):
        importlib.import_module("snnconv.convert")
    assert snnconv.convert is importlib.import_module("snnconv.conversion.convert").convert


@pytest.mark.parametrize(
    ("package", "new", "name"), [(p, new, name) for p, (new, names) in _moved.NAMES.items() for name in names]
)
def test_a_moved_name_is_the_new_one_and_warns(package: str, new: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{package}.{name} is now {new}.{name}"):
        old = getattr(importlib.import_module(package), name)
    assert old is getattr(importlib.import_module(new), name)


@pytest.mark.parametrize("name", _moved.SUITE)
def test_what_moved_to_the_suite_says_so(name: str) -> None:
    with pytest.raises(ImportError, match="snnbench"):
        importlib.import_module(f"snnconv.{name}")


def test_other_names_are_missing_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'snnconv\.nowhere'"):
        importlib.import_module("snnconv.nowhere")
    with pytest.raises(AttributeError, match="no attribute 'nowhere'"):
        snnconv.activations.nowhere  # noqa: B018
