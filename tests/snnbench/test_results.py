"""Result files: what they must hold, how they are written, and what a resumed run keeps."""

from __future__ import annotations

import copy
import errno
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import snnconv
from snnbench import results
from snnbench.results.json_lines import as_text
from snnconv import methods

pytest.importorskip("jsonschema")

ROOT = Path(__file__).parents[2]
COMMITTED = sorted((ROOT / "benchmarks" / "results").rglob("*.json"))
CONFIG = {"dataset": "digits", "seed": 0}
SECONDS = {"convert": 1.0, "evaluate": 2.0}
COUNTED = {
    "pipelined_latency": 8, "spikes": 10.0, "spikes_per_neuron": 0.5, "sops": 100.0, "macs": 20.0, "energy_joule": 1e-6,
    "energy_ratio": 0.5, "memory_mib": 300.0,
}  # fmt: skip


def header(**fields: Any) -> results.Record:
    return {
        "task": "classification",
        "dataset": "digits",
        "split": "test",
        "samples": 450,
        "architecture": "digits-cnn",
        "label": "IF",
        "method": results.describe(methods.IF(8)),
        "metric": "top1",
        "higher_is_better": True,
        "ann": {"metrics": {"top1": 98.0}, "seconds": 0.1, "macs": 40.0, "energy_joule": 2e-6},
        "sites": {"spiking": 3, "analog": [{"name": "act", "operator": "silu", "reason": "no spiking equivalent"}]},
        "training": None,
        "config": CONFIG,
        "weights": "0123456789abcdef",
        **results.provenance(0),
        **fields,
    }


def measured(timesteps: int = 8, top1: float = 90.0, **fields: Any) -> results.Point:
    return results.point(timesteps, {"top1": top1}, SECONDS, **{**COUNTED, **fields})


def row(*points: results.Point, **fields: Any) -> results.Record:
    record = results.begin("no such folder/a.json", header(**fields))
    for item in points or (measured(4), measured(8)):
        record = results.with_point(record, item)
    return record


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "if.json"
    results.write(path, row())
    return path


class TestFiles:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        record = row(measured(8, thresholds={"act": [0.1, 0.2, 0.3]}), notes=["τ is Greek"])
        results.write(tmp_path / "new" / "if.json", record)
        assert results.read(tmp_path / "new" / "if.json") == record
        assert [p.name for p in (tmp_path / "new").iterdir()] == ["if.json"]

    @given(st.floats(allow_nan=False, allow_infinity=False), st.text())
    def test_every_number_and_every_text_come_back(self, number: float, text: str) -> None:
        record = row(measured(8, number), config={"a": [number, text.encode("utf-8", "replace").decode()]})
        assert json.loads(as_text(record)) == record

    def test_short_objects_take_one_line(self, stored: Path) -> None:
        assert '      "window": [1, 8],\n      "metrics": {"top1": 90.0},\n' in stored.read_text()

    def test_killed_while_writing_leaves_the_old_file(self, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        old = stored.read_bytes()

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            results.write(stored, row(measured(16)))
        assert stored.read_bytes() == old
        assert list(stored.parent.iterdir()) == [stored]

    def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(self, stored: Path, monkeypatch) -> None:
        old = stored.read_bytes()

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(results.ResultError, match=r"if\.json: no space left to write it; free some"):
            results.write(stored, row(measured(16)))
        assert stored.read_bytes() == old
        assert list(stored.parent.iterdir()) == [stored]

    def test_a_folder_that_cannot_be_written_is_named(self, stored: Path) -> None:
        with pytest.raises(results.ResultError, match=r"inside\.json: cannot be written"):
            results.write(stored / "inside.json", row())

    def test_a_bad_record_is_not_written(self, stored: Path) -> None:
        old = stored.read_bytes()
        with pytest.raises(results.ResultError, match=r"if\.json: points\[0\]\.metrics\.top1 is not finite"):
            results.write(stored, row(measured(top1=float("nan"))))
        with pytest.raises(results.ResultError, match=r"points\[0\]\.spikes is neither number nor text"):
            results.write(stored, row(measured(spikes=torch.tensor(3.0))))
        assert stored.read_bytes() == old

    def test_a_folder_is_read_with_everything_below_it(self, stored: Path) -> None:
        results.write(stored.parent / "more" / "b.json", row())
        (stored.parent / "plot.png").write_bytes(b"")
        assert list(results.read_all(stored.parent)) == [stored, stored.parent / "more" / "b.json"]
        with pytest.raises(results.ResultError, match="nowhere: there is no such folder"):
            results.read_all(stored.parent / "nowhere")

    def test_every_bad_file_of_a_folder_is_named(self, stored: Path) -> None:
        for name in ("x.json", "y.json"):
            (stored.parent / name).write_text("{")
        with pytest.raises(results.ResultError, match=r"(?s)x\.json: line 1.*\n.*y\.json: line 1"):
            results.read_all(stored.parent)


class TestNotJson:
    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b'{\n  "schema": "snnconv-result/3",\n  "task"\n}', r"if\.json: line 4, column 1: not JSON"),
            (b'{"schema": ', r"line 1, column 12: not JSON"),
            (b"", r"line 1, column 1: not JSON"),
            (b'{\n"label": "\xff"}', r"line 2: not UTF-8 text"),
            (b"[" * 100_000, "not JSON that can be read"),
            (b"[1]", r"holds \[1\] where a result is an object"),
        ],
        ids=["missing colon", "truncated", "empty", "bytes", "deep", "list"],
    )
    def test_is_named_with_its_line(self, tmp_path: Path, content: bytes, sentence: str) -> None:
        path = tmp_path / "if.json"
        path.write_bytes(content)
        with pytest.raises(results.ResultError, match=sentence):
            results.read(path)

    def test_an_absent_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(results.ResultError, match=r"if\.json: there is no such file"):
            results.read(tmp_path / "if.json")
        with pytest.raises(results.ResultError, match="cannot be read"):
            results.read(tmp_path)


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        for part in path[:-1]:
            record = record[part]
        record[path[-1]] = to

    return change


