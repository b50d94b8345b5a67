"""The leaderboard's files: write them, or check that they are what the result files give."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from snnbench.leaderboard.render import load, to_html, to_markdown
from snnbench.results import ResultError, check_out, write_together

__all__ = ["check", "write"]

MARKDOWN = "LEADERBOARD.md"
PAGE = "leaderboard.html"


def write(folder: str | os.PathLike[str]) -> list[Path]:
    """Render ``results`` and ``published`` of ``folder`` into its ``LEADERBOARD.md`` and ``leaderboard.html``.

    Returns:
        The two files.

    Raises:
        ResultError: bad files, a sentence each with file, line and field; or a file that cannot be written.
    """
    if Path(folder).is_dir():
        for name in (MARKDOWN, PAGE):
            check_out(Path(folder) / name)
    rendered = _render(folder)
    write_together({path: text.encode() for path, text in rendered.items()})
    return list(rendered)


def check(folder: str | os.PathLike[str]) -> list[str]:
    """What of :func:`write` is not as it would be written now: a sentence each, none where all is well.

    Raises:
        ResultError: bad files, a sentence each with file, line and field.
    """
    found = []
    for path, text in _render(folder).items():
        try:
            stored = path.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            found.append(f"{path}: there is no such file; run snnconv leaderboard and commit it")
            continue
        if stored != text:
            lines = zip(stored.splitlines(), text.splitlines(), strict=False)
            same = next((i for i, (a, b) in enumerate(lines, start=1) if a != b), None)
            where = f"from line {same} on" if same else "at its end"
            found.append(
                f"{path}: differs {where} from what the result files give; run snnconv leaderboard and commit it"
            )
    return found


def _render(folder: str | os.PathLike[str]) -> Mapping[Path, str]:
    root = Path(folder)
    if not root.is_dir():
        raise ResultError(f"{root}: there is no such folder; it holds results/ and published/")
    boards = load(root / "results", root / "published")
    return {root / MARKDOWN: to_markdown(boards), root / PAGE: to_html(boards)}
