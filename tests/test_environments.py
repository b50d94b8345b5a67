"""The oldest versions that are tested are those that pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def constraints(name: str) -> dict[str, str]:
    text = (ROOT / "tests" / "constraints" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([\w-]+)==([\d.]+?)(?:\.\*)?(?:\s|$)", text, re.MULTILINE))


def bounds() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(need for needs in extras.values() for need in needs)]
    return dict(re.findall(r"^([\w-]+)(?:\[\w+\])?>=([\d.]+)", "\n".join(wanted), re.MULTILINE))


NOT_OURS = ("torchaudio", "click")  # which others bring


@pytest.mark.parametrize("package", [name for name in constraints("lowest") if name not in NOT_OURS])
def test_a_lower_bound_is_the_version_that_is_tested(package: str) -> None:
    assert constraints("lowest")[package] == bounds()[package]


@pytest.mark.parametrize("name", ["lowest", "torch211"])
def test_torch_torchvision_and_torchaudio_of_one_release_go_together(name: str) -> None:
    found = constraints(name)
    minor = int(found["torch"].split(".")[1])
    assert found["torchaudio"] == found["torch"]
    assert found["torchvision"] == f"0.{minor + 15}"  # torchvision's minor version has been 15 ahead since torch 2.0
