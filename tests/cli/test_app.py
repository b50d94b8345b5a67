"""The command line: what it prints, and that a mistake is one sentence with exit status 2."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import snnconv
from snnconv import methods
from snnconv.cli import inputs as cli_inputs
from snnconv.cli import preprocessing
from snnconv.cli.app import app
from snnconv.cli.data import Data, load_data
from snnconv.cli.inputs import InputError
from snnconv.cli.models import load_model
from snnconv.runtime.int8 import supported
from tests.command_line import Runner

runner = Runner()

NETWORK = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3),
    )

def number():
    return 3

def normed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 3))
"""


@pytest.fixture
def network(tmp_path: Path) -> str:
    path = tmp_path / "network.py"
    path.write_text(NETWORK)
    return f"{path}:small"


@pytest.fixture
def images(tmp_path: Path, network: str) -> Path:
    x = torch.randn(60, 1, 8, 8)
    with torch.no_grad():
        y = load_model(network, None, None, False)(x).argmax(1)
    path = tmp_path / "images.npz"
    np.savez(path, x=x.numpy(), y=y.numpy())
    return path


def run(*arguments: object, status: int = 0) -> str:
    result = runner.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == status, result.output
    return result.output


def refused(*arguments: object) -> str:
    """The one sentence of an error."""
    output = run(*arguments, status=2).strip()
    assert output.count("error: ") == 1
    output = output[output.index("error: ") :]
    assert "Traceback" not in output
    return " ".join(output.split())


def test_help_names_every_command() -> None:
    output = run("--help")
    for name in ("convert", "eval", "compare", "profile", "doctor"):
        assert name in output


def test_every_setting_of_every_method_is_an_option() -> None:
    output = run("convert", "--help")
    for cls in cli_inputs.method_classes().values():
        for field in cls.choices():
            assert f"--{field.name.replace('_', '-')}" in output
    assert "runs that file's code" in " ".join(output.replace("│", " ").split())


def test_methods_are_named_in_lower_case_with_hyphens() -> None:
    assert set(cli_inputs.method_classes()) >= {
        "if",
        "signed-if",
        "srp",
        "shifted-threshold",
        "ltb",
        "rate-norm",
    }


def test_settings_become_the_method() -> None:
    method = cli_inputs.make_method("srp", {"timesteps": "4", "pre_timesteps": "6", "thresholds": "mse"})
    assert isinstance(method, methods.SRP)
    assert (method.timesteps, method.pre_timesteps, method.thresholds) == (4, 6, "mse")


