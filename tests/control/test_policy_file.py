"""Policy files from anywhere: each is read, or refused with its name and the field; nothing of it is run."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from snnconv.control.policy_file import PolicyFileError, read_policy

STATE = {
    "actor.mu.0.weight": torch.ones(4, 3), "actor.mu.0.bias": torch.zeros(4),
    "actor.mu.2.weight": torch.ones(2, 4), "actor.mu.2.bias": torch.zeros(2),
}  # fmt: skip
LAYERS = {name.replace("actor.mu", "layers"): value for name, value in STATE.items()}


def zipped(folder: Path, state: Any, data: str = "{}", **options: Any) -> Path:
    content = io.BytesIO()
    torch.save(state, content, **options)
    with zipfile.ZipFile(folder / "policy.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", data)
        archive.writestr("policy.pth", content.getvalue())
    return folder / "policy.zip"


def tensors(folder: Path, **more: torch.Tensor) -> Path:
    (folder / "policy.safetensors").write_bytes(save({**LAYERS, **more}))
    return folder / "policy.safetensors"


def sentence(path: Path) -> str | None:
    """What is said against a file, None where it is read."""
    try:
        read_policy(path)
    except PolicyFileError as error:
        return str(error)
    return None


def test_good_ones_are_read(tmp_path: Path) -> None:
    assert read_policy(zipped(tmp_path, STATE)).sizes == [3, 4, 2]
    found = read_policy(tensors(tmp_path, **{"normalise.mean": torch.ones(3), "normalise.scale": torch.ones(3)}))
    assert found.normalised


@pytest.mark.parametrize(
    ("data", "reason"),
    [("[" * 100_000, "nested too deep"), ("9" * 5000, "Exceeds the limit"), ("{", "line 1"), ("\udcff", "UTF-8")],
    ids=["deep", "digits", "half", "bytes"],
)
def test_settings_that_are_no_json(tmp_path: Path, data: str, reason: str) -> None:
    content = data.encode("utf-8", "surrogateescape")
    with pytest.raises(PolicyFileError, match=rf"policy\.zip: data: .*{reason}"):
        read_policy(zipped(tmp_path, STATE, content))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ([1], "holds no dict"),
        ({1: torch.ones(2)}, "1 is no name with a tensor"),
        ({"actor.mu.0.weight": 3}, "'actor.mu.0.weight' is no name with a tensor"),
        ({name: torch.tensor(1.0) for name in STATE}, "are no chain of linear layers"),
        ({**STATE, "actor.mu.2.bias": torch.zeros(3)}, "are no chain of linear layers"),
        ({**STATE, "actor.mu.2.weight": torch.ones(2, 4, 1)}, "are no chain of linear layers"),
        ({name: value.int() for name, value in STATE.items()}, "its weights are torch.int32"),
        ({**STATE, "actor.mu.0.bias": torch.full((4,), torch.nan)}, "actor.mu.0.bias has NaN"),
        ({**STATE, "actor.mu.0.weight": torch.ones(1).expand(2**20, 2**20)}, "repeats 4 bytes"),
        ({**STATE, "actor.mu.4.weight": torch.ones(2, 2)}, "lacks 'actor.mu.4.bias'"),
        ({f"actor.mu.{'9' * 5000}.weight": torch.ones(2, 2)}, "has no actor"),
    ],
)
def test_parameters_that_are_none(tmp_path: Path, state: Any, reason: str) -> None:
    with pytest.raises(PolicyFileError, match=rf"policy\.zip.*{reason}"):
        read_policy(zipped(tmp_path, state))


@pytest.mark.parametrize(
    "more",
    [
        {"normalise.mean": torch.zeros(3)},
        {"normalise.scale": torch.zeros(3)},
        {"normalise.mean": torch.zeros(5), "normalise.scale": torch.ones(5)},
    ],
)
def test_half_of_the_statistics_or_those_of_another_observation(tmp_path: Path, more: dict[str, torch.Tensor]) -> None:
    with pytest.raises(PolicyFileError, match=r"policy\.safetensors: its observation statistics have the shapes"):
        read_policy(tensors(tmp_path, **more))


@pytest.mark.parametrize("whole", [zipped, lambda folder, _: tensors(folder)], ids=["zip", "safetensors"])
def test_a_changed_byte_is_refused_with_the_files_name_or_does_not_matter(tmp_path: Path, whole: Any) -> None:
    path = whole(tmp_path, STATE)
    good, draw = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(200):
        raw = bytearray(good)
        raw[draw.randrange(len(raw))] = draw.randrange(256)
        path.write_bytes(raw)
        said = sentence(path)
        assert said is None or path.name in said
        refused += said is not None
    assert refused > 50


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    for path in (zipped(tmp_path, STATE), tensors(tmp_path)):
        whole = path.read_bytes()
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(PolicyFileError, match=path.name):
                read_policy(path)
