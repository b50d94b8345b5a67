"""Shifted-threshold conversion of a quantised network is lossless at every layer, spikes really sent step by step."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import snnconv
from snnbench.networks.models import ResNet20
from snnconv import methods
from snnconv.activations import QuantReLU
from snnconv.graph.capture.fx import source_graph
from snnconv.runtime.program import GraphProgram


class Mixed(nn.Module):
    """Max-pooling in front of and behind neurons, concatenation, upsampling, padding, residual add."""

    def __init__(self, levels):
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.join, self.last = nn.Conv2d(16, 8, 3), nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, 5)
        self.acts = nn.ModuleList(QuantReLU(levels, torch.rand(8) + 0.3) for _ in range(4))

    def forward(self, x):
        a = self.acts[0](self.stem(x))
        b = self.acts[1](self.deep(F.max_pool2d(a, 2)))
        up = F.interpolate(b, scale_factor=2, mode="nearest")
        c = self.acts[2](self.join(F.pad(torch.cat([a, up], 1), (1, 1, 1, 1))) + a)
        d = self.acts[3](self.last(torch.cat([F.max_pool2d(c, 3, 1, 1), up], 1)))
        return self.head(d.mean((2, 3)).view(x.size(0), -1))


def resnet20(levels):
    model = ResNet20()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(module, name, QuantReLU(levels, 1.0))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


@pytest.mark.parametrize("make", [Mixed, resnet20], ids=["mixed", "resnet20"])
@pytest.mark.parametrize("timesteps", [1, 2, 3, 4])
@pytest.mark.parametrize("synapses", ["auto", "steps"])
def test_every_layer_equals_the_quantised_network(make, timesteps, synapses):
    torch.manual_seed(timesteps)
    # double precision, so that no neuron sits within rounding of a threshold
    model = make(2**timesteps - 1).double().eval()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    snn = snnconv.convert(model, methods.ShiftedThreshold(timesteps, thresholds="trained"))
    reference = GraphProgram(source_graph(model))
    wanted, got = {}, {}

    def activation(site, z):
        wanted[site] = reference.sites[site].activation(z)
        return wanted[site]

    output = reference.static(x, activation)
    readout = snn.run(x, synapses, observe=lambda site, out: got.__setitem__(site, out.sum(0)))
    assert list(got) == list(wanted)
    for site, value in wanted.items():
        torch.testing.assert_close(got[site], value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(snn.readout.final(readout), output, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output, model(x), rtol=1e-9, atol=1e-9)


def test_each_step_is_one_weighted_spike():
    torch.manual_seed(0)
    model = Mixed(7).eval()
    snn = snnconv.convert(model, methods.ShiftedThreshold(3, thresholds="trained"))
    seen = {}
    snn.run(torch.randn(2, 3, 16, 16), "steps", observe=seen.__setitem__)
    for site, out in seen.items():
        lsb = (snn.thresholds[site] / 7).reshape(-1, 1, 1)
        for step, bit in enumerate((4, 2, 1)):
            ratio = out[step] / lsb
            assert ((ratio == 0) | ((ratio - bit).abs() < 1e-4)).all(), site
