"""What an error of another library says may hold any text of a file: readers repeat it in short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    "plugin/snnconv/files", "plugin/snnconv/storage", "plugin/snnconv/export/nir", "plugin/snnconv/export/onnx_in",
    "plugin/snnconv/conversion/statistics.py", "plugin/snnconv/control", "benchmarks/snnbench/data",
    "benchmarks/snnbench/results", "benchmarks/snnbench/leaderboard", "benchmarks/snnbench/weights",
    "benchmarks/snnbench/networks/models.py", "benchmarks/snnbench/config.py", "benchmarks/snnbench/config_data.py",
    "benchmarks/snnbench/train.py",
)  # fmt: skip
"""Where files of strangers are read."""
SHORT = {"OSError", "ImportError", "NotFoundError", "FileNotFoundError", "ModuleNotFoundError"}
"""Errors that say names and paths alone."""


def files() -> list[Path]:
    return [path for room in ROOMS for path in ([ROOT / room] if room.endswith(".py") else (ROOT / room).rglob("*.py"))]


def own_errors() -> set[str]:
    """Errors of the project: what they say was made short where they were raised."""
    found: set[str] = set()
    classes = [
        node
        for package in ("plugin/snnconv", "benchmarks/snnbench")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    for _ in range(3):  # errors of errors
        for node in classes:
            bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
            if bases & found or any(base.endswith(("Error", "Exception")) for base in bases):
                found.add(node.name)
    return found


def repeated(text: str, own: set[str]) -> Iterator[str]:
    """The lines that put the whole of what another's error says into a message."""
    for handler in ast.walk(ast.parse(text)):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None:
            continue
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if all(kind is not None and ast.unparse(kind).rpartition(".")[2] in own | SHORT for kind in kinds):
            continue
        for part in ast.walk(handler):
            if isinstance(part, ast.FormattedValue) and ast.unparse(part.value) in (
                handler.name,
                f"str({handler.name})",
            ):
                yield f"line {part.lineno}: {ast.unparse(part.value)}"


def test_what_the_error_of_another_says_is_repeated_in_short() -> None:
    own, found = own_errors(), files()
    assert len(found) > 40
    for path in found:
        assert list(repeated(path.read_text(encoding="utf-8"), own)) == [], path


@pytest.mark.parametrize("kind", ["Exception", "(KeyError, OSError)", "json.JSONDecodeError"])
def test_one_that_is_repeated_whole_is_found(kind: str) -> None:
    text = f"try:\n    pass\nexcept {kind} as error:\n    raise ValueError(f'damaged ({{error}})') from error\n"
    assert list(repeated(text, own_errors())) == ["line 4: error"]
