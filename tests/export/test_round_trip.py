"""Every exported file says the same in a process that has seen nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods


def networks() -> tuple[snnconv.SpikingNetwork, snnconv.SpikingNetwork, snnconv.SpikingNetwork, Tensor]:
    """One network by IF, signed IF and shifted threshold."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 8), nn.ReLU(),
        nn.Linear(8, 3),
    ).eval()  # fmt: skip
    x = torch.rand(16, 2, 6, 6)
    made = [snnconv.convert(model, m, x, progress=False) for m in
            (methods.IF(8), methods.SignedIF(8), methods.ShiftedThreshold(4))]  # fmt: skip
    return made[0], made[1], made[2], x


def fresh(folder: Path, code: str) -> Tensor:
    """What ``code`` makes of ``x`` in another process, as ``y``."""
    script = f"import torch\nx = torch.load('x.pt')\n{code}\ntorch.save(y.detach().clone(), 'y.pt')\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    found: Tensor = torch.load(folder / "y.pt")
    return found


STEPS = """
states = [torch.zeros_like(s) if s.dim() else s for s in torch.load("states.pt")]
total = 0
for _ in range(8):
    out, *states = step(x, *states)
    total = total + out
y = total / 8
"""


def test_nir_files(tmp_path: Path) -> None:
    pytest.importorskip("nir")
    by_if, signed, shifted, x = networks()
    torch.save(x, tmp_path / "x.pt")
    snnconv.to_nir(by_if, tmp_path / "if.nir", start="state")
    snnconv.to_nir(signed, tmp_path / "signed.nir", extensions=True)
    snnconv.to_nir(shifted, tmp_path / "shifted.nir", extensions=True)
    names = ("if", "signed", "shifted")
    found = fresh(tmp_path, f"import snnconv\ny = torch.stack([snnconv.from_nir(n + '.nir')(x) for n in {names!r}])")
    torch.testing.assert_close(found, torch.stack([by_if(x), signed(x), shifted(x)]), rtol=1e-3, atol=1e-3)


def test_torch_export_and_torchscript_files_need_no_snnconv(tmp_path: Path) -> None:
    _, signed, _, x = networks()
    step = snnconv.stepwise(signed)
    states = step.initial(x)
    torch.save(x, tmp_path / "x.pt")
    torch.save(list(states), tmp_path / "states.pt")
    torch.export.save(torch.export.export(step, (x, *states)), tmp_path / "step.pt2")
    torch.jit.save(torch.jit.trace(step, (x, *states), check_trace=False), str(tmp_path / "step.pt"))
    for load in ("torch.export.load('step.pt2').module()", "torch.jit.load('step.pt')"):
        found = fresh(tmp_path, f"step = {load}\n{STEPS}\nimport sys\nassert 'snnconv' not in sys.modules")
        torch.testing.assert_close(found, signed(x), rtol=1e-4, atol=1e-5)


def test_onnx_files(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    if not hasattr(torch.onnx, "ops"):
        pytest.skip("torch.onnx.ops came with PyTorch 2.8")
    _, signed, shifted, x = networks()
    torch.save(x, tmp_path / "x.pt")
    inputs, _ = snnconv.to_onnx(signed, tmp_path / "step.onnx")
    snnconv.to_onnx(shifted, tmp_path / "twin.onnx", twin=True)
    torch.save(list(snnconv.stepwise(signed).initial(x)), tmp_path / "states.pt")
    session = "import onnxruntime\nrun = onnxruntime.InferenceSession('{}', providers=['CPUExecutionProvider']).run\n"
    code = session.format("step.onnx") + (
        f"def step(*v):\n    found = run(None, dict(zip({inputs!r}, [t.numpy() for t in v])))\n"
        f"    return [torch.tensor(f) for f in found]\n{STEPS}"
    )
    torch.testing.assert_close(fresh(tmp_path, code), signed(x), rtol=1e-3, atol=1e-3)
    code = session.format("twin.onnx") + "y = torch.tensor(run(None, {'input': x.numpy()})[0])"
    twin = fresh(tmp_path, code)
    assert float(torch.isclose(twin, shifted(x), rtol=1e-3, atol=1e-4).all(1).float().mean()) > 0.8  # ties of rounding
    read = fresh(tmp_path, "import snnconv\ny = snnconv.from_onnx('twin.onnx')(x)")
    torch.testing.assert_close(read, twin, rtol=1e-3, atol=1e-4)


def test_integer_networks_are_saved_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)).eval(), torch.rand(16, 6)
    snn = snnconv.convert(model, methods.IF(8, per_channel=False), x, progress=False)
    whole = snnconv.integer_weights(snn)
    torch.save(x, tmp_path / "x.pt")
    snnconv.save(whole, tmp_path / "net.snn.safetensors")
    found = fresh(tmp_path, "import snnconv\ny = snnconv.load('net.snn.safetensors')(x)")
    torch.testing.assert_close(found, whole(x))
