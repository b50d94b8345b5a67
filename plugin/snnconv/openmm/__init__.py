"""Conversion inside OpenMMLab runs (mmengine, mmcv, mmdet, mmseg): data, training, conversion hook, test loop.

``install_operators()`` comes before ``import mmdet`` or ``import mmseg``: it stands in for mmcv's compiled operators
where they are not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnconv.openmm.bench import run_config
    from snnconv.openmm.convert_hook import ConvertHook
    from snnconv.openmm.operators import install as install_operators
    from snnconv.openmm.test_loop import SNNTestLoop

__all__ = ["ConvertHook", "SNNTestLoop", "install_operators", "run_config"]

_LATER = {
    "ConvertHook": ("convert_hook", "ConvertHook"),
    "SNNTestLoop": ("test_loop", "SNNTestLoop"),
    "install_operators": ("operators", "install"),
    "run_config": ("bench", "run_config"),
}


def __getattr__(name: str) -> Any:
    # imported where used: they need mmengine, which importing this package does not
    if name in _LATER:
        from importlib import import_module

        module, attribute = _LATER[name]
        return getattr(import_module(f"snnconv.openmm.{module}"), attribute)
    raise AttributeError(f"module 'snnconv.openmm' has no attribute {name!r}")
