"""What scripts, logs and eyes get of the command line: JSON, CSV, pictures, colours, help, exit statuses."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
import torch
import typer
from torch import nn

import snnconv
from snnconv import methods
from snnconv.cli import doctor, outcome
from snnconv.cli.app import app
from snnconv.cli.given import Given
from snnconv.cli.inputs import method_fields
from snnconv.cli.recommend import Latency
from snnconv.demo import table as demo_table
from snnconv.metrics.latency import LATENCIES
from snnconv.progress import bars
from tests.command_line import Runner

runner = Runner()
NETWORK = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))

def coloured():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))

def broken():
    width = "four"
    return nn.Linear(4, width * 2.5)
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Network and data of every command."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORK)
    x = torch.randn(160, 1, 8, 8)
    space: dict[str, object] = {}
    exec(NETWORK, space)
    with torch.no_grad():
        y = space["small"]()(x).argmax(1)  # type: ignore[operator]
    np.savez("images.npz", x=x.numpy(), y=y.numpy())
    return ["net.py:small", "--data", "images.npz"]


def run(*arguments: object, status: int = 0) -> str:
    """What a command prints to stdout."""
    result = runner.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == status, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = runner.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


class TestForms:
    def test_eval_is_json_alone_on_stdout(self, base: list[str]) -> None:
        found = json.loads(run("eval", *base, "--at", "2,8", "--json"))
        assert (found["metric"], found["samples"], found["ann"]) == ("top1", 160, 100.0)
        assert [(row["network"], row["T"]) for row in found["networks"]] == [("signed-if", 2), ("signed-if", 8)]

    def test_figures_are_those_of_the_function(self, base: list[str]) -> None:
        run("convert", *base, "--timesteps", 4, "--out", "net.snn.safetensors")
        found = json.loads(run("eval", *base, "--snn", "net.snn.safetensors", "--json"))
        file = np.load("images.npz")
        snn = snnconv.load("net.snn.safetensors")
        wanted = snnconv.evaluate(snn, (torch.from_numpy(file["x"]), torch.from_numpy(file["y"])), timesteps=[1, 2, 4])
        assert {row["T"]: row["value"] for row in found["networks"]} == wanted.curve

    @pytest.mark.parametrize("command", ["convert", "eval", "compare", "profile"])
    def test_rows_are_csv(self, base: list[str], command: str) -> None:
        more = ["--out", "net.snn.safetensors"] if command == "convert" else []
        rows = list(csv.DictReader(io.StringIO(run(command, *base, "--timesteps", 4, *more, "--csv"))))
        assert rows
        assert {"convert": "threshold_mean", "eval": "value", "compare": "error", "profile": "sops"}[command] in rows[0]

    def test_recommend_and_doctor_are_json_too(self, base: list[str]) -> None:
        found = json.loads(run("recommend", *base, "--budget", "T=4", "--json"))
        assert any(trial["recommended"] for trial in found["trials"])
        told = json.loads(run("doctor", "--json"))
        assert {"snnconv", "Python"} <= told.keys()
        assert {"torch", "spikingjelly"} <= {check["name"] for check in told["checks"]}

    def test_one_form_at_a_time(self, base: list[str]) -> None:
        assert "two forms of one output" in refused("eval", *base, "--at", 2, "--json", "--csv")

    @pytest.mark.parametrize(("command", "more"), [("eval", ["--at", "2,4"]), ("compare", []), ("profile", [])])
    def test_plot(self, base: list[str], command: str, more: list[str]) -> None:
        more = more or ["--timesteps", "4"]
        assert "wrote it.png" in run(command, *base, *more, "--plot", "it.png")
        assert Path("it.png").read_bytes().startswith(b"\x89PNG")
        run(command, *base, *more, "--plot", "it.svg")
        assert "<svg" in Path("it.svg").read_text()

    def test_plot_is_refused_before_the_work(self, base: list[str]) -> None:
        assert "ends in .png, .svg, .pdf" in refused("eval", *base, "--at", 2, "--plot", "it.doc")
        assert "folder of --plot" in refused("eval", *base, "--at", 2, "--plot", "none/it.png")

    def test_nan_is_null(self) -> None:
        assert outcome._finite({"a": [float("nan"), 1.0, float("inf")]}) == {"a": [None, 1.0, None]}


class TestHelp:
    def commands(self) -> dict[str, typer.core.TyperCommand]:
        return typer.main.get_command(app).commands  # type: ignore[attr-defined]

    def test_every_command_has_examples_that_it_takes(self) -> None:
        for name, command in self.commands().items():
            examples = [line for line in (command.epilog or "").split("\n\n") if line.startswith("snnconv ")]
            assert examples, f"{name} has no example"
            for example in examples:
                words = shlex.split(example)
                assert words[1] == name
                command.make_context(name, words[2:])  # fails at an option that is not there

    def test_every_command_prints_json_when_asked(self) -> None:
        for name, command in self.commands().items():
            assert {"json", "csv"} <= {parameter.name for parameter in command.params}, name

    def test_every_option_is_of_a_type_that_the_oldest_typer_takes(self) -> None:
        for command in app.registered_commands:
            assert command.callback is not None
            for name, parameter in inspect.signature(command.callback, eval_str=True).parameters.items():
                kinds = {get_origin(kind) for kind in (parameter.annotation, *get_args(parameter.annotation))}
                assert Literal not in kinds, f"{command.callback.__name__}: {name} is a Literal"

    def test_words_of_latency_are_those_of_the_function(self) -> None:
        assert [word.value for word in Latency] == [*LATENCIES]

    def test_exit_statuses_are_said(self) -> None:
        assert "Exit status: 0 done; 1 " in " ".join(run("--help").replace("│", " ").split())

    def test_version_of_package_python_and_torch(self) -> None:
        assert run("--version").split()[:2] == ["snnconv", snnconv.__version__ + ","]

    def test_settings_say_what_they_mean_their_values_and_defaults(self) -> None:
        texts = method_fields()
        assert all(text.count(" ") > 3 for text in texts.values()), texts
        assert "One of none, bias, reconstruct." in texts["correction"]
        assert "Default bias (ltb: none" in texts["correction"]
        assert "Of ltb." in texts["tolerance"]

    def test_python_m_snnconv(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "snnconv", "--version"], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(f"snnconv {snnconv.__version__}")

    def test_completion_is_offered(self) -> None:
        assert "--install-completion" in run("--help")


class TestNext:
    def test_commands_to_go_on_with_run(self, base: list[str]) -> None:
        result = runner.invoke(app, ["convert", *base, "--timesteps", "4", "--out", "net.snn.safetensors"])
        commands = result.stderr.partition("next:\n")[2].splitlines()
        assert [shlex.split(c)[1] for c in commands] == ["eval", "report"]
        for command in commands:
            assert runner.invoke(app, shlex.split(command)[1:]).exit_code == 0, command

    def test_a_conversion_that_is_repeated_is_the_same_one(self, base: list[str]) -> None:
        given = Given(model="net.py:small", data=Path("images.npz"), exclude=["no*", "such*"], device="cpu")
        again = given.again("convert", "--out", "n.snn.safetensors", method=methods.IF(4))
        assert again.endswith("--timesteps 4 --device cpu --exclude 'no*' --exclude 'such*' --out n.snn.safetensors")
        assert "--exclude" not in given.again("compare", "--snn", "n.snn.safetensors")
        assert "--exclude" not in run("recommend", "--help")
        assert "--exclude" not in run("report", "--help")

    def test_what_is_about_to_happen_is_said_first(self, base: list[str]) -> None:
        result = runner.invoke(app, ["compare", *base, "--timesteps", "4", "--calibration-images", "30"])
        assert (
            "converting net.py:small by SignedIF(timesteps=4), calibrated on 30 inputs of images.npz" in result.stderr
        )


class TestTerminals:
    @pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
    @pytest.mark.parametrize("set_to", [{}, {"NO_COLOR": "1"}])
    def test_no_color(self, set_to: dict[str, str]) -> None:
        leader, follower = os.openpty()
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        command = [sys.executable, "-c", "from snnconv.cli.outcome import say; say('wrong', 'red')"]
        subprocess.run(command, stderr=follower, env={**kept, "TERM": "xterm", **set_to}, check=True)
        os.close(follower)
        assert ("\x1b[31m" in os.read(leader, 1000).decode()) == (not set_to)
        os.close(leader)

    def test_bars_are_silent_where_stderr_is_no_terminal(self, capfd: pytest.CaptureFixture[str]) -> None:
        with bars(None) as progress:
            for done in range(3):
                progress("thresholds", done, 3)
        assert capfd.readouterr().err == ""

    def test_nothing_makes_bars_of_its_own(self) -> None:
        root = Path(snnconv.__file__).parents[2]
        files = [path for folder in ("plugin", "benchmarks") for path in (root / folder).rglob("*.py")]
        assert [path.name for path in files if "import tqdm" in path.read_text(encoding="utf-8")] == ["progress.py"]

    def test_head_closes_the_pipe_without_a_word(self) -> None:
        command = f"{shlex.quote(sys.executable)} -m snnconv bench --list | head -1"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert done.stdout.count("\n") == 1
        assert "roken" not in done.stderr

    def test_commands_of_doctor_are_whole_at_80_columns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        advice = "pip install --force-reinstall 'torchvision==0.26.*' 'torchaudio==2.11.*' 'snnconv-plugin[bench]'"
        checks = [doctor.Check("numba kernels", "speed", "broken", "x" * 200, advice)]
        monkeypatch.setattr(doctor, "check_all", lambda: checks)
        result = Runner(COLUMNS="80").invoke(app, ["doctor"])
        assert advice in [line.strip() for line in result.stdout.splitlines()]
        assert result.stdout.startswith(f"snnconv {snnconv.__version__}, Python 3.")


class TestMistakes:
    def test_a_factory_that_fails_is_named_with_its_line(self, base: list[str]) -> None:
        line = NETWORK.splitlines().index("    return nn.Linear(4, width * 2.5)") + 1
        assert f"net.py:{line}: broken fails: TypeError" in refused("eval", "net.py:broken", *base[1:], "--at", 2)
        Path("bad.py").write_text("import torch\n\n1 / 0\n")
        assert "bad.py:3: fails on import: ZeroDivisionError" in refused("eval", "bad.py:net", *base[1:], "--at", 2)
        Path("bad.py").write_text("def net(:\n")
        assert "bad.py:1: fails on import: SyntaxError" in refused("eval", "bad.py:net", *base[1:], "--at", 2)

    def test_files_that_hold_no_inputs(self, base: list[str]) -> None:
        for name, sentence in {
            "table.csv": "data is a folder of images, or a .npz, .pt or .safetensors file with x, and y",
            "text.npz": "not a readable .npz file: it is truncated, damaged or something else; numpy.savez writes them",
        }.items():
            Path(name).write_text("1,2")
            assert sentence in refused("eval", base[0], "--data", name, "--at", 2)
        Path("empty").mkdir()
        assert "empty holds no image (.jpg, " in refused("eval", base[0], "--data", "empty", "--at", 2)

    def test_a_metric_that_there_is_not_is_refused_before_the_work(self, base: list[str]) -> None:
        said = refused("eval", *base, "--at", 2, "--metric", "f1")
        assert said.startswith("error: unknown metric 'f1'; known: ")

    def test_what_is_made_of_bytes_is_said(self, base: list[str]) -> None:
        np.savez("bytes.npz", x=np.zeros((4, 1, 8, 8), np.uint8), y=np.arange(4) % 3)
        said = refused("eval", base[0], "--data", "bytes.npz", "--at", 2)
        assert "bytes of bytes.npz: divided by 255, mean 0.485,0.456,0.406, std " in said
        assert "1 channel becomes 3: give --mean and --std one number to keep it" in said
        assert "ANN" in run("eval", base[0], "--data", "bytes.npz", "--at", 2, "--mean", 0.5, "--std", 0.2)

    def test_a_network_that_the_file_has_made_already(self, base: list[str]) -> None:
        Path("made.py").write_text(NETWORK + "\nnet = small()\n")
        assert run("eval", "made.py:net", *base[1:], "--at", 2, "--csv") == run("eval", *base, "--at", 2, "--csv")

    def test_weights_of_another_number_of_classes(self, base: list[str]) -> None:
        models = pytest.importorskip("torchvision.models")
        torch.save(models.squeezenet1_1(num_classes=10).state_dict(), "ten.pth")
        data = ["--data", "images.npz", "--at", "2"]
        said = refused("eval", "torchvision:squeezenet1_1", "--weights", "ten.pth", *data)
        assert said.endswith("use --classes 10")
        more = ["--weights", "ten.pth", "--classes", "12", *data]
        assert "use --classes" not in refused("eval", "torchvision:squeezenet1_1", *more)

    def test_out_that_is_a_folder_is_refused_before_converting(
        self, base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(snnconv, "convert", lambda *a, **k: pytest.fail("converted"))
        assert "it is a folder" in refused("convert", *base, "--timesteps", 4, "--out", tmp_path)

    @pytest.mark.parametrize("name", ["weights.pth", "images.npz", "net.py"])
    def test_a_file_that_is_read_is_not_written_over(self, base: list[str], name: str) -> None:
        torch.save({}, "weights.pth")
        before = Path(name).read_bytes()
        said = refused("convert", *base, "--weights", "weights.pth", "--timesteps", 4, "--out", name)
        assert f"--out {name} is a file that this command reads; give another name" in said
        assert Path(name).read_bytes() == before

    def test_a_device_that_is_not_here(self, base: list[str]) -> None:
        assert "--device gpu: " in refused("eval", *base, "--at", 2, "--device", "gpu")
        if not torch.cuda.is_available():
            assert "--device cuda: " in refused("eval", *base, "--at", 2, "--device", "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_everything_runs_on_the_device_that_is_named(base: list[str]) -> None:
    for command in (["convert", "--out", "net.snn.safetensors"], ["eval"], ["compare"], ["profile"]):
        run(command[0], *base, *command[1:], "--timesteps", 4, "--device", "cuda")
    run("recommend", *base, "--budget", "T=4", "--device", "cuda")


def test_a_folder_of_pictures_without_classes_calibrates(base: list[str]) -> None:
    image_module = pytest.importorskip("PIL.Image")
    Path("pictures").mkdir()
    for k in range(12):
        image_module.effect_noise((16, 16), 40 + k).convert("RGB").save(f"pictures/{k:02}.png")
    Path("pictures/notes.txt").write_text("not a picture")
    command = ["convert", "net.py:coloured", "--data", "pictures", "--size", 8, "--timesteps", 4]
    run(*command, "--out", "net.snn.safetensors")
    assert snnconv.load("net.snn.safetensors").report.calibration_samples == 12
    said = refused("eval", "net.py:coloured", "--data", "pictures", "--size", 8, "--at", 2)
    assert "holds no labels" in said


class TestDemo:
    def test_leaves_what_its_next_commands_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("matplotlib")
        monkeypatch.chdir(tmp_path)
        few = [("signed IF", [methods.SignedIF(8)]), ("shifted threshold", [methods.ShiftedThreshold(3)])]
        monkeypatch.setattr(demo_table, "_tried", lambda: few)
        result = runner.invoke(app, ["demo", "--epochs", "2"])
        assert result.exit_code == 0, result.output
        assert re.search(r"shifted threshold +│ +\d\d\.\d", result.stdout)
        folder = tmp_path / "snnconv-demo"
        assert (folder / "accuracy.png").stat().st_size > 5000
        assert snnconv.load(folder / "digits.snn.safetensors").timesteps == 8
        commands = result.stderr.partition("next:\n")[2].splitlines()
        assert [shlex.split(c)[1] for c in commands] == ["report", "eval", "recommend"]
        for command in commands[:2]:
            assert runner.invoke(app, shlex.split(command)[1:]).exit_code == 0
        assert (folder / "report.html").stat().st_size > 50_000

    def test_needs_the_core_alone(self, tmp_path: Path) -> None:
        extras = ("sklearn", "timm", "mmengine", "numba", "snntorch", "nir", "jinja2", "PIL")
        code = (
            f"import sys\nfor name in {extras!r}: sys.modules[name] = None\n"
            "from snnconv.demo import load_digits, small_cnn, train\n"
            "digits = load_digits()\nprint(train(small_cnn(), digits, epochs=1)(digits.x_test).shape)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ}
        )
        assert done.stdout.strip() == "torch.Size([450, 10])", done.stderr

    def test_the_digits_are_scikit_learns(self) -> None:
        datasets = pytest.importorskip("sklearn.datasets")
        from snnconv.demo import load_digits

        digits, bunch = load_digits(test_images=0), datasets.load_digits()
        order = torch.randperm(len(bunch.target), generator=torch.Generator().manual_seed(0))
        assert torch.equal(digits.x_train[:, 0], torch.tensor(bunch.images, dtype=torch.float32)[order] / 8 - 1)
        assert torch.equal(digits.y_train, torch.tensor(bunch.target)[order])

    @pytest.mark.slow
    def test_its_table_has_every_method(self, tmp_path: Path) -> None:
        found = json.loads(run("demo", "--out", tmp_path / "d", "--json"))
        assert len({row["method"] for row in found["rows"]}) == 5
        for method in {row["method"] for row in found["rows"]}:
            assert max(r["accuracy"] for r in found["rows"] if r["method"] == method) > found["ann"] - 2


def test_a_network_evaluates_as_an_ordinary_one_would(tmp_path: Path) -> None:
    """The metric's mean over a loader, beside the source network's, for labels and for values."""
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    x, y = torch.randn(150, 4), torch.randint(0, 3, (150,))
    snn = snnconv.convert(model, methods.SRP(4, 4), x, progress=False)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32)
    found = snnconv.evaluate(snn, loader, model=model)
    with torch.no_grad():
        assert found.ann == pytest.approx(100 * float((model(x).argmax(1) == y).float().mean()))
        assert found.final == pytest.approx(100 * float((snn(x).argmax(1) == y).float().mean()))
    assert list(found.curve) == [1, 2, 3, 4]
    assert found.pre_timesteps == 4
    assert snnconv.evaluate(snn, loader, timesteps=[4]).curve[4] == pytest.approx(found.final)
    assert snnconv.evaluate(snn, (x, y), limit=70).samples == 70
    with torch.no_grad():
        off = float((snn(x) - model(x)).square().mean())
    assert snnconv.evaluate(snn, (x, model(x).detach()), "mse", timesteps=[4]).final == pytest.approx(off, rel=1e-4)


def test_evaluate_refuses_what_it_cannot_score() -> None:
    model, x = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)), torch.randn(8, 4)
    snn = snnconv.convert(model, methods.IF(4), x, progress=False)
    for data, reason in (
        (x, "inputs alone"),
        ((x, torch.full((8,), 3)), "label 3 is none of the network's 3 outputs"),
        ((x, torch.randn(8, 3)), "no class labels"),
        ((x[:0], torch.zeros(0, dtype=torch.long)), "empty"),
        ((x, torch.zeros(7, dtype=torch.long)), "8 inputs and 7 targets"),
        ((x * float("nan"), torch.zeros(8, dtype=torch.long)), "NaN"),
    ):
        with pytest.raises(snnconv.ConversionError, match=reason):
            snnconv.evaluate(snn, data)
    with pytest.raises(ValueError, match="known: top1, top5, mse"):
        snnconv.evaluate(snn, (x, x), "accuracy")
    with pytest.raises(ValueError, match=r"steps 1 … 4, asked for \[9\]"):
        snnconv.evaluate(snn, (x, x), timesteps=[9])
    with pytest.raises(snnconv.ConversionError, match="one number a sample"):
        snnconv.evaluate(snn, (x, x), lambda output, target: output)