def _drop(*path: Any) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        for part in path[:-1]:
            record = record[part]
        del record[path[-1]]

    return change


class TestValidate:
    def test_a_full_record_is_valid(self) -> None:
        results.validate(row())

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (_drop("schema"), "schema is missing, this release reads 'snnconv-result/3'"),
            (_set("schema", to="snnconv-result/9"), "schema is 'snnconv-result/9', this release reads"),
            (_drop("split"), "split is missing"),
            (_drop("points", 1, "metrics"), "points[1].metrics is missing"),
            (_set("colour", to=1), "colour is no field of snnconv-result/3"),
            (_set("points", 0, "colour", to=1), "points[0].colour is no field of snnconv-result/3"),
            (_set("task", to="poetry"), "task is 'poetry', it must be one of classification, segmentation"),
            (_set("label", to=""), "label: '' should be non-empty"),
            (_set("samples", to=0), "samples: 0 is less than the minimum of 1"),
            (_set("points", to=[]), "points: [] should be non-empty"),
            (
                _set("points", 1, "metrics", "top1", to="90"),
                "points[1].metrics.top1 is '90', it must be of type number or null",
            ),
            (_set("points", 1, "sops", to=-1), "points[1].sops: -1 is less than the minimum of 0"),
            (_set("points", 1, "sops", to=float("inf")), "points[1].sops is not finite"),
            (_set("points", 1, "sops", to=None), "points[1].sops is null and notes does not say why"),
            (_set("ann", "macs", to=None), "ann.macs is null and notes does not say why"),
            (_set("points", 0, "window", to=[2, 9]), "points[0].window is [2, 9]"),
            (_set("points", 0, "window", to=[3, 2]), "points[0].window is [3, 2]"),
            (_set("points", 0, "window", to=[1]), "points[0].window: [1] is too short"),
            (_set("points", 0, "latency", to=5), "points[0].latency is 5"),
            (_set("points", 0, "thresholds", to={"act": [1.0]}), "points[0].thresholds.act: [1.0] is too short"),
            (_set("metric", to="mIoU"), "ann.metrics.mIoU is missing"),
            (_set("points", 1, "metrics", to={"top5": 1.0}), "points[1].metrics.top1 is missing"),
            (_set("points", 1, "metrics", "top1", to=None), "points[1].metrics.top1 is missing"),
            (_set("config", "seed", to=1), "config_hash is "),
            (_set("weights", to="xyz"), "weights: 'xyz' does not match"),
            (_set("points", 0, "metrics", "top1", to=100.5), "points[0].metrics.top1 is 100.5: a percentage lies"),
            (_set("ann", "metrics", "top1", to=-1), "ann.metrics.top1 is -1: a percentage lies between 0 and 100"),
            (_set("points", 0, "sops", to=10**400), "points[0].sops is beyond 1e+30, no measurement"),
            (_set("label", to="\ud800"), "label holds half a character of UTF-16"),
            (_set("config", to={"settings": 3}), "config.settings is 3, it must be of type object or null"),
            (_set("config", to={"deep": json.loads("[" * 40 + "]" * 40)}), "config: nested in more than 30 lists"),
            (_set("machine", "threads", to=True), "machine.threads is True, it must be of type integer"),
            (_set("sites", "analog", 0, "reason", to=None), "sites.analog[0].reason is None"),
            (_set("notes", to=[""]), "notes[0]: '' should be non-empty"),
            (lambda r: r["points"].reverse(), "points[1] is out of order"),
            (lambda r: r["points"].append(r["points"][1]), "points[2] has the timesteps, pre_timesteps and window of"),
        ],
    )
    def test_file_field_and_fault_are_named(self, tmp_path: Path, change: Callable[[Any], None], sentence: str) -> None:
        record = copy.deepcopy(row())
        change(record)
        with pytest.raises(results.ResultError) as caught:
            results.validate(record, "if.json")
        assert str(caught.value).startswith(f"if.json: {sentence}")
        (tmp_path / "if.json").write_text(json.dumps(record))  # JSON has NaN and Infinity for Python
        with pytest.raises(results.ResultError):
            results.read(tmp_path / "if.json")

    def test_a_note_explains_what_is_null(self) -> None:
        results.validate({**row(measured(sops=None)), "notes": ["SpikingJelly counts no operations"]})

    def test_windows_of_one_run_are_points_of_their_own(self) -> None:
        windows = [(1, 4), (1, 8), (5, 8)]
        record = row(*(measured(8, window=w) for w in reversed(windows)))
        results.validate(record)
        assert [p["window"] for p in record["points"]] == [list(w) for w in windows]
        assert [p["latency"] for p in record["points"]] == [4, 8, 8]

    def test_srp_counts_both_phases(self) -> None:
        record = row(measured(4, pre_timesteps=4), measured(4, pre_timesteps=2))
        results.validate(record)
        assert [(p["pre_timesteps"], p["latency"]) for p in record["points"]] == [(2, 6), (4, 8)]


