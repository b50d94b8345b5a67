"""The oldest versions that are tested are those that pyproject.toml allows."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def constraints(name: str) -> dict[str, str]:
    text = (ROOT / "tests" / "constraints" / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w-]+)==([\d.]+?)(?:\.\*)?(?:\s|$)", text, re.MULTILINE))


def bounds() -> dict[str, str]:
    """Package → the oldest version that pyproject.toml allows, of the package itself and of all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    return dict(re.findall(r"^([\w-]+)(?:\[\w+\])?[>=]=([\d.]+)", "\n".join(wanted), re.MULTILINE))


@pytest.mark.parametrize(("package", "bound"), bounds().items())
def test_a_lower_bound_is_the_version_that_is_tested(package: str, bound: str) -> None:
    assert f"{constraints('lowest')[package]}.".startswith(f"{bound}.")


@pytest.mark.parametrize("name", ["lowest", "torch211"])
def test_torch_torchvision_and_torchaudio_of_one_release_go_together(name: str) -> None:
    found = constraints(name)
    minor = int(found["torch"].split(".")[1])
    assert found["torchaudio"] == found["torch"]
    # torchvision's minor version has been 15 ahead since torch 2.0
    assert found["torchvision"].startswith(f"0.{minor + 15}")
