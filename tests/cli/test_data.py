"""What the command line reads, spreads over its classes, and refuses because it does not fit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import snnconv
from snnconv import limits
from snnconv.cli import preprocessing
from snnconv.cli.app import app
from snnconv.cli.data import load_data
from tests.command_line import Runner

runner = Runner(COLUMNS="250")
PLAIN = preprocessing.find("n.py:n", None, False)
NETWORK = """
import torch
from torch import nn

def small(channels=1, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))

def other():
    return small(seed=1)

def coloured():
    return small(3)

def half():
    "Right for the first five of ten classes."
    first, last = nn.Linear(10, 10), nn.Linear(10, 10)
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.copy_(torch.eye(10))
            layer.bias.zero_()
        last.weight[5:] = 0
    return nn.Sequential(first, nn.ReLU(), last)
"""


def run(*arguments: object, status: int = 0) -> str:
    result = runner.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == status, result.output
    return result.output


def refused(*arguments: object) -> str:
    output = run(*arguments, status=2)
    assert output.count("error: ") == 1
    assert "Traceback" not in output
    return output


@pytest.fixture
def network(tmp_path: Path) -> str:
    (tmp_path / "network.py").write_text(NETWORK)
    return f"{tmp_path / 'network.py'}:small"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(30, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "images.npz", x=x, y=np.arange(30) % 3)
    return tmp_path / "images.npz"


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Inputs that show their class, sorted by it."""
    x = torch.eye(10).repeat_interleave(10, 0)
    np.savez(tmp_path / "classes.npz", x=x.numpy(), y=np.arange(10).repeat(10))
    return tmp_path / "classes.npz"


