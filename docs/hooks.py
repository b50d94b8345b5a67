"""The site has the leaderboard's own page, as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

__all__ = ["on_files"]

PAGE = Path(__file__).parents[1] / "benchmarks" / "leaderboard.html"


def on_files(files: Any, config: Any) -> Any:
    """Add ``leaderboard-page.html`` to the files of the site."""
    files.append(File.generated(config, "leaderboard-page.html", content=PAGE.read_text(encoding="utf-8")))
    return files
