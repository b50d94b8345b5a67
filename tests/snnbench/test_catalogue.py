"""Configs by their short names."""

from __future__ import annotations

from pathlib import Path

import pytest

from snnbench import catalogue
from snnconv.cli.app import app
from tests.command_line import Runner

ROOT = Path(__file__).parents[2]


def test_every_config_has_a_name_of_its_own() -> None:
    files = [p for p in (ROOT / "configs").rglob("*.py") if p.parent.name != "_base_"]
    assert len(catalogue.names()) == len(files)
    assert set(catalogue.names().values()) == set(files)


def test_a_path_is_itself(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.touch()
    assert catalogue.find(own) == own


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(catalogue.ConfigNotFound, match=r"no config bccd/retinanet18; did you mean bccd/retinanet_r18"):
        catalogue.find("bccd/retinanet18")


def test_the_command_lists_them() -> None:
    done = Runner().invoke(app, ["bench", "--list"])
    assert done.exit_code == 0
    assert set(catalogue.names()) <= {line.strip() for line in done.output.splitlines()}


def test_the_command_without_a_config_says_what_it_takes() -> None:
    done = Runner().invoke(app, ["bench"])
    assert done.exit_code == 2
    assert "snnconv bench --list" in done.output