class TestLimit:
    def test_a_part_is_spread_over_all_classes(self, classes: Path) -> None:
        data = load_data(classes, PLAIN)
        for count in (10, 20, 50, 100):
            labels = torch.cat([y for _, y in data.batches(count) if y is not None])
            assert len(labels) == count
            assert labels.bincount().tolist() == [count // 10] * 10
        assert torch.equal(torch.cat([x for x, _ in data.batches(500)]), data.source["x"])

    def test_the_accuracy_of_a_part_is_that_of_the_whole(self, network: str, classes: Path) -> None:
        for limit in ((), ("--limit", 20)):
            spec = network.replace(":small", ":half")
            output = run("eval", spec, "--data", classes, "--method", "if", "--timesteps", 4, *limit)
            assert [line.split()[-2] for line in output.splitlines() if "ANN" in line] == ["50.00"]
        assert "on 20 inputs of 100, spread evenly" in " ".join(output.split())


class TestWhatDoesNotFit:
    X = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32)
    Y = np.array([0, 1, 2, 0, 1, 2])

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            (Y + 100, "label 100 of input 0 is none of the network's 3 outputs, which are counted from 0 to 2"),
            (Y + 0.5, "y is torch.float64; class numbers are whole"),
            (Y * 1.0, "y is torch.float64; class numbers are whole"),
            (Y - 1, "label -1 of input 0 is below 0"),
            (np.eye(3)[Y], "y has shape (6, 3), expected [6] class numbers"),
        ],
    )
    def test_labels(self, network: str, tmp_path: Path, labels: np.ndarray, reason: str) -> None:
        np.savez(tmp_path / "d.npz", x=self.X, y=labels)
        assert reason in refused("eval", network, "--data", tmp_path / "d.npz", "--timesteps", 4)

    def test_labels_of_some_classes_fit(self, network: str, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=self.X, y=(self.Y > 0).astype(np.uint8))
        assert "ANN" in run("eval", network, "--data", tmp_path / "d.npz", "--timesteps", 4)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_inputs_that_are_no_numbers(self, network: str, images: Path, tmp_path: Path, bad: float) -> None:
        x = self.X.copy()
        x[2:4, 0, 3] = bad
        np.savez(tmp_path / "d.npz", x=x, y=self.Y)
        said = refused("eval", network, "--data", tmp_path / "d.npz", "--calibration", images, "--timesteps", 4)
        assert "d.npz: 2 of 6 inputs hold NaN or infinite values, the first is input 2" in said

    def test_fewer_folders_than_outputs(self, network: str, tmp_path: Path) -> None:
        image_module = pytest.importorskip("PIL.Image")
        for name in ("cat", "dog"):
            (tmp_path / "set" / name).mkdir(parents=True)
            image_module.effect_noise((8, 8), 50).save(tmp_path / "set" / name / "0.png")
        command = ("eval", network.replace(":small", ":coloured"), "--data", tmp_path / "set", "--size", 8)
        said = refused(*command, "--timesteps", 4)
        assert "set has 2 class folders (cat, dog ...), the network 3 outputs" in said
        (tmp_path / "set" / "emu").mkdir()
        assert "pictures: resized to 9, cropped to 8" in run(*command, "--timesteps", 4)

    def test_folders_are_read_in_the_order_of_torchvision_and_once(self, tmp_path: Path) -> None:
        datasets = pytest.importorskip("torchvision.datasets")
        for name in ("b/2.png", "b/deep/1.png", "b/deep.x/0.PNG", "a/10.png", "a/9.jpg", "a/notes.txt", "c/x.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2)).save(tmp_path / name) if name[-4:] != ".txt" else (tmp_path / name).touch()
        expected = datasets.ImageFolder(str(tmp_path)).samples
        (tmp_path / "b" / "deep" / "again").symlink_to(tmp_path / "b", target_is_directory=True)  # a circle
        data = load_data(tmp_path, PLAIN)
        found = list(zip(map(str, data.source.paths), data.source.labels, strict=True))
        assert found == expected
        assert data.classes == ("a", "b", "c")

    def test_a_folder_of_other_things_is_refused_before_all_of_it_is_looked_through(
        self, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "OTHERS", 50)
        for number in range(60):
            (tmp_path / "home" / "a" / f"{number}").mkdir(parents=True)
        output = refused("eval", network, "--data", tmp_path / "home", "--at", "2")
        assert "a has more than snnconv.limits.OTHERS = 50 folders and files that are no images" in output

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list every folder")
    def test_a_folder_that_cannot_be_listed_is_named(self, network: str, tmp_path: Path) -> None:
        (tmp_path / "images" / "a" / "closed").mkdir(parents=True, mode=0)
        output = refused("eval", network, "--data", tmp_path / "images", "--at", "2")
        assert f"{tmp_path / 'images' / 'a' / 'closed'} cannot be listed" in output

    def test_a_damaged_picture_is_named(self, network: str, tmp_path: Path) -> None:
        image_module = pytest.importorskip("PIL.Image")
        for name in "abc":
            (tmp_path / "set" / name).mkdir(parents=True)
            image_module.effect_noise((40, 40), 50).save(tmp_path / "set" / name / "picture.jpg")
        bad = tmp_path / "set/b/picture.jpg"
        bad.write_bytes(bad.read_bytes()[:-150])
        said = refused("eval", network, "--data", tmp_path / "set", "--size", 8, "--timesteps", 4)
        assert "set/b/picture.jpg is damaged" in said
        assert "get the file again" in said


def test_a_saved_network_of_other_weights_is_refused(network: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.snn.safetensors"
    run("convert", network, "--data", images, "--out", out, "--timesteps", 4)
    for command in ("eval", "profile", "compare"):
        run(command, network, "--data", images, "--snn", out)
        said = refused(command, network.replace(":small", ":other"), "--data", images, "--snn", out)
        assert f"{out} was converted from other weights than" in said
        assert "give the --weights" in said


def test_random_weights_are_announced(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    x = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(4, int))
    options = ("--data", tmp_path / "d.npz", "--method", "if", "--timesteps", 2, "--correction", "none")
    output = run("eval", "timm:test_resnet", "--classes", 5, *options)
    assert "neither --weights nor --pretrained: the network's weights are random" in output


class TestPlaces:
    @pytest.mark.parametrize("kind", ["a folder", "in a file"])
    def test_an_out_that_cannot_be_written_is_found_before_the_work(
        self, images: Path, network: str, tmp_path: Path, kind: str
    ) -> None:
        there = tmp_path / "there"
        there.mkdir() if kind == "a folder" else there.touch()
        out = there if kind == "a folder" else there / "net.safetensors"
        (tmp_path / "network.py").write_text("def small(): raise SystemExit('worked first')\n")
        for command in (("convert", network, "--timesteps", 4), ("recommend", network, "--budget", "T=4")):
            assert str(there) in refused(*command, "--data", images, "--out", out)

    def test_an_error_of_the_system_names_its_file(
        self, images: Path, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def large(*_: object, **__: object) -> None:
            raise OSError(27, "File too large", str(tmp_path / "net.safetensors"))

        monkeypatch.setattr(snnconv, "save", large)
        said = refused("convert", network, "--data", images, "--timesteps", 4, "--out", tmp_path / "net.safetensors")
        assert f"error: {tmp_path / 'net.safetensors'}: File too large" in said

    @pytest.mark.parametrize("steps", [10**6, 10**11, 2**64])
    def test_steps_without_end_are_refused_with_the_limit(self, images: Path, network: str, steps: int) -> None:
        assert "snnconv.limits.TIMESTEPS" in refused("eval", network, "--data", images, "--at", steps)
