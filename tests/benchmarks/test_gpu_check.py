"""The GPU check runs every part on a processor, writes line by line, goes on after a failure and where it stopped."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.data import CIFAR10_CLASSES, DataError
from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import kernels, networks, pack, sources, speed, training
from benchmarks.gpu_check.device import Device
from benchmarks.gpu_check.record import Case, Failed, Log, Setting, line
from snnbench.networks.models import ResNet20
from snnconv.dynamics.neuron import NEURONS, Neuron, Option

MACHINE = {"device": "processor"}


@pytest.fixture
def setting() -> Setting:
    return Setting(Device("cpu"), small=True, seconds=600)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder with a few pictures of noise and an untrained ResNet-20."""
    image = pytest.importorskip("PIL.Image")
    data = tmp_path / "data"
    data.mkdir()
    for split, each in (("train", 14), ("test", 4)):
        with zipfile.ZipFile(data / f"cifar10_{split}.zip", "w") as archive:
            for name in CIFAR10_CLASSES:
                for number in range(each):
                    noise = torch.randint(256, (32, 32, 3), dtype=torch.uint8)
                    picture = tmp_path / "picture.png"
                    image.fromarray(noise.numpy()).save(picture)
                    archive.write(picture, f"{name}/{number}.png")
    save_file(ResNet20().state_dict(), data / pack.WEIGHTS)
    monkeypatch.setenv("SNNCONV_DATA", str(data))
    monkeypatch.setenv("SNNCONV_CACHE", str(tmp_path / "cache"))
    sources.pictures.cache_clear()
    yield data
    sources.pictures.cache_clear()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


