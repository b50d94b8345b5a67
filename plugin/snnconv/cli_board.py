"""The commands that compare methods: ``snnconv leaderboard | recommend``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["leaderboard"]


def leaderboard(
    *,
    folder: Annotated[Path, typer.Option(help="Holds results/ and published/; gets the pages.")] = Path("benchmarks"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the pages are not what the result files give.")
    ] = False,
) -> None:
    """Render the result files into LEADERBOARD.md and leaderboard.html, or check that they are up to date."""
    from snnconv import leaderboard as board

    if not check:
        for path in board.write(folder):
            typer.echo(f"wrote {path}")
        return
    outdated = board.check(folder)
    for sentence in outdated:
        typer.secho(sentence, fg="red", err=True)
    if outdated:
        raise typer.Exit(1)
    typer.echo(f"the pages in {folder} are what its result files give")
