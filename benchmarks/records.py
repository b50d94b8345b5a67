"""One small JSON file per result: written whole, readable by anybody, the source of every table and plot."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .data import DataError, write_whole

SCHEMA = "snnconv-benchmark/1"
RESULTS = Path(__file__).parent / "results"

Record = dict[str, Any]


def slug(label: str) -> str:
    """A label as a file name: lower case, letters and digits with single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def record_path(folder: Path, label: str, timesteps: int) -> Path:
    return folder / f"{slug(label)}-T{timesteps}.json"


def describe(settings: Any) -> Record:
    """A frozen dataclass (a method or a recipe) as its name and all its fields."""
    fields = {f.name: _plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}
    return {"name": type(settings).__name__, "fields": fields}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return describe(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return repr(value)


def digest(model: nn.Module) -> str:
    """A short hash of parameters and buffers, so that a result names the network it belongs to."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def read(path: Path) -> Record | None:
    """The record in ``path``; None where there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("schema") == SCHEMA else None


def finished(path: Path, config: Record) -> Record | None:
    """The record in ``path`` if it was measured with exactly this configuration."""
    found = read(path)
    return found if found is not None and found.get("config") == json.loads(json.dumps(config)) else None


def write(path: Path, record: Record) -> None:
    """Write ``record`` as JSON, whole or not at all."""
    try:
        content = json.dumps({"schema": SCHEMA, **record}, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise DataError(f"{path.name}: a figure in this result is not finite, so it is not stored") from error
    write_whole(path, content.encode())


def provenance(seed: int) -> Record:
    """What a result needs beside its figures: versions, processor, threads, commit, command, seed."""
    versions = {"python": platform.python_version()}
    for name in ("snnconv-plugin", "torch", "spikingjelly", "numpy", "numba", "snntorch"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "machine": {
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "commit": _commit(),
        "command": _command(),
        "seed": seed,
    }


def _command() -> str:
    script = Path(sys.argv[0])
    name = f"python -m {script.parent.name}.{script.stem}" if script.parent.name == "benchmarks" else script.name
    return " ".join([name, *sys.argv[1:]])


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit, with "+" where the working tree differs from it; None outside a repository."""
    root = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