def test_convert_saves_what_compare_profile_and_eval_load(network: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.snn.safetensors"
    options = ("--method", "signed-if", "--timesteps", 4, "--calibration-images", 30)
    assert "wrote" in run("convert", network, "--data", images, "--out", out, *options)
    assert out.stat().st_size > 0
    assert run("compare", network, "--data", images, "--snn", out).strip()
    assert run("profile", network, "--data", images, "--snn", out).strip()
    output = run("eval", network, "--data", images, "--snn", out)
    assert "100.00" in output  # the labels are the network's own
    for t in (1, 2, 4):
        assert f" {t} " in output


def test_convert_takes_what_is_different_layer_by_layer(network: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.snn.safetensors"
    options = ("--data", images, "--out", out, "--method", "shifted-threshold", "--timesteps", 4)
    run("convert", network, *options, "--override", "4:timesteps=2,per-channel=false")
    mixed = snnconv.load(out)
    assert {site: mixed.method.at(site).timesteps for site in ("1", "4")} == {"1": 4, "4": 2}
    assert mixed.thresholds["4"].numel() == 1
    run("convert", network, *options, "--exclude", "4")
    assert list(snnconv.load(out).neurons) == ["1"]
    assert "output error" in run("convert", network, *options, "--budget", 3)
    assert snnconv.load(out).report.frontier[-1][0] <= 3
    assert "write PATTERN:field=value" in run("convert", network, *options, "--override", "4=2", status=2)
    assert "names no activation" in run("convert", network, *options, "--override", "9:timesteps=2", status=2)


def test_convert_has_normalisations_by_ladders(network: str, images: Path, tmp_path: Path) -> None:
    out, normed = tmp_path / "normed.snn.safetensors", network.replace(":small", ":normed")
    options = ("--data", images, "--out", out, "--method", "shifted-threshold", "--timesteps", 4)
    ladder = (*options, "--cover", "synapses", "--normalisation", "ladder")
    run("convert", normed, *ladder)
    assert [one.kind for one in snnconv.load(out).report.normalisations] == ["layer_norm"]
    assert "by ladders" in run("profile", normed, "--data", images, "--snn", out)
    assert "needs cover='synapses'" in run("convert", normed, *options, "--normalisation", "ladder", status=2)
    assert "must be one of" in run("convert", normed, *ladder[:-1], "table", status=2)


def test_convert_takes_snntorchs_neurons(network: str, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("snntorch")
    out = tmp_path / "small.snn.safetensors"
    options = ("--method", "signed-if", "--timesteps", 4, "--calibration-images", 30)
    run("convert", network, "--data", images, "--out", out, *options, "--framework", "snntorch")
    assert snnconv.load(out).framework == "snntorch"
    assert "100.00" in run("eval", network, "--data", images, "--snn", out)
    result = run("convert", network, "--data", images, "--out", out, *options, "--framework", "norse", status=2)
    assert "norse" in result
    assert "snntorch" in result


@pytest.mark.skipif(bool(supported()), reason=f"8-bit layers: {supported()}")
def test_convert_in_8_bits_names_what_stays_float(network: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.snn.safetensors"
    options = ("--method", "signed-if", "--timesteps", 4, "--calibration-images", 30, "--precision", "int8")
    assert "it does not read spikes" in run("convert", network, "--data", images, "--out", out, *options)
    assert snnconv.load(out).precision == "int8"
    assert "unknown precision 'int4'" in run(
        "convert", network, "--data", images, "--out", out, *options[:-1], "int4", status=2
    )


def test_eval_converts_once_for_each_number_of_steps(network: str, images: Path) -> None:
    options = ("--method", "if", "--calibration-images", 30, "--limit", 40)
    output = run("eval", network, "--data", images, "--at", "2,8", *options)
    assert "accuracy on 40 inputs" in output
    assert [line.split()[1:4] for line in output.splitlines() if "│ if" in line] == [
        ["if", "│", "2"],
        ["if", "│", "8"],
    ]


def test_doctor_names_every_part() -> None:
    output = run("doctor")
    for name in ("torch", "spikingjelly", "snntorch", "numba kernels", "mmcv operators", "gymnasium", "nir"):
        assert name in output


class TestMistakes:
    def test_debug_shows_the_traceback(self, images: Path) -> None:
        result = runner.invoke(app, ["eval", "nothing", "--data", str(images), "--at", "2", "--debug"])
        assert isinstance(result.exception, InputError)

    @pytest.mark.parametrize(
        ("spec", "reason"),
        [
            ("resnet18", "names no network"),
            ("torchvision:no_such_net", "no model 'no_such_net'"),
            ("keras:resnet18", "neither torchvision, timm nor"),
            ("missing.py:small", "does not exist"),
        ],
    )
    def test_network(self, images: Path, spec: str, reason: str) -> None:
        assert reason in refused("eval", spec, "--data", images, "--at", 2)

    def test_network_file(self, images: Path, network: str, tmp_path: Path) -> None:
        path = network.rpartition(":")[0]
        assert "small, number" in refused("eval", f"{path}:big", "--data", images, "--at", 2)
        assert "returned int" in refused("eval", f"{path}:number", "--data", images, "--at", 2)
        broken = tmp_path / "broken.py"
        broken.write_text("1 / 0")
        assert "ZeroDivisionError" in refused("eval", f"{broken}:small", "--data", images, "--at", 2)

    def test_method(self, network: str, images: Path, tmp_path: Path) -> None:
        base = ("convert", network, "--data", images, "--out", tmp_path / "out.safetensors")
        assert "there are: " in refused(*base, "--method", "magic", "--timesteps", 4)
        assert "timesteps" in refused(*base, "--timesteps", 0)
        assert "timesteps" in refused(*base, "--timesteps", "many")
        assert "has no --pre-timesteps" in refused(*base, "--timesteps", 4, "--pre-timesteps", 4)
        assert "timesteps" in refused(*base)
        assert not (tmp_path / "out.safetensors").exists()

    def test_output_folder(self, network: str, images: Path, tmp_path: Path) -> None:
        out = tmp_path / "none" / "x.safetensors"
        assert "does not exist" in refused("convert", network, "--data", images, "--out", out)

    def test_weights(self, network: str, images: Path, tmp_path: Path) -> None:
        path = tmp_path / "weights.pth"
        base = ("eval", network, "--data", images, "--at", 2, "--weights", path)
        assert "does not exist" in refused(*base)
        path.write_bytes(b"nonsense")
        assert "not a checkpoint that can be read" in refused(*base)
        torch.save({"state_dict": {"a": torch.zeros(1)}}, path)
        assert "0.weight is not in the file" in refused(*base)
        torch.save(nn.Linear(2, 2), path)  # a pickled module runs code when read
        assert "refused, and nothing of it was run: it asks for torch.nn.modules.linear.Linear" in refused(*base)

    def test_data(self, network: str, tmp_path: Path) -> None:
        path = tmp_path / "data.npz"
        base = ("eval", network, "--data", path, "--at", 2)
        assert "does not exist" in refused(*base)
        np.savez(path, z=np.zeros(3))
        assert "no tensor 'x'" in refused(*base)
        np.savez(path, x=np.zeros((4, 1, 8, 8), np.float32))
        assert "no labels" in refused(*base)
        np.savez(path, x=np.zeros((4, 1, 8, 8), np.float32), y=np.zeros(3))
        assert "y has shape (3,)" in refused(*base)
        np.savez(path, x=np.zeros((0, 1, 8, 8), np.float32), y=np.zeros(0))
        assert "x has shape" in refused(*base)
        empty = tmp_path / "folder"
        empty.mkdir()
        assert "holds no image" in refused("eval", network, "--data", empty, "--at", 2)

    def test_numbers(self, network: str, images: Path) -> None:
        base = ("eval", network, "--data", images)
        assert "--at 4,8,16" in refused(*base)
        assert "whole numbers from 1 on" in refused(*base, "--at", "2,x")
        assert "whole numbers from 1 on" in refused(*base, "--at", "0")
        assert "--mean" in refused(*base, "--at", 2, "--mean", "a,b")
        assert "above zero" in refused(*base, "--at", 2, "--std", "0,1,1")

    def test_saved_file(self, network: str, images: Path, tmp_path: Path) -> None:
        path = tmp_path / "broken.snn.safetensors"
        path.write_bytes(b"nonsense")
        refused("eval", network, "--data", images, "--snn", path)
        refused("eval", network, "--data", images, "--snn", tmp_path / "missing.safetensors")

    def test_input_of_another_shape(self, network: str, tmp_path: Path) -> None:
        path = tmp_path / "wrong.npz"
        np.savez(path, x=np.zeros((4, 3, 8, 8), np.float32), y=np.zeros(4, np.int64))
        refused("eval", network, "--data", path, "--at", 2)


def test_folder_of_images(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    for name, value in (("cat", 0), ("dog", 255)):
        (tmp_path / name).mkdir()
        image_module.new("RGB", (12, 10), (value,) * 3).save(tmp_path / name / "0.png")
    half = preprocessing.find("net.py:net", None, False, size=8, mean="0.5,0.5,0.5", std="0.5,0.5,0.5")
    folder = load_data(tmp_path, half)
    ((x, y),) = folder.batches()
    assert x.shape == (2, 3, 8, 8)
    assert (x[0].max(), x[1].min(), y.tolist()) == (-1, 1, [0, 1])
    assert folder.inputs(1)[0].shape == (1, 3, 8, 8)


def test_bytes_in_a_file_are_scaled_and_normalised(tmp_path: Path) -> None:
    path = tmp_path / "bytes.npz"
    np.savez(path, x=np.full((2, 3, 4, 4), 255, np.uint8))
    loaded = load_data(path, preprocessing.find("net.py:net", None, False, mean="0.5,0.5,0.5", std="0.25,0.25,0.25"))
    assert not loaded.labelled
    assert loaded.inputs()[0].unique().tolist() == [2.0]


def test_calibration_inputs_come_from_the_whole_set() -> None:
    data = Data({"x": torch.arange(101.0).view(-1, 1), "y": None}, 101, False)
    assert torch.cat(data.inputs(3)).flatten().tolist() == [0, 50, 100]


def test_a_missing_setting_is_named_as_the_option() -> None:
    from snnconv.cli.inputs import InputError, make_method

    with pytest.raises(InputError, match="srp needs --timesteps and --pre-timesteps"):
        make_method("srp", {})


def test_settings_are_read_as_their_fields_want_them() -> None:
    assert cli_inputs.make_method("if", {"timesteps": "4", "correction": "none"}).correction == "none"
    assert cli_inputs.make_method("signed-if", {"timesteps": "4", "delay": "none"}).delay is None
    assert cli_inputs.make_method("signed-if", {"timesteps": "4", "delay": "2"}).delay == 2
    assert cli_inputs.make_method("if", {"timesteps": "4", "per_channel": "False"}).per_channel is False
    assert cli_inputs.make_method("srp", {"timesteps": "4", "pre_timesteps": "4", "eps": "1e-2"}).eps == 0.01
    for name, cls in cli_inputs.method_classes().items():
        fields = cls.choices()
        given = {f.name: str(f.default) for f in fields if f.default is not dataclasses.MISSING}
        needed = {f.name: "4" for f in fields if f.default is dataclasses.MISSING}
        whole = cli_inputs.make_method(name, {**needed, **given})
        assert whole == cls(**{key: int(value) for key, value in needed.items()})


def test_correction_none_is_a_choice(network: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.snn.safetensors"
    run("convert", network, "--data", images, "--out", out, "--method", "if", "--timesteps", 4, "--correction", "none")
    assert snnconv.load(out).method.correction == "none"