class TestResume:
    def test_points_of_the_same_config_are_kept(self, stored: Path) -> None:
        record = results.begin(stored, header())
        assert [p["timesteps"] for p in record["points"]] == [4, 8]
        assert results.finished(record, CONFIG, 8) == measured(8)
        assert results.finished(record, CONFIG, 16) is None
        assert results.finished(record, CONFIG, 8, pre_timesteps=4) is None
        assert results.finished(record, CONFIG, 8, window=(1, 8)) == measured(8)
        assert results.finished(record, CONFIG, 8, window=(2, 8)) is None

    def test_points_of_another_config_are_measured_again(self, stored: Path) -> None:
        other = {**CONFIG, "seed": 1}
        assert results.begin(stored, header(config=other))["points"] == []
        assert results.finished(results.read(stored), other, 8) is None

    def test_nothing_is_kept_of_an_absent_file(self, stored: Path) -> None:
        stored.unlink()
        assert results.begin(stored, header())["points"] == []

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda text: "<<<<<<< ours\n" + text, "line 1, column 1: not JSON"),
            (lambda text: text[: len(text) // 2], "not JSON"),
            (lambda text: "", "not JSON"),
            (lambda text: text.replace("snnconv-result/3", "snnconv-benchmark/1"), "this release reads"),
            (lambda text: text.replace('"top1": 90.0', '"top1": 190.0'), "a percentage lies between 0 and 100"),
        ],
        ids=["marks of a merge", "half", "empty", "another layout", "impossible"],
    )
    def test_a_damaged_file_is_refused_and_stays(self, stored: Path, damage: Callable[[str], str], reason: str) -> None:
        record = row(measured(16))
        content = damage(stored.read_text())
        stored.write_text(content)
        for use in (
            lambda: results.begin(stored, header()),
            lambda: results.write(stored, record),
            lambda: results.check_place(stored),
        ):
            with pytest.raises(results.ResultError, match=rf"if\.json: .*{reason}.*; it is not written over: mend it"):
                use()
        assert stored.read_text() == content
        assert list(stored.parent.iterdir()) == [stored]

    def test_a_config_without_bottom_is_refused(self) -> None:
        deep: Any = 1
        for _ in range(5000):
            deep = [deep]
        for use in (lambda: results.config_hash({"a": deep}), lambda: row(config={"a": deep})):
            with pytest.raises(results.ResultError, match="config is nested too deep"):
                use()

    def test_a_place_is_tried_before_the_work(self, tmp_path: Path) -> None:
        results.check_place(tmp_path / "new" / "if.json")
        assert list((tmp_path / "new").iterdir()) == []
        (tmp_path / "file").touch()
        with pytest.raises(results.ResultError, match=r"file/if\.json: cannot be written"):
            results.check_place(tmp_path / "file" / "if.json")
        (tmp_path / "if.json").mkdir()
        with pytest.raises(results.ResultError, match=r"if\.json: cannot be (read|written)"):
            results.check_place(tmp_path / "if.json")

    def test_runs_that_write_at_once_keep_each_others_points(self, tmp_path: Path) -> None:
        path = tmp_path / "if.json"

        def run(steps: range) -> None:
            for t in steps:
                results.write(path, results.with_point(results.begin(path, header()), measured(t)))

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(run, [range(1, 9), range(11, 19), range(21, 29)]))
        assert [p["timesteps"] for p in results.read(path)["points"]] == [*range(1, 9), *range(11, 19), *range(21, 29)]
        assert list(tmp_path.iterdir()) == [path]

    def test_a_run_that_began_earlier_writes_beside_what_came_meanwhile(self, tmp_path: Path) -> None:
        path = tmp_path / "if.json"
        early = results.begin(path, header())
        results.write(path, row(measured(4, 40.0), measured(8, 80.0), notes=["another run"]))
        results.write(path, results.with_point(early, measured(8, 85.0), ["this run"]))
        found = results.read(path)
        assert [(p["timesteps"], p["metrics"]["top1"]) for p in found["points"]] == [(4, 40.0), (8, 85.0)]
        assert found["notes"] == ["this run", "another run"]

    def test_a_point_of_unknown_window_does_not_come_back(self, tmp_path: Path) -> None:
        path = tmp_path / "if.json"
        results.write(path, row({**measured(8, 80.0), "window": None}, notes=["not known"]))
        results.write(path, results.with_point(results.begin(path, header()), measured(8, 85.0, window=(3, 8))))
        assert [p["window"] for p in results.read(path)["points"]] == [[3, 8]]

    def test_no_row_has_no_finished_point(self) -> None:
        assert results.finished(None, CONFIG, 8) is None

    def test_what_the_config_decides_is_taken_over(self, stored: Path) -> None:
        record = results.begin(stored, header(ann=None, sites=None))
        assert record["ann"] == header()["ann"]
        assert record["sites"] == header()["sites"]

    def test_points_of_an_earlier_run_keep_its_provenance(self, stored: Path) -> None:
        first = results.read(stored)
        second = header(command="snnconv bench --resume")
        record = results.with_point(results.begin(stored, second), measured(16))
        results.write(stored, record)
        again = results.begin(stored, header(commit="0123456789ab"))
        assert [p.get("run") for p in record["points"]] == [{"command": first["command"]}] * 2 + [None]
        runs = [{**{"commit": "0123456789ab", "command": again["command"]}, **p["run"]} for p in again["points"]]
        assert [(r["commit"], r["command"]) for r in runs] == [
            (first["commit"], first["command"]),
            (first["commit"], first["command"]),
            (first["commit"], "snnconv bench --resume"),
        ]
        results.validate(again)

    def test_notes_go_with_the_points(self, tmp_path: Path) -> None:
        path = tmp_path / "if.json"
        results.write(path, row(measured(sops=None), notes=["not counted"]))
        record = results.begin(path, header())
        assert record["notes"] == ["not counted"]
        assert results.with_point(record, measured(16), ["not counted", "new"])["notes"] == ["not counted", "new"]

    def test_a_point_is_inserted_in_order_or_replaced(self) -> None:
        record = row(measured(8, 80.0), measured(4, 70.0))
        changed = results.with_point(record, measured(8, 85.0))
        assert [(p["timesteps"], p["metrics"]["top1"]) for p in changed["points"]] == [(4, 70.0), (8, 85.0)]
        assert [p["metrics"]["top1"] for p in record["points"]] == [70.0, 80.0]

    def test_a_point_replaces_one_of_unknown_window(self) -> None:
        record = row({**measured(8, 80.0), "window": None})
        changed = results.with_point(record, measured(8, 85.0, window=(3, 8)))
        assert [p["window"] for p in changed["points"]] == [[3, 8]]

    def test_an_unknown_figure_is_refused(self) -> None:
        with pytest.raises(TypeError, match="'watts' is no figure of a point"):
            measured(watts=3)


