"""HDF5 files from strangers hold what they say themselves, and do not grow without measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

h5py = pytest.importorskip("h5py", reason="needs the nir extra")
pytest.importorskip("nir", reason="needs the nir extra")

import snnconv  # noqa: E402
from snnconv import limits, methods  # noqa: E402


def outside(file: Any, name: str, folder: Path) -> None:
    """An array that lies in another file."""
    (folder / "secret").write_bytes(bytes(4096))
    shape = file[name].shape
    del file[name]
    size = int(np.prod(shape)) * 4
    file.create_dataset(name, shape=shape, dtype="f4", external=[(str(folder / "secret"), 0, size)])


def virtual(file: Any, name: str, folder: Path) -> None:
    """An array made of those of another file."""
    shape = file[name].shape
    del file[name]
    layout = h5py.VirtualLayout(shape=shape, dtype="f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape=shape)
    file.create_virtual_dataset(name, layout)


def linked(file: Any, name: str, folder: Path) -> None:
    """A link to another file."""
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = file[name][()]
    del file[name]
    file[name] = h5py.ExternalLink(str(folder / "other.h5"), "/x")


def huge(file: Any, name: str, folder: Path) -> None:
    """An array of which nothing is stored."""
    del file[name]
    file.create_dataset(name, shape=(10**4, 10**5), dtype="f4", chunks=(100, 100), compression="gzip")


def endless(file: Any, name: str, folder: Path) -> None:
    """A group that lies in itself."""
    group = file[name].parent
    group["again"] = group


WRONG: dict[str, tuple[Callable[[Any, str, Path], None], str]] = {
    "outside": (outside, r"is stored in another file"),
    "virtual": (virtual, r"is stored in another file"),
    "linked": (linked, r"is a link to another file, '.*other\.h5'"),
    "huge": (huge, r"makes 4,\d+,\d+,\d+ bytes of a file of .*snnconv\.limits\.UNPACKED"),
    "endless": (endless, r"groups lie in groups without end"),
}


def written(path: Path) -> str:
    """A network as NIR; the name of an array of weights in it."""
    layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    snn = snnconv.convert(layers, methods.IF(4), torch.rand(16, 4), progress=False)
    snnconv.to_nir(snn, path)
    names: list[str] = []
    with h5py.File(path, "r") as file:
        file.visit(names.append)
    return next(name for name in names if name.endswith("weight"))


@pytest.mark.parametrize("what", WRONG)
def test_what_lies_outside_or_grows_is_refused_by_field(what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.nir"
    name = written(path)
    change, reason = WRONG[what]
    with h5py.File(path, "r+") as file:
        change(file, name, tmp_path)
    with pytest.raises(snnconv.ConversionError, match=rf"a\.nir: /.*{reason}"):
        snnconv.from_nir(path)


def test_the_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nir"
    written(path)
    monkeypatch.setattr(limits, "UNPACKED", 10)
    monkeypatch.setattr(limits, "EXPANSION", 0)
    with pytest.raises(snnconv.ConversionError, match="UNPACKED = 10; raise that limit"):
        snnconv.from_nir(path)
    monkeypatch.setattr(limits, "UNPACKED", 10**6)
    assert snnconv.from_nir(path)(torch.rand(2, 4)).shape == (2, 2)
