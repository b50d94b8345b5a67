"""What a result needs beside its figures, so that it can be traced and measured again: network, settings, machine."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from snnconv.files.fingerprint import fields_of, plain

__all__ = ["command", "describe", "peak_memory", "portable", "provenance"]

PACKAGES = (
    "snnconv-plugin", "torch", "torchvision", "spikingjelly", "snntorch", "timm", "numpy", "numba",
    "av", "gymnasium", "mujoco", "stable-baselines3", "mmengine", "mmcv", "mmcv-lite", "mmdet", "mmsegmentation",
    "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "onedl-mmsegmentation",
)  # fmt: skip
POINT_FIELDS = ("timesteps", "pre_timesteps")
"""A method's fields that differ from point to point of one row."""
_START = r"""(?:^|(?<=[\s=:,;"'(\[{])|(?<=^-\w))"""
_ABSOLUTE = re.compile(_START + r"""(?:/(?![/\s])|[A-Za-z]:[\\/](?!/))[^=:,;"')\]}]*""")


# --- settings ----------------------------------------------------------------------------------------------


def describe(settings: Any, name: str | None = None) -> dict[str, Any]:
    """A method, or any dataclass of settings, as ``{"name", "fields"}``, without the fields that vary over a row.

    Args:
        settings: the dataclass.
        name: the name to give it; its class's by default.

    >>> from snnconv import methods
    >>> describe(methods.SRP(4, 2))["name"], describe(methods.IF(8)) == describe(methods.IF(16))
    ('SRP', True)
    """
    fields = {key: value for key, value in fields_of(settings).items() if key not in POINT_FIELDS}
    return {"name": name or type(settings).__name__, "fields": fields}


def portable(value: Any) -> Any:
    """``plain(value)`` whose absolute paths are shortened as :func:`command` does it.

    >>> portable({"root": "/data/cifar10/train", "lr": 0.1})
    {'root': 'train', 'lr': 0.1}
    """
    value = plain(value)
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    return _ABSOLUTE.sub(_shortened, value) if isinstance(value, str) else value


# --- the run -----------------------------------------------------------------------------------------------


def provenance(seed: int | None, device: torch.device | str | None = None) -> dict[str, Any]:
    """The fields ``versions``, ``machine``, ``commit``, ``command`` and ``seed`` of a result.

    Args:
        seed: of every draw of the run.
        device: where the networks run; by default an accelerator that torch has already started, else the CPU.

    >>> sorted(provenance(seed=0))
    ['command', 'commit', 'machine', 'seed', 'versions']
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return {
        "versions": _versions(),
        "machine": {
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "ranks": torch.distributed.get_world_size() if distributed else 1,
            "system": f"{platform.system()} {platform.machine()}",
            "accelerator": _accelerator(device),
        },
        "commit": _commit(),
        "command": command(),
        "seed": seed,
    }


def peak_memory(device: torch.device | str | None = None) -> float | None:
    """Largest memory so far in MiB: of the process, or what torch allocated on ``device`` where that is a GPU.

    ``None`` where the system does not tell.
    """
    if _uses_cuda(device):
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return size / (2**20 if sys.platform == "darwin" else 2**10)


def command(arguments: Sequence[str] | None = None) -> str:
    """The command of this process as typed, ready to be pasted, without absolute paths.

    A path inside the working directory becomes relative to it, another one its last part.

    Args:
        arguments: instead of the process's own, the program first.

    >>> command(["snnconv", "bench", "--out=/tmp/results"])
    'snnconv bench --out=results'
    """
    if arguments is None:
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        if spec is not None:  # python -m
            program = ["python", "-m", spec.name.removesuffix(".__main__")]
        else:
            name = Path(sys.argv[0] or "python").name
            program = ["python", name] if name.endswith(".py") else [name]
        arguments = [*program, *sys.argv[1:]]
    typed = shlex.join(_ABSOLUTE.sub(_shortened, argument) for argument in arguments)
    return typed.encode("utf-8", "replace").decode()  # file names may hold bytes that are no text


def _shortened(match: re.Match[str]) -> str:
    path = Path(match[0])
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return match[0].rstrip("/\\").replace("\\", "/").rpartition("/")[2] or "."


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name == "snnconv-plugin":  # run from its folder
                from snnconv._version import __version__

                versions[name] = __version__
    return versions


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _uses_cuda(device: torch.device | str | None) -> bool:
    if device is None:
        return torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.device(device).type == "cuda"


def _accelerator(device: torch.device | str | None) -> str | None:
    if _uses_cuda(device):
        return torch.cuda.get_device_name(device)
    kind = "cpu" if device is None else torch.device(device).type
    return None if kind in ("cpu", "meta") else kind


def _commit() -> str | None:
    """The commit of the working directory, with "+" where tracked files differ from it; None outside a repository.

    Result files (``results/**.json``) do not count: a run that writes several of them changes nothing else.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        ).stdout.strip()

    try:
        changed = git(
            "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude,glob)**/results/**/*.json"
        )
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
