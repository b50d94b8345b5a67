"""Public names say what they are: those of a module's ``__all__``, and the methods and properties of its classes."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import snnconv

PLUGIN = Path(snnconv.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PLUGIN.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PLUGIN.rglob("*.py")
    if "triton_gpu" not in path.parts and path.name != "__main__.py"  # need a GPU's packages; runs the command line
)


def without_docstring(module: object) -> list[str]:
    missing = []
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not getattr(value, "__module__", None) or not value.__module__.startswith("snnconv."):
            continue
        if inspect.isfunction(value) and not inspect.getdoc(value):
            missing.append(name)
        if not inspect.isclass(value) or getattr(
            value, "_is_protocol", False
        ):  # a protocol says it in its own docstring
            continue
        members = [
            k for k, v in vars(value).items() if callable(v) or isinstance(v, (property, classmethod, staticmethod))
        ]
        public = [k for k in members if not k.startswith("_") and k not in getattr(value, "__dataclass_fields__", {})]
        missing += [f"{name}.{k}" for k in public if not inspect.getdoc(getattr(value, k))]
    return missing


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring_of_its_own_or_of_what_it_overrides(name: str) -> None:
    assert without_docstring(importlib.import_module(name)) == []


def without_raises(module: ModuleType) -> list[str]:
    """Public functions that raise an error and do not say so; a command's docstring is its help."""
    if module.__name__.startswith("snnconv.cli.") and not module.__name__.endswith((".inputs", ".models")):
        return []
    found = []
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.FunctionDef) or node.name not in getattr(module, "__all__", ()):
            continue
        raises = any(isinstance(n, ast.Raise) and n.exc is not None for n in ast.walk(node))
        if raises and "Raises:" not in (ast.get_docstring(node) or ""):
            found.append(node.name)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_says_what_it_raises(name: str) -> None:
    assert without_raises(importlib.import_module(name)) == []


@pytest.mark.parametrize("name", MODULES)
def test_every_name_that_a_module_offers_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert [n for n in getattr(module, "__all__", ()) if not hasattr(module, n)] == []
