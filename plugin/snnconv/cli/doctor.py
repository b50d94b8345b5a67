"""What is installed, which backends work, what is missing and how to get it."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from snnconv._version import __version__

__all__ = ["Check", "Package", "Report", "advice", "check_all", "of_package", "versions"]

COLOURS = {"ok": "green", "missing": "yellow", "broken": "red"}


@dataclass(frozen=True)
class Check:
    """``state`` is "ok", "missing" or "broken"; ``advice`` is the command that helps, if any."""

    name: str
    purpose: str
    state: str
    detail: str
    advice: str = ""
    required: bool = False


@dataclass(frozen=True)
class Package:
    """A package by the name it is imported by, and the names of the distributions that bring it."""

    module: str
    distributions: tuple[str, ...]
    purpose: str
    advice: str
    required: bool = False


_PACKAGES = (
    Package("torch", ("torch",), "everything", "pip install torch", True),
    Package("spikingjelly", ("spikingjelly",), "neurons, recipes", 'pip install "spikingjelly>=2.0,<3"', True),
    Package("safetensors", ("safetensors",), "save and load", "pip install safetensors", True),
    Package("numba", ("numba",), "fast CPU kernels", 'pip install "snnconv-plugin[fast]"'),
    Package("snntorch", ("snntorch",), "snnTorch networks", 'pip install "snnconv-plugin[snntorch]"'),
    Package("matplotlib", ("matplotlib",), "plots", 'pip install "snnconv-plugin[plot]"'),
    Package("torchvision", ("torchvision",), "networks, images", "pip install torchvision"),
    Package("timm", ("timm",), "networks", "pip install timm"),
    Package("nir", ("nir",), "neuromorphic chips", 'pip install "snnconv-plugin[nir]"'),
    Package("av", ("av",), "video files", 'pip install "snnconv-plugin[video]"'),
    Package("gymnasium", ("gymnasium",), "continuous control", 'pip install "snnconv-plugin[control]"'),
    Package("mujoco", ("mujoco",), "continuous control", 'pip install "snnconv-plugin[control]"'),
    Package(
        "stable_baselines3",
        ("stable-baselines3",),
        "continuous control",
        'pip install "snnconv-plugin[control]"',
    ),
)


@dataclass(frozen=True)
class Report:
    """Checks as a table, below the versions."""

    checks: Sequence[Check]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(", ".join(f"{name} {version}" for name, version in versions().items()))
        table = Table()
        for name in ("part", "for", "state", "detail"):
            table.add_column(name, overflow="fold")
        for check in self.checks:
            table.add_row(check.name, check.purpose, Text(check.state, COLOURS[check.state]), Text(check.detail))
        yield table


def advice(checks: Sequence[Check]) -> list[str]:
    """The commands that help, each on a line of its own below what it is for.

    >>> advice([Check("numba", "speed", "missing", "not installed", "pip install numba")])
    ['for numba:', '  pip install numba']
    """
    helping: dict[str, list[str]] = {}
    for check in checks:
        if check.advice and check.state != "ok":
            helping.setdefault(check.advice, []).append(check.name)
    return [line for command, names in helping.items() for line in (f"for {', '.join(names)}:", f"  {command}")]


def versions() -> dict[str, str]:
    """Of the package, of Python, and the system."""
    return {"snnconv": __version__, "Python": platform.python_version(), platform.system(): platform.machine()}


def check_all() -> list[Check]:
    """Every package and backend, required ones first; then what other packages check.

    Those join by an entry point of the group ``snnconv.checks``: a function without arguments that gives `Check` s.
    """
    own = [*(of_package(p) for p in _PACKAGES), *_torchaudio(), _cuda(), *(_backend(*b) for b in _BACKENDS)]
    return own + [check for entry in metadata.entry_points(group="snnconv.checks") for check in entry.load()()]


def of_package(package: Package) -> Check:
    """Whether a package is installed, and in which version."""
    if importlib.util.find_spec(package.module) is None:
        return Check(package.module, package.purpose, "missing", "not installed", package.advice, package.required)
    version = next((v for v in map(_version, package.distributions) if v), "version unknown")
    return Check(package.module, package.purpose, "ok", version, required=package.required)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


_LAST_TORCHAUDIO = (2, 11)
"""torchaudio's versions follow torch's up to this one, which is its newest; it declares no torch that it needs."""


def _torchaudio() -> list[Check]:
    """Whether torchaudio, which SpikingJelly brings, goes with torch: where not, importing it fails, and what does so.

    Nothing, where it is not installed: only SpikingJelly's SpeechCommands need it.
    """
    purpose = "SpikingJelly's audio, transformers"
    audio, torch = _version("torchaudio"), _version("torch")
    if audio is None or torch is None:
        return []
    try:
        importlib.import_module("torchaudio")
    except Exception as error:  # RuntimeError for another CUDA, OSError for another torch
        said = " ".join(str(error).split())[:200]
        of_torch = tuple(int(part) for part in torch.split(".")[:2])
        remove = "pip uninstall -y torchaudio"
        advice = remove if of_torch > _LAST_TORCHAUDIO else f'pip install "torchaudio=={of_torch[0]}.{of_torch[1]}.*"'
        detail = f"{audio} does not go with torch {torch}: {type(error).__name__}: {said}"
        return [Check("torchaudio", purpose, "broken", detail, advice)]
    return [Check("torchaudio", purpose, "ok", f"{audio}, imports beside torch {torch}")]


def _cuda() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("CUDA", "GPU", "ok", torch.cuda.get_device_name(0))
    built = torch.version.cuda
    detail = f"no GPU found (torch is built for CUDA {built})" if built else "torch is built without CUDA"
    return Check("CUDA", "GPU", "missing", detail)


def _numba() -> str:
    import numba

    add: Any = numba.njit(lambda x: x + 1)
    if add(1.0) != 2:
        raise RuntimeError("a compiled kernel gave a wrong result")
    return f"compiles, {numba.get_num_threads()} threads"


def _matplotlib() -> str:
    from matplotlib.figure import Figure

    Figure().subplots()
    return "draws"


_BACKENDS: tuple[tuple[str, str, str, Callable[[], str]], ...] = (
    ("numba kernels", "numba", "fast CPU kernels", _numba),
    ("plots", "matplotlib", "plots", _matplotlib),
)


def _backend(name: str, module: str, purpose: str, probe: Callable[[], str]) -> Check:
    if importlib.util.find_spec(module) is None:
        return Check(name, purpose, "missing", f"{module} is not installed")
    try:
        return Check(name, purpose, "ok", probe())
    except LookupError as error:
        return Check(name, purpose, "missing", str(error))
    except Exception as error:  # a probe reports whatever goes wrong
        advice = f"pip install --force-reinstall {module}"
        return Check(name, purpose, "broken", f"{type(error).__name__}: {error}", advice)