class TestSettings:
    def test_the_hash_depends_on_content_alone(self) -> None:
        assert results.config_hash({"a": 1, "b": (1, 2)}) == results.config_hash({"b": [1, 2], "a": 1})
        assert results.config_hash({"a": 1}) != results.config_hash({"a": 2})
        assert results.config_hash({1: 0, 10: 0}) == results.config_hash({"10": 0, "1": 0})

    def test_a_config_becomes_plain(self) -> None:
        config = {"path": Path("a"), "inf": float("inf"), "set": {"b", "a"}, "f": nn.ReLU, "t": torch.ones(2), 1: None}
        config["method"] = methods.IF(8)
        found = results.plain(config)
        assert found == json.loads(json.dumps(found, allow_nan=False))
        assert found["set"] == ["a", "b"]
        assert found["t"] == [1.0, 1.0]
        assert found["method"]["fields"]["timesteps"] == 8  # a config keeps what a row's method leaves to its points

    def test_methods_of_one_row_have_one_description(self) -> None:
        assert results.describe(methods.SRP(4, 2)) == results.describe(methods.SRP(8, 8))
        assert results.describe(methods.SRP(4, 2)) != results.describe(methods.SRP(4, 2, eps=0.1))
        assert results.describe(methods.IF(4), "SpikingJelly")["name"] == "SpikingJelly"

    def test_digest_tells_networks_apart(self) -> None:
        a, b = nn.Linear(2, 2), nn.Linear(2, 2)
        assert results.digest(a) == results.digest(a) != results.digest(b)
        assert results.digest(nn.BatchNorm2d(2).bfloat16())

    def test_figures_of_a_network(self) -> None:
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
        x = torch.randn(16, 4)
        snn = snnconv.convert(model, methods.IF(8, delay=2), x, progress=False)
        assert snn.report is not None
        figures = results.counted(snnconv.profile(model, snn, x))
        record = row(
            measured(8, window=(snn.delay + 1, 8), thresholds=results.thresholds(snn.report), **figures),
            sites=results.sites(snn.report),
        )
        results.validate(record)
        assert record["sites"] == {"spiking": 1, "analog": []}
        (point,) = record["points"]
        assert point["window"] == [3, 8]
        assert point["spikes_per_neuron"] == point["spikes"] / 8

    def test_a_label_needs_a_letter(self) -> None:
        with pytest.raises(results.ResultError, match="'τ' names no file"):
            results.path_of("folder", "τ")


