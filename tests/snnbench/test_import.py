"""The suite stands on the plugin and on itself, so that it works from the wheel."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import snnbench

SUITE = Path(snnbench.__file__).parent
FILES = sorted(SUITE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SUITE).as_posix())
def test_nothing_of_the_checkout_is_imported(path: Path) -> None:
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        wrong += [f"line {node.lineno}: {name}" for name in names if name.split(".")[0] in ("benchmarks", "tests")]
    assert not wrong
