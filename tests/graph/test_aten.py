"""Every way to write an operator that torch.export knows gives in the graph what it gives in the network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv.graph.capture.exported import exported_graph
from snnconv.runtime.program import GraphProgram

OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {  # of a map [B, 4, 6, 6], not negative
    "a sum with a factor": lambda y: torch.add(y, y.flip(1), alpha=0.5),
    "a sum with a number and a factor": lambda y: torch.add(y, 3, alpha=0.5),
    "a difference with a factor": lambda y: torch.sub(y, y.flip(1), alpha=2),
    "a number less a tensor": lambda y: 1 - y,
    "a tensor from a tensor": lambda y: torch.rsub(y, y.flip(1), alpha=2),
    "a number by a tensor": lambda y: 2 / (y + 1),
    "a quotient rounded down": lambda y: torch.div(y, 0.3, rounding_mode="floor"),
    "a power": lambda y: y**2 + y**0.5,
    "a number to a power": lambda y: torch.pow(2, y),
    "a slice": lambda y: y[:, 1:, 2:5, ::2],
    "a slice that is written": lambda y: torch.slice_scatter(y, y[:, :2] * 2, 1, 0, 2),
    "a slice of everything that is written": lambda y: torch.slice_scatter(y, y * 2, 1),
    "places": lambda y: y[:, [0, 2, 2]],
    "a table": lambda y: F.embedding((y > 0.2).long(), torch.arange(6.0).reshape(2, 3)),
    "one or the other": lambda y: torch.where(y > 0.2, y, 0.1),
    "dropout": lambda y: F.dropout(y, 0.5, training=False) + F.dropout2d(y, 0.5, training=False),
    "zeros around": lambda y: F.pad(y, (1, 0, 2, 1)),
    "numbers around": lambda y: F.pad(y, (1, 1), value=0.5),
    "mirrored around": lambda y: F.pad(y, (1, 2, 1, 1), mode="reflect"),
    "repeated around": lambda y: F.pad(y, (1, 2, 1, 1), mode="replicate"),
    "resized, nearest": lambda y: F.interpolate(y, size=(9, 8)),
    "resized by a factor": lambda y: F.interpolate(y, scale_factor=2.0),
    "resized, nearest exactly": lambda y: F.interpolate(y, size=(9, 8), mode="nearest-exact"),
    "resized, bilinear": lambda y: F.interpolate(y, size=(9, 8), mode="bilinear"),
    "resized, corners": lambda y: F.interpolate(y, size=(9, 8), mode="bilinear", align_corners=True),
    "resized, bicubic": lambda y: F.interpolate(y, size=(9, 8), mode="bicubic"),
    "resized, smoothed": lambda y: F.interpolate(y, size=(3, 3), mode="bilinear", antialias=True),
    "largest with places": lambda y: F.max_pool2d(y, 2, return_indices=True)[0],
    "places of the largest": lambda y: F.max_pool2d(y, 2, return_indices=True)[1].float(),
    "largest of each part": lambda y: F.adaptive_max_pool2d(y, 3),
    "elu": lambda y: F.elu(y - 0.2, 0.5),
    "celu": lambda y: F.celu(y - 0.2, 0.5),
    "selu": lambda y: F.selu(y - 0.2),
    "normalised in groups": lambda y: F.group_norm(y, 2),
    "a transposed convolution": lambda y: F.conv_transpose2d(y, torch.ones(4, 2, 3, 3), stride=2, output_padding=1),
    "another dtype and back": lambda y: y.to(torch.float64).to(torch.float32),
    "the dtype of another": lambda y: (y > 0.2).type_as(y),
    "largest of two": lambda y: torch.max(y, y.flip(1)),
    "largest along a dimension": lambda y: torch.max(y, 1, keepdim=True)[0],
    "least along a dimension": lambda y: y.min(dim=2)[0],
    "least of all of an input": lambda y: torch.stack([y[:, 0].amin((1, 2)), y[:, 1].amax((1, 2))], 1),
    "a sum of products": lambda y: torch.einsum("bchw,bdhw->bcd", y, y),
    "numbers in order": lambda y: y * torch.arange(6, device=y.device),
    "numbers of its size": lambda y: y + torch.full((y.shape[0], 1, 1, 1), 2.0) + torch.ones(y.shape[0], 1, 1, 1),
    "numbers evenly spaced": lambda y: y * torch.linspace(0, 1, 6),
    "filled": lambda y: y + torch.full_like(y, 0.5).fill_(0.25),
    "emptied": lambda y: y + y.clone().zero_(),
    "copied": lambda y: torch.zeros_like(y).copy_(y[:, :1]),
    "variance and mean": lambda y: torch.cat(torch.var_mean(y, dim=(2, 3), correction=0), 1),
    "deviation and mean": lambda y: torch.cat(torch.std_mean(y, dim=(2, 3)), 1),
    "sampled": lambda y: F.grid_sample(y, y[:, :2].permute(0, 2, 3, 1), align_corners=False),
    "put together": lambda y: F.fold(F.unfold(y, 2), (6, 6), 2),
}  # fmt: skip


class All(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.relu(self.conv(x))
        return {name: operator(y) for name, operator in OPERATORS.items()}


@cache
def results() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of three inputs, captured with two: of the graph, and of the network."""
    x = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model = All().eval()
        source = exported_graph(model, {"x": x[:2]})
        got = GraphProgram(source).static(x, lambda site, z: source.sites[site].activation(z))
        return got, model(x)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_as_torch_export_spells_it(name: str) -> None:
    got, expected = results()
    torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=1e-6)
