"""What ``snnconv doctor`` says of the suite's packages."""

from __future__ import annotations

import importlib.util

from snnbench.mmcv_ops import install as operators
from snnconv.cli.doctor import Check, Package, of_package

__all__ = ["checks", "mmcv_operators"]

_INSTALL = 'pip install "snnconv-plugin[bench]"'
_PACKAGES = (
    Package("sklearn", ("scikit-learn",), "digits benchmark", _INSTALL),
    Package("mmengine", ("mmengine", "onedl-mmengine"), "detection, segmentation", _INSTALL),
    Package("mmcv", ("mmcv", "mmcv-lite", "onedl-mmcv"), "detection, segmentation", _INSTALL),
    Package("mmdet", ("mmdet", "onedl-mmdetection"), "detection", _INSTALL),
    Package("mmseg", ("mmsegmentation", "onedl-mmsegmentation"), "segmentation", _INSTALL),
)


def checks() -> list[Check]:
    """Every package of the suite, and the operators behind mmcv."""
    return [*(of_package(package) for package in _PACKAGES), mmcv_operators()]


def mmcv_operators() -> Check:
    """Which operators stand behind mmcv."""
    name, purpose, state = "mmcv operators", "detection, segmentation", operators.status()
    if state == "absent":
        return Check(name, purpose, "missing", "mmcv is not installed", _INSTALL)
    if state == "compiled":
        spec = operators.compiled_spec()
        return Check(name, purpose, "ok", f"compiled: {spec.origin}" if spec else "compiled")
    ours = f"not compiled: snnconv's {len(operators.SUPPLIED)}, on torch and torchvision"
    if importlib.util.find_spec("torchvision") is None:
        return Check(name, purpose, "missing", f"{ours}, which is not installed", "pip install torchvision")
    return Check(name, purpose, "ok", f"{ours}; any other needs full mmcv")
