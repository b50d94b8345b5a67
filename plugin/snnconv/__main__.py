"""``python -m snnconv``: the command line."""

from snnconv.cli.app import app

app(prog_name="snnconv")