@pytest.mark.slow
def test_every_part_runs_on_a_processor(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.jsonl"
    arguments = ["--device", "cpu", "--small", "--out", str(out)]
    assert command.main(arguments) == 0, capfd.readouterr().out[-5000:]
    first, *written = rows(out)
    assert first["machine"]["device"] == "processor"
    assert not [row for row in written if "error" in row or "left_out" in row]
    assert {row["part"] for row in written} == set(command.PARTS)
    found = {(row["part"], row["case"]): row for row in written}
    for name in NEURONS:
        assert found["kernels", f"{name}, scan, float16"]["equal_values"] > 0
        assert found["kernels", f"{name}, three runs"]["same_bits"]
    for method in networks.METHODS:
        assert found["networks", f"digits, {method}: CPU and device"]["spikes_equal"] == 1
    assert found["networks", "resnet20, signed IF: CPU and device"]["inputs"] == "CIFAR-10"
    assert found["speed", "digits, T = 4, snnconv IF"]["fp32_passes_at_2"] > 0
    assert found["int8", "small"]["exact"]
    assert found["training", "ResNet-20, 3 levels, T = 2"]["steps"] == training.MOST_STEPS_SMALL
    assert "| kernels | if, scan, float32 | equal values" in capfd.readouterr().out
    assert command.main([*arguments, "--only", "int8"]) == 0
    assert [row["case"] for row in rows(out)[1 + len(written) :]] == [command.WHOLE]  # nothing is measured twice


ABSENT = (
    "av", "cv2", "gymnasium", "jsonschema", "matplotlib", "mmcv", "mmdet", "mmengine", "mmseg", "neurobench", "nir",
    "numba", "onnx", "onnxruntime", "pandas", "rich", "scipy", "sklearn", "snntorch", "stable_baselines3", "torchaudio",
    "transformers", "typer",
)  # fmt: skip
"""What is installed beside the benchmarks, and on a machine for computing is not."""


@pytest.mark.slow
def test_it_runs_where_there_is_nothing_but_pytorch_and_what_travels(folder: Path, tmp_path: Path) -> None:
    without = tmp_path / "without"
    without.mkdir()
    (without / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\n")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(without), *sys.path])}
    out = tmp_path / "figures.jsonl"
    arguments = ["--device", "cpu", "--small", "--only", "speed", "--out", str(out)]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", *arguments], env=env, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert any("SpikingJelly" in row.get("case", "") for row in rows(out))
    assert not [row for row in rows(out) if "error" in row]


def test_all_parts_together_take_less_than_five_minutes() -> None:
    assert sum(command.limit(part, small=False) for part in command.PARTS) < 300


def test_a_failure_is_a_line_and_the_next_case_follows(setting: Setting, tmp_path: Path) -> None:
    def breaks() -> dict[str, Any]:
        raise RuntimeError("out of\nluck")

    def wrong() -> dict[str, Any]:
        raise Failed("too far off", distance=3.0)

    log = Log(tmp_path / "new" / "log.jsonl", MACHINE)
    log.run("part", [Case("breaks", breaks), Case("wrong", wrong), Case("works", lambda: {"figure": 1.5})], setting)
    _, one, two, three = rows(log.path)
    assert one["error"] == "RuntimeError: out of\nluck"
    assert (two["error"], two["distance"]) == ("too far off", 3.0)
    assert three["figure"] == 1.5
    assert line(one) == "| part | breaks | FAILED: RuntimeError: out of luck |"
    assert (
        line({"part": "p", "case": "c", "took": 1, "same_bits": True, "x": 0.25}) == "| p | c | same bits yes, x 0.25 |"
    )


def test_a_second_run_takes_what_is_missing_and_what_failed_last(setting: Setting, tmp_path: Path) -> None:
    ran = []

    def case(name: str) -> Case:
        return Case(name, lambda: {"n": ran.append(name)})

    log = Log(tmp_path / "log.jsonl", MACHINE)
    log.put("part", "failed", error="once")
    log.put("part", "done", n=1)
    log.put("part", "late", left_out="time")
    Log(log.path, MACHINE).run("part", [case(name) for name in ("failed", "done", "late", "new")], setting)
    assert ran == ["late", "new", "failed"]


def test_what_the_limit_leaves_out_is_said_and_failures_stay(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl", MACHINE)
    log.put("part", "failed", error="once")
    cases = [Case("failed", dict), Case("other", dict)]
    log.run("part", cases, Setting(Device("cpu"), small=False, seconds=-1))
    assert log.rows["part", "other"]["left_out"] == "the -1 s of this part are over"
    assert log.rows["part", "failed"]["error"] == "once"


def test_a_device_that_no_longer_answers_ends_the_part(setting: Setting, tmp_path: Path) -> None:
    setting.device.lost = lambda: "the device no longer answers: illegal address"  # type: ignore[method-assign]
    log = Log(tmp_path / "log.jsonl", MACHINE)
    log.run("part", [Case("first", dict), Case("second", dict)], setting)
    assert "illegal address" in log.rows["part", "second"]["left_out"]


@pytest.mark.parametrize("text", ['{"machine": {"device": "another"}}', "[1", '{"part": "kernels"}'])
def test_figures_of_another_machine_and_other_files_are_not_gone_on_from(text: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(ValueError, match=r"log\.jsonl.*name another --out"):
        Log(path, MACHINE)


def test_a_part_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command.PARTS, "int8", 0.01)
    out = tmp_path / "log.jsonl"
    assert command.main(["--device", "cpu", "--only", "int8", "--out", str(out)]) == 1
    assert rows(out)[-1]["error"] == "it took more than 0.01 s and was ended"


def test_a_part_whose_process_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def run(arguments: list[str], **how: Any) -> SimpleNamespace:
        given.append((arguments, how["env"].get("TRITON_INTERPRET")))
        return SimpleNamespace(returncode=-11)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(command, "machine", lambda device, small: MACHINE)
    out = tmp_path / "log.jsonl"
    arguments = ["--device", "cpu", "--only", "kernels", "--only", "int8", "--small", "--out", str(out)]
    assert command.main(arguments) == 1
    assert [row["error"] for row in rows(out)[1:]] == ["its process ended with status -11"] * 2
    assert [interpreted for _, interpreted in given] == ["1", None]
    assert all("--small" in arguments and "--here" in arguments for arguments, _ in given)


def test_without_a_gpu_it_says_how_to_run_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"finds no GPU.*--device cpu --small"):
        command.main([])


def test_a_kernel_that_is_wrong_in_one_value_fails(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels.ASK["scan"]

    def wrong(neuron: Neuron, x_seq: torch.Tensor, theta: Any, **how: Any) -> list[torch.Tensor]:
        (found,) = right(neuron, x_seq, theta, **how)
        if how["backend"] != "eager":
            found.view(-1)[7] += 1
        return [found]

    case = next(case for case in kernels.cases(setting) if case.name == "signed_if, scan, float32")
    assert case.run()["equal_values"] > 0
    monkeypatch.setitem(kernels.ASK, "scan", wrong)
    with pytest.raises(Failed, match=r"1 of 60 values differ \(T = 4, \(3, 5\)"):
        case.run()


def test_a_kernel_that_races_fails(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.dynamics, "scan", lambda *args, **how: torch.rand(3))
    races = {case.name: case for case in kernels.cases(setting)}
    with pytest.raises(Failed, match="three runs of the same input differ"):
        races["if, three runs"].run()


def test_addresses_that_overflow_fail(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = kernels.dynamics.scan
    calls: list[str] = []

    def wrong_at_first(name: str, x_seq: torch.Tensor, *args: Any, **how: Any) -> torch.Tensor:
        calls.append(name)
        found: torch.Tensor = scan(name, x_seq, *args, **how)
        return found if len(calls) > 1 else found + 1

    monkeypatch.setattr(kernels.dynamics, "scan", wrong_at_first)
    with pytest.raises(Failed, match="1500 of 1500 values at the end differ"):
        kernels._large(setting)


def test_a_neuron_of_ones_own_is_checked_too(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    simple = NEURONS["if"]
    own = Neuron(name="own", state=simple.state, initial=simple.initial, step=simple.step, options=simple.options)
    monkeypatch.setitem(NEURONS, "own", own)
    (case,) = (case for case in kernels.cases(setting) if case.name == "own, scan, bfloat16")
    assert case.run()["backend"] == "auto"
    with pytest.raises(Failed, match="neuron 'asks' needs leak: give it a value"):
        kernels.options_of(replace(own, name="asks", options=(Option("leak"),)), 4)


def test_a_network_that_fires_otherwise_on_the_device_fails(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = networks._converted

    def altered(*arguments: Any) -> Any:
        snn = convert(*arguments)
        move = snn.to

        def to(*args: Any) -> Any:
            for tensor in snn.weights.buffers():
                tensor.mul_(1.2)
            return move(*args)

        snn.to = to
        return snn

    case = next(case for case in networks.cases(setting) if case.name.startswith("digits, signed IF"))
    assert case.run()["spikes_equal"] == 1
    monkeypatch.setattr(networks, "_converted", altered)
    with pytest.raises(Failed, match=r"less than 99\.9 %") as failed:
        case.run()
    assert failed.value.figures["worst_equal"] < failed.value.figures["spikes_equal"] < 1


def test_a_batch_that_does_not_fit_is_said_beside_those_that_do(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(run: Any, repeats: int) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(setting.device, "seconds", full)
    case = next(case for case in speed.cases(setting) if case.name == "digits, T = 4, snnconv IF")
    assert case.run() == {"at_2": "out of memory"}


def test_training_without_pictures_says_what_it_needs(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "pictures", lambda split: None)
    (case,) = training.cases(setting)
    with pytest.raises(Failed, match="SNNCONV_DATA"):
        case.run()


def test_a_gpu_is_asked_for_streams_and_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()

    class Stream:
        def wait_stream(self, other: Any) -> None:
            asked["wait_stream"] += 1

    class Graph:
        def replay(self) -> None:
            asked["replay"] += 1

    fakes = {
        "is_available": lambda: True,
        "get_device_name": lambda: "Pretended 100",
        "synchronize": lambda: asked.update(["synchronize"]),
        "Stream": Stream,
        "stream": contextlib.nullcontext,
        "current_stream": Stream,
        "CUDAGraph": Graph,
        "graph": contextlib.nullcontext,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    device = Device("cuda")
    assert device.name == "Pretended 100"
    x = torch.arange(3.0)
    assert [list(y) for y in device.side_by_side(lambda v: v + 1, [x, 2 * x])] == [[1, 2, 3], [1, 3, 5]]
    replay = device.recorded(lambda v: v + 1, x)
    assert list(replay()) == [1, 2, 3]
    assert (asked["replay"], asked["wait_stream"], asked["synchronize"]) == (1, 2, 2)
    assert device.seconds(lambda: None, 3) >= 0
    assert asked["synchronize"] == 8

    def broken() -> None:
        raise RuntimeError("illegal memory access\nmore")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert device.lost() == "the device no longer answers: illegal memory access"


def test_what_travels_fits_and_holds_each_class_alike(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    whole = sum(path.stat().st_size for path in folder.iterdir()) / pack.MIB
    assert pack.main([str(out), "--no-wheels", "--mib", str(whole - 0.1)]) == 0
    assert pack.size_of(out) < (whole - 0.1) * pack.MIB
    assert {path.name for path in (out / "data").iterdir()} == {path.name for path in folder.iterdir()}
    for name in (pack.TRAIN, pack.TEST):
        with zipfile.ZipFile(out / "data" / name) as some, zipfile.ZipFile(folder / name) as source:
            per_class = Counter(Path(entry).parent.name for entry in some.namelist())
            assert set(per_class) == set(CIFAR10_CLASSES)
            assert len(set(per_class.values())) == 1
            assert all(some.read(entry) == source.read(entry) for entry in some.namelist())
    assert "40 test pictures" in capsys.readouterr().out
    with pytest.raises(DataError, match="give --mib more"):
        pack.main([str(out), "--no-wheels", "--mib", "1.1"])


def test_wheels_are_fetched_in_the_versions_that_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda arguments, check: ran.append(arguments))
    pack.wheels(tmp_path / "wheels")
    (command,) = ran
    wanted = command[command.index(str(tmp_path / "wheels")) + 1 :]
    assert [name.partition("==")[0] for name in wanted] == list(pack.PACKAGES)
    assert wanted[0].startswith("spikingjelly==2.")
    assert "--no-deps" in command
