"""A disk that is full or fails at any step of a write: the error names the file, which is as it was."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import snnconv
from snnconv import methods
from snnconv.activations import QuantReLU
from snnconv.files.atomic import write_whole

pytest.importorskip("jsonschema")
pytest.importorskip("mmengine")

from snnbench import leaderboard, results
from snnbench.data.archive import ArchiveError, unpack
from snnbench.data.images import store_tensors
from snnbench.data.roots import DataError
from snnbench.results import ResultError
from snnbench.testing.picture import SideBySide
from snnbench.testing.resume import PartialState
from snnbench.weights.card import ModelCard, save_weights

resource = pytest.importorskip("resource", reason="no limits of a process here")
ROOT = Path(__file__).parents[2]
X = torch.rand(24, 6, generator=torch.Generator().manual_seed(0))


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))


def network() -> snnconv.SpikingNetwork:
    return snnconv.convert(layers(), methods.IF(4), X, progress=False)


def save(path: Path) -> Callable[[], Any]:
    snn = network()
    return lambda: snnconv.save(snn, path)


def seen(path: Path) -> Callable[[], Any]:
    found = snnconv.calibrate(layers(), X, progress=False)
    return lambda: found.save(path)


def nir(path: Path) -> Callable[[], Any]:
    pytest.importorskip("nir")
    snn = network()
    return lambda: snnconv.to_nir(snn, path)


def result(path: Path) -> Callable[[], Any]:
    record = results.read(ROOT / "benchmarks" / "results" / "digits" / "if.json")
    return lambda: results.write(path, record)


def card(path: Path) -> Callable[[], Any]:
    return lambda: save_weights(layers(), path, ModelCard("layers"))


def state(path: Path) -> Callable[[], Any]:
    return lambda: PartialState(path, "a").save(1, {"ANN": [[torch.zeros(2000)]]}, {"ANN": 1.0})


def cache(path: Path) -> Callable[[], Any]:
    return lambda: store_tensors(path, {"images": torch.zeros(4000)}, {})


def pages(path: Path) -> Callable[[], Any]:
    return lambda: leaderboard.write(path.parent)


def picture(path: Path) -> Callable[[], Any]:
    import matplotlib.pyplot as plt
    import numpy as np

    plt.close(plt.figure())  # what it stores of the fonts, it does while it can
    side = SideBySide(path.parent, 1, None)
    side.panels[f"{path.stem}.jpg"] = [("ANN", np.zeros((8, 8, 3), np.uint8))]
    return side.finish


def onnx(path: Path) -> Callable[[], Any]:
    pytest.importorskip("onnxscript")
    if not hasattr(torch.onnx, "ops"):
        pytest.skip("to_onnx needs the exporter of PyTorch 2.8 and later")
    snn = network()
    return lambda: snnconv.to_onnx(snn, path)


def plot(path: Path) -> Callable[[], Any]:
    from snnconv.cli.outcome import write_picture

    return lambda: write_picture(path, lambda axes: axes.plot([1, 2]))


def demo_data(path: Path) -> Callable[[], Any]:
    from types import SimpleNamespace

    from snnconv.cli.demo import _save_test

    digits = SimpleNamespace(x_test=torch.zeros(100, 8), y_test=torch.zeros(100))
    return lambda: _save_test(path, digits)


def page(path: Path) -> Callable[[], Any]:
    from snnconv.page.write import write_page

    snn = network()
    return lambda: write_page(snn, path)


def clip(path: Path) -> Callable[[], Any]:
    pytest.importorskip("av")
    import numpy as np

    from snnbench.data.clips import write_video

    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    return lambda: write_video(path, frames, 8)


def layers_done(path: Path) -> Callable[[], Any]:
    torch.manual_seed(0)
    model = snnconv.prepare(layers(), QuantReLU(3), X, progress=False).eval()
    snn = snnconv.convert(model, methods.IF(3, thresholds="trained", correction="none"), progress=False)
    data = [(X, torch.arange(24) % 3)]
    return lambda: snnconv.finetune_layerwise(model, snn, data, epochs=1, progress=False, checkpoint=path.parent)


WRITERS: dict[str, tuple[str, Callable[[Path], Callable[[], Any]], type[Exception]]] = {
    "network": ("net.snn", save, OSError),
    "calibration": ("seen.safetensors", seen, OSError),
    "NIR": ("net.nir", nir, OSError),
    "result": ("if.json", result, ResultError),
    "weights": ("net.safetensors", card, ResultError),
    "state": ("state.pt", state, OSError),
    "cache": ("images.safetensors", cache, DataError),
    "leaderboard": ("LEADERBOARD.md", pages, ResultError),
    "picture": ("shown.png", picture, OSError),
    "ONNX": ("net.onnx", onnx, OSError),
    "plot": ("curve.svg", plot, OSError),
    "test data of the demo": ("test.npz", demo_data, OSError),
    "report": ("page.html", page, OSError),
    "video": ("clip.mp4", clip, OSError),
    "fine-tuning": ("finetune.safetensors", layers_done, OSError),
}
"""A file, what writes it (made before the disk fails), and the error that names it."""
NEW = ("result", "fine-tuning")
"""Writers that read what is there already, and go on from it."""


@contextlib.contextmanager
def full(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def failing(name: str, code: int, below: Path) -> Iterator[None]:
    """A call of ``os`` fails for what lies below a folder, as the system says it."""
    real, folder = getattr(os, name), str(below)

    def call(first: Any, *rest: Any, **options: Any) -> Any:
        path = first if isinstance(first, str | os.PathLike) else os.readlink(f"/proc/self/fd/{first}")
        creates = name != "open" or rest[0] & os.O_CREAT
        if str(path).startswith(folder) and creates and ".lock" not in str(path):
            raise OSError(code, os.strerror(code), str(path))
        return real(first, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, call)
        yield


FAULTS: dict[str, Callable[[Path], contextlib.AbstractContextManager[None]]] = {
    "full at once": lambda folder: full(0),
    "full on the way": lambda folder: full(900),
    "fails to store": lambda folder: failing("fsync", errno.EIO, folder),
    "fails to rename": lambda folder: failing("replace", errno.EIO, folder),
    "read-only": lambda folder: failing("open", errno.EROFS, folder),
}


def laid(name: str, folder: Path) -> Callable[[], Any]:
    """Lay out a folder for one of :data:`WRITERS`, with a file where it is going to write; what writes it."""
    file, prepare, _ = WRITERS[name]
    if name == "leaderboard":
        (folder / "results").mkdir()
        source = ROOT / "benchmarks" / "results" / "digits" / "if.json"
        (folder / "results" / "if.json").write_bytes(source.read_bytes())
    if name not in NEW:
        (folder / file).write_bytes(b"as it was")
    return prepare(folder / file)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system which file a number is")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_lost_and_the_file_is_named(name: str, fault: str, tmp_path: Path) -> None:
    file, _, kind = WRITERS[name]
    folder = tmp_path / "place"
    folder.mkdir()
    path = folder / file
    write = laid(name, folder)
    before = {entry: entry.read_bytes() for entry in folder.rglob("*") if entry.is_file()}
    with FAULTS[fault](folder), pytest.raises(kind) as caught:
        write()
    said = str(caught.value)
    assert str(path) in said
    assert ".tmp" not in said
    assert {entry: entry.read_bytes() for entry in folder.rglob("*") if entry.is_file()} == before
    write()  # the disk is well again
    assert path.read_bytes() != b"as it was"


def test_a_data_set_that_cannot_be_unpacked_leaves_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a/1.txt", "x" * 5000)
    place = tmp_path / "place"
    place.mkdir()
    with full(0), pytest.raises(ArchiveError, match="place"):
        unpack(tmp_path / "set.zip", place / "set")
    assert list(place.iterdir()) == []
    assert (unpack(tmp_path / "set.zip", place / "set") / "a" / "1.txt").exists()


def test_the_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    from snnconv.files.atomic import replacing

    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "a"):
        (tmp_path / "elsewhere").read_bytes()
    write_whole(tmp_path / "a", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
