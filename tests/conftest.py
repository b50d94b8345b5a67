"""Fixtures shared by the tests."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from snnconv.dynamics.kernels import processor

collect_ignore = ["own"]  # what these modules register is for one test alone


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-configs", action="store_true", help="run every segmentation and detection config from end to end"
    )
    parser.addoption(
        "--without",
        default="",
        metavar="FEATURES",
        help=f"pretend a processor without these, with commas: {', '.join(processor.FEATURES)}",
    )


hypothesis.settings.register_profile("suite", deadline=None)  # a busy machine fails no test
hypothesis.settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # before xdist's workers: two at once read a cache that is being written
        with contextlib.suppress(ImportError):
            import yapf  # noqa: F401  (mmengine's; its first import writes the grammar)
    for feature in filter(None, config.getoption("--without").split(",")):
        if feature not in processor.FEATURES:
            raise pytest.UsageError(f"--without {feature}: one of {', '.join(processor.FEATURES)}")
        vars(processor)[processor.FEATURES[feature]] = lambda *device: False


def pytest_report_header(config: pytest.Config) -> str:
    """What of the machine decides which tests run, and how."""
    found = {name: getattr(processor, function)() for name, function in processor.FEATURES.items()}
    found |= {name: importlib.util.find_spec(name) is not None for name in ("numba", "triton")}
    found |= {"GPU": torch.cuda.is_available(), "chromium": shutil.which("chromium") is not None}
    features = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in found.items())
    return f"machine: {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch, {features}"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder ``SNNCONV_DATA`` names; the test is skipped where there is none."""
    value = os.environ.get("SNNCONV_DATA")
    if not value:
        pytest.skip("SNNCONV_DATA is not set: it names the folder with CIFAR-10 and the ResNet-20 weights")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"SNNCONV_DATA names {folder}, which is not a folder")
    return folder


@pytest.fixture(scope="session")
def resnet20(data_folder: Path) -> torch.nn.Module:
    """The trained CIFAR-10 ResNet-20; tests must not change it."""
    from snnbench.networks.models import resnet20_cifar10

    path = data_folder / "resnet20_cifar10.safetensors"
    if not path.exists():
        pytest.skip(f"{path.name} is not in SNNCONV_DATA")
    return resnet20_cifar10(path)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _scope_of_its_own() -> Iterator[None]:
    """The scope in which mmengine looks for names is a matter of one test."""
    yield
    registry = sys.modules.get("mmengine.registry")
    if registry is not None:
        registry.DefaultScope._instance_dict.clear()
