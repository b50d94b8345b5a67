"""``snnconv doctor`` tells which operators stand behind mmcv."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from snnbench.mmcv_ops import install as operators
from snnconv.cli import doctor


def line() -> doctor.Check:
    (found,) = (check for check in doctor.check_all() if check.name == "mmcv operators")
    return found


@pytest.mark.parametrize(
    ("status", "state", "detail", "advice"),
    [
        ("absent", "missing", "mmcv is not installed", "snnconv-plugin[bench]"),
        ("fallback", "ok", f"not compiled: snnconv's {len(operators.SUPPLIED)}", ""),
        ("compiled", "ok", "compiled", ""),
    ],
)
def test_operators_in_use(monkeypatch: pytest.MonkeyPatch, status: str, state: str, detail: str, advice: str) -> None:
    monkeypatch.setattr(operators, "status", lambda: status)
    monkeypatch.setattr(operators, "compiled_spec", lambda: None)
    check = line()
    assert check.state == state
    assert check.detail.startswith(detail)
    assert advice in check.advice


def test_operators_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(operators, "status", lambda: "fallback")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchvision" else find(name))
    check = line()
    assert (check.state, check.advice) == ("missing", "pip install torchvision")


def test_the_line_imports_no_framework() -> None:
    code = (
        "import sys; from snnbench import checks; before = set(sys.modules); checks.mmcv_operators();"
        "print([m for m in ('mmcv', 'mmengine', 'torchvision', 'cv2') if m in sys.modules and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
