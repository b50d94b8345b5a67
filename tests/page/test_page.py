"""A page on a converted network is one file: it asks for nothing, and names in it are text."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.cli.app import app
from tests.command_line import Runner

pytest.importorskip("matplotlib")

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=https://localhost/x onerror=alert(1)>',
    "$x_{",
    "a\nb\x00</style>",
    "n" * 4000,
)


class Read(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def pictures(self) -> list[bytes]:
        found = [attrs["src"].partition("base64,")[2] for tag, attrs in self.tags if tag == "img"]
        return [base64.b64decode(content) for content in found]


def network(*names: str) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    for place, name in enumerate(names):
        model.add_module(f"fc{place}", nn.Linear(6, 6))
        model.add_module(name, nn.ReLU())
    model.add_module("out", nn.Linear(6, 3))
    return model.eval()


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(90, 6), torch.randint(0, 3, (90,))


def test_the_page_says_what_was_measured(tmp_path: Path, data: tuple[Tensor, Tensor]) -> None:
    model = network("first", "second")
    snn = snnconv.convert(model, methods.SignedIF(8), data[0], progress=False)
    assert snnconv.write_page(snn, tmp_path / "net.html", data=data, model=model, name="my network") == []
    read = Read(tmp_path / "net.html")
    for title in ("Accuracy against time steps", "Error of every layer", "Energy by layer", "Spikes", "Thresholds"):
        assert title in read.text
    found = snnconv.evaluate(snn, data, model=model)
    assert f"{found.final:.2f} after 8 steps on 90 inputs; the source network reaches {found.ann:.2f}" in read.text
    ratio = snnconv.profile(model, snn, data[0], limit=64).energy_ratio
    assert f"{ratio:.3f} of the source network's energy" in read.text
    assert "No operator: every activation became spiking neurons." in read.text
    assert len(read.pictures) == 7


def test_it_asks_for_nothing_and_runs_nothing(tmp_path: Path, data: tuple[Tensor, Tensor]) -> None:
    model = network("first", "second")
    snn = snnconv.convert(model, methods.IF(8), data[0], progress=False)
    snnconv.write_page(snn, tmp_path / "net.html", data=data, model=model)
    read = Read(tmp_path / "net.html")
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
    for _, attrs in read.tags:
        assert all(value.startswith("data:") for name, value in attrs.items() if name in ("src", "href", "srcset"))
        assert not any(name.startswith("on") for name in attrs)
    policy = next(attrs["content"] for tag, attrs in read.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none';")
    for picture in read.pictures:
        ElementTree.fromstring(picture)
        assert not re.search(rb"<(script|image|foreignObject)|url\(['\"]?(?!#)|@import", picture)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_a_file_are_text(tmp_path: Path, data: tuple[Tensor, Tensor], name: str) -> None:
    model = network("first", name)
    snn = snnconv.convert(model, methods.SignedIF(4), data[0], progress=False)
    snnconv.save(snn, tmp_path / "net.snn.safetensors")
    loaded = snnconv.load(tmp_path / "net.snn.safetensors")
    assert name in loaded.neurons
    assert snnconv.write_page(loaded, tmp_path / "net.html", data=data, name=name) == []
    read = Read(tmp_path / "net.html")
    assert {tag for tag, _ in read.tags} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section", "figure", "img", "details",
        "summary", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert [tag for tag, _ in read.tags].count("style") == 1
    assert name[:20].replace("\n", "\n").replace("\x00", "�")[:5] in read.text
    assert all(attrs["src"].startswith("data:image/svg+xml;base64,") for tag, attrs in read.tags if tag == "img")
    assert (tmp_path / "net.html").stat().st_size < 2_000_000


def test_without_data_it_shows_what_the_file_says(tmp_path: Path, data: tuple[Tensor, Tensor]) -> None:
    snn = snnconv.convert(network("first"), methods.SRP(4, 4), data[0], progress=False)
    (missing,) = snnconv.write_page(snn, tmp_path / "net.html")
    assert "they need data" in missing
    read = Read(tmp_path / "net.html")
    assert "as measured on calibration inputs when it was converted" in read.text
    assert "Energy by layer" not in read.text


def test_what_cannot_be_shown_is_said(tmp_path: Path, data: tuple[Tensor, Tensor]) -> None:
    snn = snnconv.convert(network("first"), methods.IF(4), data[0], progress=False)
    (missing,) = snnconv.write_page(snn, tmp_path / "net.html", data=[data[0]])
    assert missing == "Accuracy against time steps: the data holds inputs alone: give (input, target) batches"
    assert "Left out: the data holds inputs alone" in Read(tmp_path / "net.html").text
    with pytest.raises(OSError, match=r"none"):
        snnconv.write_page(snn, tmp_path / "none" / "net.html")


def test_what_stays_analog_is_listed(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x)).sort(1).values)

    x = torch.randn(60, 6)
    snn = snnconv.convert(Odd(), methods.ShiftedThreshold(4), x, progress=False)
    assert snn.report is not None
    snnconv.write_page(snn, tmp_path / "net.html", data=x)
    assert all(site.reason in Read(tmp_path / "net.html").text for site in snn.report.analog)


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path: Path, data: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        model = network("first", "second")
        torch.save(model, "whole.pt")
        snnconv.save(snnconv.convert(model, methods.IF(4), data[0], progress=False), "net.snn.safetensors")
        np.savez("data.npz", x=data[0].numpy(), y=data[1].numpy())
        Path("net.py").write_text(
            "import torch\n\ndef make():\n    return torch.load('whole.pt', weights_only=False)\n"
        )
        return tmp_path

    def run(self, *arguments: str) -> tuple[int, str]:
        result = Runner().invoke(app, ["report", *arguments])
        return result.exit_code, result.output

    def test_from_the_file_alone_and_with_everything(self, folder: Path) -> None:
        status, said = self.run("net.snn.safetensors", "--html", "a.html")
        assert (status, "wrote a.html" in said, "give --data" in said) == (0, True, True)
        more = ("--data", "data.npz", "--model", "net.py:make", "--html", "b.html")
        status, said = self.run("net.snn.safetensors", *more)
        assert (status, "left out" in said) == (0, False), said
        assert "the source network reaches" in Read(folder / "b.html").text

    def test_mistakes(self, folder: Path) -> None:
        assert self.run("none.snn.safetensors", "--html", "a.html")[0] == 2
        status, said = self.run("net.snn.safetensors", "--html", "none/a.html")
        assert (status, "folder of --html" in said) == (2, True)
        Path("other.py").write_text("from torch import nn\n\ndef make():\n    return nn.Linear(6, 3)\n")
        status, said = self.run("net.snn.safetensors", "--html", "a.html", "--model", "other.py:make")
        assert (status, "converted from other weights" in said) == (2, True)
