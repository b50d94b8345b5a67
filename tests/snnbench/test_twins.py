"""Quantised networks put beside stored points: only where the row is the same and its metric comes out again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnbench import results
from snnbench.results.answers import Answers, word_of
from snnbench.results.twins import another, lacking, put
from tests.snnbench.test_leaderboard import record

pytest.importorskip("jsonschema")
TWIN = {
    "levels": 15,
    "metrics": {"top1": 87.0},
    "metrics_int8": {"top1": 86.5},
    "agreement": 0.99,
    "energies": {"45nm": 1e-6},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    results.write(tmp_path / "a.json", record(points={4: 80.0, 8: 88.0}))
    return tmp_path / "a.json"


def measured(stored: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**point, "twin": TWIN} for point in copy.deepcopy(stored["points"])]


def test_a_point_gets_its_twin_and_keeps_every_other_figure(path: Path) -> None:
    before = results.read(path)
    done, left = put(path, before, measured(before)[:1])
    after = results.read(path)
    assert ([p["timesteps"] for p in done], left) == ([4], [])
    assert after["points"] == [{**before["points"][0], "twin": TWIN}, before["points"][1]]
    assert {k: v for k, v in after.items() if k not in ("points", "notes")} == {
        k: v for k, v in before.items() if k not in ("points", "notes")
    }
    assert after["notes"][-1].startswith("The quantised networks of T = 4 were measured by a later run, whose top1")
    assert [p["timesteps"] for p in lacking(path, before)] == [8]


def test_a_metric_that_does_not_come_out_again_leaves_the_point_and_says_both(path: Path) -> None:
    before = results.read(path)
    found = measured(before)
    found[1]["metrics"]["top1"] = 88.1
    done, left = put(path, before, found)
    assert [p["timesteps"] for p in done] == [4]
    (sentence,) = left
    assert sentence.startswith("T = 8: top1 is 88.1 now and 88 in the file")
    assert not results.read(path)["points"][1].get("twin")
    assert another(before["points"][1], found[1], "top1") == sentence


def test_a_twin_that_stands_is_not_written_over(path: Path) -> None:
    before = results.read(path)
    put(path, before, measured(before))
    content = path.read_bytes()
    again = [{**point, "twin": {**TWIN, "levels": 7}} for point in measured(before)]
    assert put(path, before, again) == ([], [])
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weights", {"weights": "f" * 16}),
        ("samples", {"samples": 7}),
        ("method.fields.thresholds", {"method": {"name": "SignedIF", "fields": {"thresholds": "ltb"}}}),
        ("config.seed", {"config": {"seed": 3}}),
    ],
)
def test_another_row_is_refused_by_the_field_that_differs(path: Path, name: str, change: dict[str, Any]) -> None:
    stored = record(points={4: 80.0}, method={"name": "SignedIF", "fields": {"thresholds": "mse"}})
    stored["config"] = {"seed": 0, "images": 4}
    path.unlink()
    results.write(path, {**stored, "config_hash": results.config_hash(stored["config"])})
    before, content = results.read(path), path.read_bytes()
    with pytest.raises(results.ResultError, match=rf"a\.json: {name} is .* there and .* now"):
        put(path, {**before, **change}, measured(before))
    assert path.read_bytes() == content


def test_a_setting_that_the_file_does_not_know_is_left_to_the_metric(path: Path) -> None:
    before = results.read(path)
    newer = copy.deepcopy(before)
    newer["method"]["fields"]["new"] = 1
    newer["config"]["new"] = 1
    done, _ = put(path, newer, measured(before))
    assert len(done) == 2


def test_answers_beside_the_file_stay(path: Path) -> None:
    content = record(points={4: 80.0}, samples=50)
    rng = np.random.default_rng(0)
    kept = {word: {"right": rng.integers(0, 2, 50).astype(np.uint8)} for word in ("ann", word_of(content["points"][0]))}
    path.unlink()
    results.write(path, content, Answers("right", {"label": np.zeros(50, np.int32)}, kept))
    before = results.read(path)
    put(path, before, measured(before))
    after = results.read(path)
    assert after["answers"] == before["answers"]
    assert results.read_answers(path, after) is not None


def test_no_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(results.ResultError, match="there is no such file; measure the row"):
        lacking(tmp_path / "none.json", record(points={4: 80.0}))
