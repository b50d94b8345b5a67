"""The snippets of CONTRIBUTING.md run as they stand, one after the other, and what they add converts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
USE = """
from torch import nn
import snnconv

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(squareplus(self.second(twice(torch.relu(self.first(x))))))

x = torch.randn(32, 4)
snn = snnconv.convert(Net(), Halving(timesteps=4), x, progress=False)
assert snn(x).shape == (32, 2)
assert type(snn.neurons["relu"]).__name__.startswith("Halving"), type(snn.neurons["relu"])
assert [site.operator for site in snn.report.analog if site.activation] == ["squareplus"]
snnconv.save(snn, "own.snn.safetensors")
assert torch.equal(snnconv.load("own.snn.safetensors")(x), snn(x))
"""


def test_the_snippets_run(tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(snippets) == 4
    script = tmp_path / "added.py"
    script.write_text("\n".join(snippets) + USE, encoding="utf-8")
    subprocess.run([sys.executable, str(script)], check=True, cwd=tmp_path)
