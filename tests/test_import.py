"""``import snnconv`` needs torch and spikingjelly alone."""

import subprocess
import sys

EXTRAS = (
    "safetensors",
    "typer",
    "rich",
    "numba",
    "snntorch",
    "matplotlib",
    "torchvision",
    "timm",
    "sklearn",
    "mmengine",
)


def test_import_loads_no_extra():
    code = (
        "import sys, torch, spikingjelly; before = set(sys.modules); import snnconv;"
        f"print([m for m in {EXTRAS!r} if m in sys.modules and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_conversion_needs_no_extra():
    code = (
        f"import sys\nfor name in {EXTRAS!r}: sys.modules[name] = None\n"
        "import torch, snnconv\n"
        "model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))\n"
        "x = torch.randn(8, 4)\n"
        "snn = snnconv.convert(model, snnconv.methods.SignedIF(4), x)\n"
        "print(snn(x).shape, bool(snnconv.audit(snn, x)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "torch.Size([8, 2]) True", done.stderr
