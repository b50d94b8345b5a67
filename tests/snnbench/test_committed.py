"""What committed results promise: commands that can be typed in a checkout today, and lossless quantised networks."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmengine", reason="needs the bench extra")
import typer.main

from benchmarks import main
from snnbench import results
from snnbench.catalogue import find
from snnbench.config import load_config
from snnconv.cli.app import app

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "benchmarks/results").rglob("*.json"))


def commands() -> dict[str, list[dict[str, Any]]]:
    """Command → the rows that name it, for themselves or for a point."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in FILES:
        record = json.loads(path.read_text(encoding="utf-8"))
        typed = {record["command"], *(p["run"]["command"] for p in record["points"] if "command" in p.get("run", {}))}
        for command in typed:
            found.setdefault(command, []).append(record)
    return found


COMMANDS = commands()


class Parsed(Exception):
    """Stops a command behind its options."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_committed_command_is_one_of_today_and_measures_its_rows(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    if words[0] == "snnconv":
        of_bench(words[1:], COMMANDS[command])
    else:
        assert words[:2] == ["python", "-m"]
        of_module(words[2], words[3:], COMMANDS[command], monkeypatch)


def of_bench(words: list[str], rows: list[dict[str, Any]]) -> None:
    group: Any = typer.main.get_command(app)
    assert words[0] == "bench"
    given = group.commands["bench"].make_context("bench", words[1:]).params
    config = load_config(find(given["config"]))
    assert {(config.bench.dataset, config.bench.architecture)} == {(r["dataset"], r["architecture"]) for r in rows}
    labels = [str(row.get("label", row["type"])) for row in config.bench.methods]
    wanted = given["methods"].split(",") if given["methods"] else labels
    kept = {label for label, chosen in zip(labels, results.chosen(labels, wanted), strict=True) if chosen}
    assert {row["label"] for row in rows} <= kept


def of_module(name: str, words: list[str], rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    assert callable(module.run)
    parsed: list[argparse.Namespace] = []

    def stop(options: argparse.Namespace) -> None:
        parsed.append(options)
        raise Parsed

    monkeypatch.setattr(main, "each_seed", stop)
    monkeypatch.setattr(module, "resnet20_cifar10", lambda path: None, raising=False)
    monkeypatch.setattr(module, "find", lambda file: None, raising=False)
    with pytest.raises(Parsed):
        module.run(words)
    (options,) = parsed
    network = getattr(options, "network", None)
    if network is not None:
        made = module.NETWORKS[network]
        labels = [entry.label for entry in module.entries(made, made.rate_norm and made.rate_norm())]
        assert {row["architecture"].removesuffix(", rate norm") for row in rows} == {made.architecture}
    else:
        from snnbench.networks.models import ResNet20

        labels = [entry.label for entry in module.entries(ResNet20(), None)]
    kept = main.chosen([argparse.Namespace(label=label) for label in labels], options.methods)  # type: ignore[misc]
    assert {row["label"] for row in rows} <= {entry.label for entry in kept}


def twins(control: bool) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Points of shifted threshold that have their quantised network beside them, of control or of all other tasks."""
    for path in FILES:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["method"]["name"] == "ShiftedThreshold" and (record["task"] == "control") == control:
            for point in record["points"]:
                if point.get("twin"):
                    yield f"{path}, T = {point['timesteps']}", record, point


def test_shifted_threshold_plays_like_its_quantised_network_as_far_as_episodes_tell() -> None:
    found = list(twins(control=True))
    for name, record, point in found:  # an action decides what is seen next, so that rounding grows along an episode
        error = point["metrics"]["return_std"] / math.sqrt(record["samples"])
        off = abs(point["twin"]["metrics"]["return"] - point["metrics"]["return"])
        assert off <= error, f"{name}: {off}, standard error {error}"
    assert len(found) >= 24


def test_shifted_threshold_is_as_good_as_its_quantised_network_wherever_both_were_measured() -> None:
    found = list(twins(control=False))
    for name, record, point in found:
        twin = point["twin"]
        # what lies on the border of two levels may fall to either side of it in float32: 5 of 10,000 pictures
        otherwise = round((1 - twin["agreement"]) * record["samples"])
        assert otherwise <= 5e-4 * record["samples"], f"{name}: {otherwise} answers"
        off = abs(twin["metrics"][record["metric"]] - point["metrics"][record["metric"]])
        assert off <= 100 * otherwise / record["samples"] + 1e-9, f"{name}: {off} points"
    assert len(found) >= 66
