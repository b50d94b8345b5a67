"""Reading a benchmark config: a Python one, which is a program, or one of data; registering what it names."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

import snnconv
from snnbench import config_data, config_types, packages
from snnbench.data.roots import resolve_config
from snnbench.mmcv_ops import install as operators
from snnbench.results.validation import sentences
from snnbench.testing.readouts import CONVERSIONS
from snnconv.files.fingerprint import plain
from snnconv.files.refusal import brief
from snnconv.files.untrusted import allow_checkpoint_globals, refused_as

__all__ = ["BenchError", "default_work_dir", "load_config"]

_SCOPES = {"mmdet": "mmdet", "mmseg": "mmsegmentation"}
_OWN = {
    "snnbench": ("networks.classifiers", "networks.video", "networks.events", "baselines.spikingjelly"),
    "mmdet": ("networks.resnet", "networks.yolov2", "networks.torchvision_detection", "baselines.spikingjelly"),
    "mmseg": (
        "networks.resnet", "networks.aspp", "networks.vgg9", "networks.coco_masks", "networks.torchvision_segmentation",
        "baselines.spikingjelly",
    ),
}  # fmt: skip
"""Modules of the suite that a Python config would name in ``custom_imports``, which one of data cannot."""


class BenchError(ValueError):
    """A config or an option that cannot be run; the message says what is wrong and what to do."""


def default_work_dir(path: str | os.PathLike[str]) -> Path:
    """Where a config's logs and checkpoints go: ``work_dirs`` and the last folders of its path.

    >>> default_work_dir("configs/classification/cifar10/resnet18.py").as_posix()
    'work_dirs/classification/cifar10/resnet18'
    """
    return Path("work_dirs", *Path(path).with_suffix("").parts[-3:])


def load_config(path: str | os.PathLike[str], options: dict[str, Any] | None = None) -> Config:
    """Read a config, merge ``options`` into it, register what it names, and find its data.

    Args:
        path: a Python config, which is a program and runs; or YAML or JSON, of which nothing is run.
        options: changes, by field.

    Raises:
        BenchError: no such file, no ``bench`` key, a field of another kind than the suite reads, a package that is not
            installed, code in YAML or JSON.
    """
    if not Path(path).is_file():
        raise BenchError(f"there is no config {path}")
    operators.install()
    allow_checkpoint_globals()
    is_data = Path(path).suffix in config_data.SUFFIXES
    config = _data_config(path) if is_data else _program_config(path)
    if options:
        _merge(config, options, path)
    if "bench" not in config:
        raise BenchError(f"{path} has no bench = dict(...): it names the task, the metric and the methods")
    for sentence in sentences(plain(config.to_dict()), _schema):
        raise BenchError(f"{path}: {brief(sentence)}")
    if options and "epochs" in options:
        _set_epochs(config, options["epochs"], path)
    if config.bench.get("task") == "control":
        config.bench.dataset = config.model.env  # with its version, whatever was asked for
    scope = str(config.setdefault("default_scope", "snnbench"))  # the runner would take mmengine's
    _register(scope)
    if is_data:
        for name in _OWN.get(scope, ()):
            importlib.import_module(f"snnbench.{name}")
        with refused_as(BenchError):
            config_types.check_types(config, (*snnconv.methods.__all__, *CONVERSIONS))
    resolve_config(config)
    return config


def _data_config(path: str | os.PathLike[str]) -> Config:
    with refused_as(BenchError):
        return config_data.read_config(path)


def _program_config(path: str | os.PathLike[str]) -> Config:
    if Path(path).suffix != ".py":
        raise BenchError(f"{path}: a config is a Python file, or {', '.join(config_data.SUFFIXES)}")
    sys.path[:] = sys.path if os.getcwd() in sys.path else [os.getcwd(), *sys.path]  # custom_imports of a checkout
    try:
        with packages.found():  # for a base in another package
            config = Config.fromfile(str(path))
    except SyntaxError as error:
        file = path if error.filename in (None, "<unknown>") else error.filename
        raise BenchError(f"{file}:{error.lineno}: {error.msg}") from error
    except ImportError as error:
        said = str(error).partition(", the current sys.path")[0]  # which mmengine prints line by line
        raise BenchError(f"{path}: {said}; {_advice(error)}") from error
    # each runner writes its config twice: yapf takes seconds for it, and the lines read as well (fromfile loses this)
    object.__setattr__(config, "_format_python_code", False)
    return config


def _advice(error: ImportError) -> str:
    """What to do about a module that a config needs and that is not found."""
    package = (error.name or "").split(".")[0]
    if package in ("mmengine", "mmcv", *_SCOPES):
        return 'pip install "snnconv-plugin[bench]"'
    return (
        "what custom_imports names is looked for in the folder that the command runs in, in PYTHONPATH, and among the "
        "installed packages"
    )


@functools.cache
def _schema() -> dict[str, Any]:
    """The JSON Schema of what the suite itself reads of a config."""
    found: dict[str, Any] = json.loads(files("snnbench").joinpath("config.schema.json").read_text(encoding="utf-8"))
    return found


def _merge(config: Config, options: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Change fields of a config; mmengine's own errors name none."""
    for field, value in options.items():
        try:
            config.merge_from_dict({field: value})
        except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise BenchError(
                f"{path}: --cfg-options {field}={value!r} fits nowhere ({brief(error)}): name a field that is there"
            ) from error


def _set_epochs(config: Config, epochs: Any, path: str | os.PathLike[str]) -> None:
    """A schedule of another length: the last part of the learning rate's course becomes longer or shorter."""
    if type(epochs) is not int or epochs < 1:
        raise BenchError(f"{path}: epochs={epochs!r}: a whole number from 1 on")
    if "max_epochs" not in (config.get("train_cfg") or {}):
        raise BenchError(
            f"{path}: epochs={epochs}: this config's training has no max_epochs; set what its train_cfg names"
        )
    config.train_cfg.max_epochs = epochs
    courses = config.get("param_scheduler")
    course = courses[-1] if isinstance(courses, list) and courses else courses
    if course and "end" in course:
        if type(course.get("begin", 0)) is not int:
            raise BenchError(f"{path}: epochs={epochs}: the schedule's last part begins at no whole number of epochs")
        if course.get("begin", 0) >= epochs:
            raise BenchError(
                f"{path}: epochs={epochs}: the schedule's last part begins at epoch {course['begin']} only"
            )
        course["end"] = epochs
        if "T_max" in course:
            course["T_max"] = epochs - course.get("begin", 0)


def _register(scope: str) -> None:
    """Import the modules whose registries a config's scope draws on."""
    if scope in _SCOPES:
        try:
            importlib.import_module(f"{scope}.utils").register_all_modules(init_default_scope=False)
        except ImportError as error:
            raise BenchError(
                f'{_SCOPES[scope]} is not installed ({error}): pip install "snnconv-plugin[bench]"'
            ) from error
    else:
        for name in ("classification", "video", "events", "control", "control_training"):
            importlib.import_module(f"snnbench.tasks.{name}")
    init_default_scope(scope)
