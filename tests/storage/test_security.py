"""SECURITY.md promises nothing without a test."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fuzz.kind import KINDS

ROOT = Path(__file__).parents[2]


def test_every_line_names_a_test_that_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named
    assert not [name for name in named if f"def {name}(" not in code]
    rows = [row for row in text.splitlines() if row.startswith("| a ")]
    assert rows
    assert all("`test_" in row for row in rows)


def test_every_kind_of_file_that_is_fuzzed_has_its_line_and_every_safe_line_its_kind() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    safe = [row for row in text.partition("## Not safe")[0].splitlines() if row.startswith("| a ")]
    named = [kind for row in safe for kind in row.rstrip("| ").rpartition("|")[2].strip().split(", ")]
    assert sorted([*named, "arguments"]) == sorted(KINDS)
