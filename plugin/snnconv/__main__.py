"""``python -m snnconv``: the command line."""

from snnconv.cli.app import app

__all__: list[str] = []

app(prog_name="snnconv")
