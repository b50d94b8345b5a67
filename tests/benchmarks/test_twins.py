"""``--twins``: what is added later is what is written with the row, and only where its accuracy comes out again."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import classification, main, twins
from benchmarks.classification import Entry, Task
from snnbench import results
from snnconv import methods

ENTRIES = [
    Entry("shifted", (methods.ShiftedThreshold(2), methods.ShiftedThreshold(3))),
    Entry("signed", (methods.SignedIF(4),)),
    Entry("differential", (methods.MultiThreshold(2),)),
]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 5)).eval()
    x = torch.rand(200, 16)
    task = Task("classification", "noise", "MLP", model, [x[:50]], [(x, model(x).argmax(1))], folder=tmp_path)
    list(classification.run(task, ENTRIES, show_progress=False))
    return task


def stripped(path: Path, **changes: float) -> dict[str, dict]:
    """A file without its twins; the twins that it had, by T."""
    record = json.loads(path.read_text())
    found = {point["timesteps"]: point.pop("twin") for point in record["points"]}
    for point in record["points"]:
        point["metrics"] |= changes
    path.write_text(json.dumps(record))
    return found


def test_added_later_is_what_the_row_was_written_with(task: Task) -> None:
    files = {label: task.folder / f"{label}.json" for label in ("shifted", "signed", "differential")}
    before = {label: stripped(path) for label, path in files.items()}
    added = list(twins.add(task, ENTRIES))
    assert [(label, point["timesteps"]) for label, point in added] == [("shifted", 2), ("shifted", 3), ("signed", 4)]
    for label, path in files.items():
        after = {point["timesteps"]: point.get("twin") for point in results.read(path)["points"]}
        assert after == before[label]
    assert all(point["twin"]["agreement"] == 1 for label, point in added if label == "shifted")


def test_where_the_accuracy_is_another_the_file_is_left(task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    path = task.folder / "signed.json"
    stripped(path, top1=12.5)
    content = path.read_bytes()
    options = argparse.Namespace(twins=True)
    assert main.measure(task, ENTRIES[1:2], (4,), options) == 1
    printed = capsys.readouterr().out
    assert "signed                       left: T = 4: top1 is" in printed
    assert "and 12.5 in the file" in printed
    assert path.read_bytes() == content


def test_of_another_network_nothing_is_added(task: Task) -> None:
    stripped(task.folder / "signed.json")
    other = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 5)).eval()
    ((label, why),) = twins.add(dataclasses.replace(task, model=other), ENTRIES[1:2])
    assert label == "signed"
    assert "weights is" in str(why)


def test_rows_without_a_file_are_passed_over(task: Task, tmp_path: Path) -> None:
    assert list(twins.add(dataclasses.replace(task, folder=tmp_path / "empty"), ENTRIES)) == []
