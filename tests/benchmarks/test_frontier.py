"""The frontier of accuracy against operations: its points, what they are a share of, and the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import frontier
from benchmarks.data import DataError
from snnconv import methods


def test_no_point_is_measured_twice() -> None:
    keys = [point.key for point in frontier.wanted()]
    assert len(set(keys)) == len(keys)


def test_a_share_comes_behind_the_point_it_is_a_share_of() -> None:
    uniform: set[int] = set()
    for point in frontier.wanted():
        if point.share is None:
            uniform.add(point.method.timesteps)
        else:
            assert point.method.timesteps in uniform, point.key


def test_steps_by_layer_keep_to_the_operations_of_uniform_steps() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    x = torch.randn(32, 3, 8, 8)
    with torch.no_grad():
        test = [(x, model(x).argmax(1))]
    found: dict[str, Any] = {}
    for share in (None, 0.75):
        point = frontier.Wanted("frontier", "any", methods.ShiftedThreshold(4), share)
        found[point.key] = frontier.measured(model, point, found, [x], test, 0)
    whole, part = found.values()
    assert part["sops"] < whole["sops"]
    assert 0 < part["top1"] <= 100


def test_a_share_of_nothing_measured_is_refused() -> None:
    point = frontier.Wanted("frontier", "any", methods.ShiftedThreshold(4), 1.0)
    with pytest.raises(DataError, match="uniform T = 4 takes: measure it"):
        frontier.measured(None, point, {}, [], [], 0)


def test_tables_and_plot_show_every_point(tmp_path: Path) -> None:
    points: dict[str, Any] = {}
    for number, point in enumerate(frontier.wanted()):
        points[point.key] = {
            "part": point.part,
            "label": point.label,
            "timesteps": point.method.timesteps,
            "share": point.share,
            "top1": 50 + number / 100,
            "sops": 1e6 * (number + 1),
            "seconds": 1.0,
        }
    record = {"points": points, "ann": 88.0, "settings": {"images": 10_000}}
    text = frontier.tables(record)
    assert all(f"{entry['top1']:.2f}" in text for entry in points.values())
    frontier.plot(record, tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 1000


def test_points_of_other_settings_are_not_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "frontier.json"
    file.write_text(json.dumps({"settings": {"images": 100}, "points": {"a": 1}, "ann": 88.0}))
    assert frontier._begin(file, {"images": 100}, resume=True)["points"] == {"a": 1}
    assert frontier._begin(file, {"images": 200}, resume=True) == {"points": {}}
    assert frontier._begin(file, {"images": 100}, resume=False) == {"points": {}}
