"""Tensors of files from strangers: as large as the file, of the kind asked for; no reader waits for a pipe."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import snnconv
from snnconv import limits
from snnconv.cli.data import load_data
from snnconv.cli.inputs import InputError
from snnconv.files.pictures import open_rgb
from snnconv.files.untrusted import (
    CheckpointError,
    UntrustedFileError,
    load_weights,
    read_header,
    read_pickle,
    read_safetensors,
)
from snnconv.files.zips import opened, read_arrays


def test_a_tensor_that_repeats_a_piece_of_memory_without_measure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    torch.save({"x": [torch.zeros(1, 1).expand(10**5, 10**6)]}, path)
    with pytest.raises(UntrustedFileError, match=r"a\.pt is refused: a tensor of shape \[100000, 1000000\] repeats"):
        read_pickle(path)
    torch.save({"x": torch.zeros(1, 1).expand(300, 10)}, path)
    assert read_pickle(path)["x"].shape == (300, 10)
    monkeypatch.setattr(limits, "UNPACKED", 1000)
    with pytest.raises(UntrustedFileError, match=r"snnconv\.limits\.UNPACKED = 1,000; raise that limit"):
        read_pickle(path)


def test_tensors_without_number_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({str(k): torch.zeros(1) for k in range(5)}, tmp_path / "a.safetensors")
    assert len(read_safetensors(tmp_path / "a.safetensors")[0]) == 5
    monkeypatch.setattr(limits, "TENSORS", 4)
    with pytest.raises(UntrustedFileError, match=r"holds 5 tensors, more than snnconv\.limits\.TENSORS = 4; raise"):
        read_safetensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (torch.ones(3, 4).to_sparse(), "weight is sparse in the file and a plain tensor in the model"),
        (torch.ones(3, 4, device="meta"), r"weight is without values \(on the meta device\) in the file"),
        (torch.ones(3, 4, dtype=torch.complex64), "weight holds complex numbers"),
        (torch.full((3, 4), 1e300, dtype=torch.float64), "weight holds values that are infinite in float32"),
        (torch.ones(4, 4), "weight is 4x4 in the file and 3x4 in the model"),
    ],
)
def test_weights_that_would_become_others_are_refused(tmp_path: Path, weight: Tensor, reason: str) -> None:
    model = nn.Linear(4, 3)
    before = model.weight.clone()
    torch.save({"weight": weight, "bias": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"a\.pth: these are not the weights of the given Linear: {reason}"):
        load_weights(model, tmp_path / "a.pth")
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.int64])
def test_weights_of_another_precision_are_read(tmp_path: Path, kind: torch.dtype) -> None:
    model = nn.Linear(4, 3)
    torch.save({"weight": torch.full((3, 4), 2, dtype=kind), "bias": torch.zeros(3)}, tmp_path / "a.pth")
    load_weights(model, tmp_path / "a.pth")
    assert bool((model.weight == 2).all())


def test_data_that_is_no_plain_tensor_is_refused_and_a_parameter_is_one(tmp_path: Path) -> None:
    x, y = torch.rand(6, 4), torch.arange(6)
    for odd, what in ((x.to_sparse(), "sparse"), (x.to("meta"), "without values")):
        torch.save({"x": odd, "y": y}, tmp_path / "d.pt")
        with pytest.raises(InputError, match=rf"d\.pt: x is {what}.*; store it as a plain tensor"):
            load_data(tmp_path / "d.pt", None)  # type: ignore[arg-type]
    torch.save({"x": nn.Parameter(x), "y": y}, tmp_path / "d.pt")
    found = load_data(tmp_path / "d.pt", None).source["x"]  # type: ignore[arg-type]
    assert torch.equal(found, x)
    assert not found.requires_grad


def zipped(path: Path) -> None:
    with opened(path):
        pass


def result(path: Path) -> Any:
    pytest.importorskip("jsonschema")
    from snnbench import results

    return results.read(path)


def picture(path: Path) -> Any:
    pytest.importorskip("PIL")
    return open_rgb(path)


def nir(path: Path) -> Any:
    pytest.importorskip("nir")
    return snnconv.from_nir(path)


READERS: dict[str, Callable[[Path], Any]] = {
    "weights.pth": lambda path: load_weights(nn.Linear(1, 1), path),
    "weights.safetensors": lambda path: load_weights(nn.Linear(1, 1), path),
    "header.safetensors": read_header,
    "a.zip": zipped,
    "a.npz": read_arrays,
    "a.png": picture,
    "if.json": result,
    "a.nir": nir,
    "a.calibration.safetensors": snnconv.Calibration.load,
    "a.snn.safetensors": snnconv.load,
    "data.pt": lambda path: load_data(path, None),  # type: ignore[arg-type]
}
"""By the name of a file."""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", READERS)
def test_no_reader_waits_for_a_pipe(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    ended: list[BaseException | None] = []

    def read() -> None:
        try:
            READERS[name](tmp_path / name)
        except BaseException as error:  # a test that is skipped, too
            ended.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert ended, "it waits"
    if isinstance(ended[0], pytest.skip.Exception):
        raise ended[0]
    assert isinstance(ended[0], (ValueError, OSError)), ended[0]
    assert name in str(ended[0])
