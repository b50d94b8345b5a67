"""A result file, or one of published numbers, among those that the leaderboard's pages are made of."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from snnbench import leaderboard, results
from tests.fuzz.changes import LINE, PAYLOAD, changed_json
from tests.fuzz.kind import Kind

ROOT = Path(__file__).parents[3] / "benchmarks"
MEASURED = "if.json"


def samples() -> dict[str, bytes]:
    """One of each."""
    return {
        MEASURED: (ROOT / "results" / "digits" / "if.json").read_bytes(),
        "published.json": (ROOT / "published" / "arxiv-2105-11654.json").read_bytes(),
    }


def read(path: Path) -> Any:
    """Both pages, of a folder that holds this file alone, beside measured results for published numbers."""
    if path.name == "published.json":
        with tempfile.TemporaryDirectory() as measured:
            Path(measured, MEASURED).write_bytes(samples()[MEASURED])
            boards = leaderboard.load(measured, path.parent)
    else:
        boards = leaderboard.load(path.parent)
    return leaderboard.to_markdown(boards), leaderboard.to_html(boards)


def odd(pages: tuple[str, str]) -> str:
    """A field became markup."""
    markdown, html = pages
    if PAYLOAD in markdown or PAYLOAD in html:
        return "a field is markup"
    return "a field is a line of its own" if LINE.splitlines()[1] in markdown.splitlines() else ""


KIND = Kind(samples, changed_json, read, (results.ResultError,), odd=odd,
            needs=("jsonschema", "jinja2"))  # fmt: skip
