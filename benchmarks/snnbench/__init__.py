"""The benchmark suite: tasks, data, training, conversion inside OpenMMLab runs (mmengine, mmcv, mmdet, mmseg), results.

``install_operators()`` comes before ``import mmdet`` or ``import mmseg``: it stands in for mmcv's compiled operators
where they are not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnbench.mmcv_ops.install import install as install_operators
    from snnbench.run import run_config
    from snnbench.testing.convert_hook import ConvertHook
    from snnbench.testing.test_loop import SNNTestLoop

__all__ = ["ConvertHook", "SNNTestLoop", "install_operators", "run_config"]

_LATER = {
    "ConvertHook": ("testing.convert_hook", "ConvertHook"),
    "SNNTestLoop": ("testing.test_loop", "SNNTestLoop"),
    "install_operators": ("mmcv_ops.install", "install"),
    "run_config": ("run", "run_config"),
}


def __getattr__(name: str) -> Any:
    # imported where used: they need mmengine, which importing this package does not
    if name in _LATER:
        from importlib import import_module

        module, attribute = _LATER[name]
        return getattr(import_module(f"snnbench.{module}"), attribute)
    raise AttributeError(f"module 'snnbench' has no attribute {name!r}")
