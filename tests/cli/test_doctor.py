"""``snnconv doctor`` tells which operators stand behind mmcv, and whether torchaudio goes with torch."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from typing import Any

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


def torchaudio_line(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], error: Exception | None
) -> list[doctor.Check]:
    def find(name: str) -> Any:
        assert name == "torchaudio"
        if error is not None:
            raise error

    monkeypatch.setattr(doctor, "_version", versions.get)
    monkeypatch.setattr(doctor.importlib, "import_module", find)
    return doctor._torchaudio()


@pytest.mark.parametrize(
    ("torch", "advice"),
    [
        ("2.15.0", "pip uninstall -y torchaudio"),  # there is no torchaudio for it
        ("2.11.0+cpu", 'pip install "torchaudio==2.11.*"'),
        ("2.6.0", 'pip install "torchaudio==2.6.*"'),
    ],
)
def test_a_torchaudio_of_another_cuda_is_named_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, torch: str, advice: str
) -> None:
    said = RuntimeError("Detected that PyTorch and TorchAudio were compiled with\ndifferent CUDA versions.")
    (check,) = torchaudio_line(monkeypatch, {"torch": torch, "torchaudio": "2.10.0"}, said)
    assert (check.state, check.advice, check.required) == ("broken", advice, False)
    assert check.detail.startswith(f"2.10.0 does not go with torch {torch}: RuntimeError: Detected that")
    assert "compiled with different CUDA versions" in check.detail


def test_a_torchaudio_that_goes_with_torch_is_fine_and_none_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = torchaudio_line(monkeypatch, {"torch": "2.11.0", "torchaudio": "2.11.0"}, None)
    assert (check.state, check.advice) == ("ok", "")
    assert torchaudio_line(monkeypatch, {"torch": "2.15.0"}, None) == []