class TestProvenance:
    @pytest.mark.parametrize(
        ("typed", "shown"),
        [
            (["snnconv", "bench", "--out", "/tmp/out"], "snnconv bench --out out"),
            (["snnconv", "--out=/tmp/out/"], "snnconv --out=out"),
            (["snnconv", "-o/tmp/out"], "snnconv -oout"),
            (["snnconv", "--cfg-options", "a.b=[/x/y,/z/w]"], "snnconv --cfg-options 'a.b=[y,w]'"),
            (["snnconv", "--url", "https://host/path"], "snnconv --url https://host/path"),
            (["snnconv", "--data", "dataset:camvid/img"], "snnconv --data dataset:camvid/img"),
            (["snnconv", "--methods", "signed IF,srp"], "snnconv --methods 'signed IF,srp'"),
            (["snnconv", "C:\\users\\me\\c.py"], "snnconv c.py"),
            (["snnconv", "/"], "snnconv ."),
            (["snnconv", "1/2", "a/b"], "snnconv 1/2 a/b"),
        ],
    )  # fmt: skip
    def test_the_command_has_no_absolute_path(self, typed: list[str], shown: str) -> None:
        assert results.command(typed) == shown

    def test_a_path_in_the_working_directory_is_relative(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert results.command(["snnconv", str(tmp_path / "configs" / "a.py")]) == "snnconv configs/a.py"

    def test_the_command_is_that_of_the_process(self, monkeypatch) -> None:
        monkeypatch.setattr(sys, "argv", ["/usr/local/bin/snnconv", "bench", "a.py"])
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", None, raising=False)
        assert results.command() == "snnconv bench a.py"
        spec = SimpleNamespace(name="benchmarks.quick")
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
        assert results.command() == "python -m benchmarks.quick bench a.py"

    @pytest.mark.parametrize(("status", "commit"), [("", "0123456789ab"), (" M a.py", "0123456789ab+")])
    def test_the_commit_is_the_working_directorys(self, monkeypatch, status: str, commit: str) -> None:
        def git(command: list[str], **options: Any) -> Any:
            assert "cwd" not in options
            return SimpleNamespace(stdout="0123456789ab\n" if "rev-parse" in command else status)

        monkeypatch.setattr(sys.modules["snnbench.results.provenance"].subprocess, "run", git)
        assert results.provenance(0)["commit"] == commit

    def test_the_results_of_a_run_do_not_change_its_commit(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)

        def git(*arguments: str) -> None:
            who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
            subprocess.run(["git", *who, *arguments], check=True, capture_output=True)

        git("init")
        result, code = tmp_path / "benchmarks/results/digits/if.json", tmp_path / "network.py"
        result.parent.mkdir(parents=True)
        for file in (result, code):
            file.write_text("{}")
        git("add", ".")
        git("commit", "-m", "first")
        commit = results.provenance(0)["commit"]
        assert len(commit) == 12
        result.write_text('{"row": "IF"}')
        monkeypatch.chdir(tmp_path / "benchmarks")  # from below the top as well
        assert results.provenance(0)["commit"] == commit
        code.write_text("{1}")
        assert results.provenance(0)["commit"] == commit + "+"

    def test_outside_a_repository_there_is_no_commit(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        assert results.provenance(0)["commit"] is None

    def test_versions_of_what_is_installed(self) -> None:
        versions = results.provenance(3)["versions"]
        assert versions["torch"] == torch.__version__.partition("+")[0]
        assert {"python", "snnconv-plugin", "spikingjelly", "numpy"} <= set(versions)

    def test_the_cpu_is_no_accelerator(self) -> None:
        assert results.provenance(0, "cpu")["machine"]["accelerator"] is None
        memory = results.peak_memory("cpu")
        assert memory is None or 10 < memory < 1e6

    def test_ranks_are_those_of_torch_distributed(self, monkeypatch) -> None:
        assert results.provenance(0)["machine"]["ranks"] == 1
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
        assert results.provenance(0)["machine"]["ranks"] == 4


class TestSchema:
    def test_it_is_a_schema(self) -> None:
        from jsonschema import Draft202012Validator

        Draft202012Validator.check_schema(results.schema())
        assert results.schema()["properties"]["schema"]["const"] == results.SCHEMA

    def test_every_field_is_described(self) -> None:
        schema = results.schema()

        def walk(node: Any, path: str) -> None:
            for name, field in node.get("properties", {}).items():
                target = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
                assert field.get("description") or target.get("description"), f"{path}.{name} has no description"
                walk(target, f"{path}.{name}")
            if "items" in node:
                walk(node["items"], f"{path}[]")

        walk(schema, "record")
        walk(schema["$defs"]["point"], "point")

    def test_the_page_names_every_field(self) -> None:
        page = ROOT / "docs" / "results.md"
        if not page.parent.is_dir():
            pytest.skip("an sdist holds no docs")
        text, schema = page.read_text(encoding="utf-8"), results.schema()
        for fields in (schema["properties"], schema["$defs"]["point"]["properties"]):
            assert [name for name in fields if f"| `{name}` |" not in text] == []
        assert results.SCHEMA in text

    def test_a_point_has_every_field_but_run(self) -> None:
        assert list(measured()) == [k for k in results.schema()["$defs"]["point"]["properties"] if k != "run"]

    def test_jsonschema_is_imported_where_it_is_used(self) -> None:
        code = (
            "import sys, snnconv; light = 'snnbench.results' not in sys.modules; import snnbench.results;"
            "print(light, 'jsonschema' in sys.modules)"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.split() == ["True", "False"]

    def test_without_jsonschema_it_says_what_to_install(self, monkeypatch) -> None:
        from snnbench.results import validation as result_schema

        monkeypatch.setitem(sys.modules, "jsonschema", None)
        result_schema._validator.cache_clear()
        with pytest.raises(ImportError, match=r'pip install "snnconv-plugin\[bench\]"'):
            results.validate(row())
        result_schema._validator.cache_clear()


class TestMigration:
    def older(self) -> results.Record:
        found = row()
        found["schema"] = "snnconv-result/2"
        point = found["points"][0]
        for name in ("energies", "twin"):
            point.pop(name, None)
        point |= {"sops": 100.0, "macs": 20.0, "energy_joule": 100 * 0.9e-12 + 20 * 4.6e-12}
        return found

    def test_models_of_arithmetic_are_computed_from_totals_and_others_are_null(self) -> None:
        from snnbench.results.migration import migrate

        found = migrate(self.older())
        results.validate(found)
        energies = found["points"][0]["energies"]
        assert energies["int8"] == pytest.approx(100 * 0.03e-12 + 20 * 0.23e-12)
        assert energies["45nm"] == pytest.approx(found["points"][0]["energy_joule"])
        assert energies["lemaire"] is energies["loihi"] is None
        assert found["ann"]["energies"]["int8"] == pytest.approx(found["ann"]["macs"] * 0.23e-12)
        assert migrate(found) == found

    def test_a_cost_model_that_came_later_is_filled_in_and_nothing_else_changes(self) -> None:
        from snnbench.results.migration import migrate

        whole = migrate(self.older())
        before = copy.deepcopy(whole)
        for energies in (before["ann"]["energies"], before["points"][0]["energies"]):
            del energies["77fj"]
        found = migrate(before)
        assert found == whole
        assert found["points"][0]["energies"]["77fj"] == pytest.approx(100 * 77e-15 + 20 * 12.5e-12)
        before["points"][0]["energies"]["45nm"] *= 2  # functions are in its price
        assert migrate(before)["points"][0]["energies"]["77fj"] is None

    def test_a_price_that_the_totals_do_not_explain_is_left_null(self) -> None:
        from snnbench.results.migration import migrate

        older = self.older()
        older["points"][0]["energy_joule"] *= 2
        assert migrate(older)["points"][0]["energies"] is None

    def test_the_command_rewrites_older_files_and_no_others(self, tmp_path: Path) -> None:
        from snnbench.results.migration import main

        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "if.json").write_text(json.dumps(self.older()))
        (tmp_path / "new.json").write_text(json.dumps(row()))
        kept = (tmp_path / "new.json").read_bytes()
        with pytest.raises(results.ResultError, match=r"snnbench\.results\.migration FOLDER rewrites it"):
            results.read(tmp_path / "a" / "if.json")
        assert main([str(tmp_path)]) == 0
        assert results.read(tmp_path / "a" / "if.json")["schema"] == results.SCHEMA
        assert (tmp_path / "new.json").read_bytes() == kept


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_committed_result_is_valid(path: Path) -> None:
    record = results.read(path)
    assert path.stem == results.slug(record["label"])
    for command in [
        record["command"],
        *(p["run"]["command"] for p in record["points"] if "command" in p.get("run", {})),
    ]:
        assert results.command(shlex.split(command)) == command  # no absolute path in it
