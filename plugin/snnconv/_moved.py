"""Old import paths, served for one release with a warning that names the new one.

One table of modules and one of names. A module that moved is found under its old path, too, without the old name being
bound on its parent: ``snnconv.convert`` is the function, and stays it after ``import snnconv.convert``. What moved to
the benchmark suite is gone; the error says where it is.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

__all__ = ["MODULES", "NAMES", "SUITE", "install"]

MODULES = {
    "snnconv.activations.base": "snnconv.graph.trained",
    "snnconv.activations.distill": "snnconv.training.distill",
    "snnconv.activations.losses": "snnconv.training.losses",
    "snnconv.calibration": "snnconv.inputs",
    "snnconv.cli_inputs": "snnconv.cli.inputs",
    "snnconv.convert": "snnconv.conversion.convert",
    "snnconv.doctor": "snnconv.cli.doctor",
    "snnconv.dynamics.kernels.levels": "snnconv.dynamics.kernels.thresholds",
    "snnconv.finetune": "snnconv.training.finetune",
    "snnconv.graph.calibrate": "snnconv.conversion.thresholds",
    "snnconv.graph.correct": "snnconv.conversion.bias",
    "snnconv.graph.layers": "snnconv.training.layers",
    "snnconv.graph.provenance": "snnconv.graph.origin",
    "snnconv.graph.ranks": "snnconv.conversion.ranks",
    "snnconv.graph.reconstruct": "snnconv.conversion.reconstruct",
    "snnconv.graph.trace": "snnconv.graph.capture.fx",
    "snnconv.io": "snnconv.storage.network_file",
    "snnconv.metrics.flow": "snnconv.graph.flow",
    "snnconv.metrics.layers": "snnconv.metrics.comparing",
    "snnconv.metrics.spikes": "snnconv.inputs",
    "snnconv.neurons.recipes": "snnconv.integrations.recipes",
    "snnconv.neurons.registration": "snnconv.integrations.register",
    "snnconv.nir": "snnconv.export.nir",
    "snnconv.nir.reader": "snnconv.export.nir.reader",
    "snnconv.nir.shapes": "snnconv.export.shapes",
    "snnconv.nir.writer": "snnconv.export.nir.writer",
    "snnconv.prepare": "snnconv.training.prepare",
    "snnconv.rate_scale": "snnconv.training.rate_scale",
    "snnconv.runtime.continued": "snnconv.sequence",
    "snnconv.tuning": "snnconv.training.tuning",
}
"""Modules: old path → new path."""

NAMES = {
    "snnconv.activations": (
        "snnconv.training",
        ("BitSparsity", "Coefficient", "Distillation", "InferenceRate", "RateInferenceLoss", "one_bits", "rate_ks"),
    ),
    "snnconv.files": ("snnconv.files.atomic", ("replacing", "write_whole")),
    "snnconv.neurons": ("snnconv", ("register",)),
}
"""Packages that stay, each with where names of it went."""

SUITE = ("leaderboard", "openmm", "registry", "result_schema", "results", "weights", "json_lines", "provenance")
"""Modules of ``snnconv`` that moved to ``snnbench``."""


_SERVED = {*NAMES, *(old.rpartition(".")[0] for old in MODULES)} - {"snnconv", *MODULES}


class _Finder(MetaPathFinder, Loader):
    """Finds a module under its old path."""

    def __init__(self) -> None:
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in MODULES:
            return ModuleSpec(fullname, self)
        if fullname in _SERVED:
            spec = PathFinder.find_spec(fullname, path)
            if spec is not None and spec.loader is not None:
                vars(spec.loader)["exec_module"] = partial(_executed, spec.loader.exec_module)
            return spec
        package, _, name = fullname.partition(".")
        if package == "snnconv" and name.partition(".")[0] in SUITE:
            raise ModuleNotFoundError(
                f"{fullname} moved to the benchmark suite: import it from snnbench, which comes with snnconv-plugin",
                name=fullname,
            )
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MODULES[spec.name]
        warnings.warn(f"{spec.name} is now {new}; the old path goes with the next release", DeprecationWarning, 2)
        module = importlib.import_module(new)
        self.specs[new] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.specs.pop(module.__name__)  # importlib has put the old path's there


class _Package(ModuleType):
    """A package on which importing a module under its old path binds nothing."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and f"{self.__name__}.{name}" in MODULES:
            return
        super().__setattr__(name, value)


def install() -> None:
    """Serve the old paths, of ``snnconv`` now and of packages in it when they are imported; once is enough."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())  # before the one that would find a part of a moved package a second time
    _serve(sys.modules["snnconv"])


def _executed(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    execute(module)
    _serve(module)


def _serve(package: ModuleType) -> None:
    """Bind no old path of a module on a package, and give its old names."""
    package.__class__ = _Package
    new, names = NAMES.get(package.__name__, ("", ()))
    if names and "__getattr__" not in vars(package):
        vars(package)["__getattr__"] = _forward(package.__name__, new, names)


def _forward(package: str, new: str, names: tuple[str, ...]) -> object:
    def __getattr__(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        words = f"{package}.{name} is now {new}.{name}; the old name goes with the next release"
        warnings.warn(words, DeprecationWarning, 2)
        return getattr(importlib.import_module(new), name)

    return __getattr__
