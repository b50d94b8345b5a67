"""The command line ``snnconv``: the package's own commands, and those of other packages.

A package adds a command by an entry point of the group ``snnconv.commands``: a function with typer's annotations.
"""

from __future__ import annotations

import platform
from importlib.metadata import entry_points
from typing import Annotated

import typer

from snnconv._version import __version__
from snnconv.cli.command import register
from snnconv.cli.commands import compare, convert, doctor, eval_, profile
from snnconv.cli.demo import demo
from snnconv.cli.recommend import recommend
from snnconv.cli.report import report

__all__ = ["app"]

STATUS = (
    "Exit status: 0 done; 1 it ran and the answer is no (no method meets the budget, pages are out of date); 2 "
    "something given cannot be used or a required package is missing, and a sentence says what; 130 interrupted."
)
FIRST = "Begin with: snnconv demo"

app = typer.Typer(
    name="snnconv",
    help="Convert trained PyTorch networks into spiking networks, and measure them.",
    epilog=f"{FIRST}\n\n{STATUS}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        import torch

        typer.echo(f"snnconv {__version__}, Python {platform.python_version()}, torch {torch.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What holds for every command."""


for _function in (demo, convert, eval_, compare, profile, report, recommend, doctor):
    register(app, _function)
for _entry in entry_points(group="snnconv.commands"):
    register(app, _entry.load())


if __name__ == "__main__":
    app()
