"""The list of lines that no test runs gives each of them one reason."""

from __future__ import annotations

from pathlib import Path

from tests.uncovered import HANDLER, NOTHING, OTHER, REFUSAL, reasons

SOURCE = """
def f(x):
    if x is None:
        return None
    try:
        y = g(x)
    except ImportError as error:
        y = 0
        raise ValueError from error
    if y < 0:
        raise ValueError("negative")
    return y + 1


class A:
    def f(self):
        return f(0)
"""


def test_reasons_are_read_from_what_a_line_says(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(SOURCE, encoding="utf-8")
    found = sorted(reasons(tmp_path / "m.py", {4, 7, 8, 9, 11, 12, 17}, OTHER))
    assert found == sorted(
        [("f", NOTHING), ("f", HANDLER), ("f", HANDLER), ("f", REFUSAL), ("f", REFUSAL), ("f", OTHER), ("A.f", OTHER)]
    )
