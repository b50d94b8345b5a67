"""benchmarks.zoo: which architectures are listed, and the table of what came of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.zoo import __main__ as zoo
from benchmarks.zoo import architectures

FOUND = [("a", "a_large", 9), ("a", "a_tiny", 1), ("b", "b_tiny", 2), ("b", "b_small", 3), ("c", "c_only", 8)]


def test_every_family_comes_before_a_second_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "WANTED", 3)
    assert [name for _, name, _ in architectures.chosen(FOUND)] == ["a_tiny", "b_tiny", "c_only"]
    monkeypatch.setattr(architectures, "WANTED", 4)
    assert len(architectures.chosen(FOUND)) == 5


def test_a_missing_list_says_how_to_write_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(architectures, "LIST", tmp_path / "architectures.txt")
    with pytest.raises(SystemExit, match=r"benchmarks\.zoo list"):
        architectures.listed()


def test_a_run_goes_on_where_it_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    out.write_text(json.dumps({"name": "one", "refused": "no"}) + "\n", encoding="utf-8")
    tried: list[str] = []

    def apart(name: str) -> dict[str, object]:
        tried.append(name)
        times = {"seconds": 300.0, "processor": 130.0, "capture": 1.0}
        return {"name": name, "way": "torch.fx", "sites": 3, "analog": {"silu": 2}} | times

    monkeypatch.setattr(zoo, "apart", apart)
    monkeypatch.setattr(zoo, "listed", lambda: ["one", "two"])
    zoo.run_all(["one", "two"], out, float("inf"), again=False)
    assert tried == ["two"]
    table = zoo.table_of(zoo.lines_of(out))
    assert (
        "2 of 2 architectures were tried; 1 convert (1 by torch.fx), 1 of them in more than 120 s of one core." in table
    )
    assert "| 130.0 |" in table
    assert "refused: no" in table
    assert "2 silu" in table
    zoo.run_all(["one"], out, float("inf"), again=True)
    assert tried == ["two", "one"]
