"""Where the membrane starts, and how wide the dead zone is: every kernel, both frameworks, saved and loaded."""

import math
from fractions import Fraction

import pytest
import torch
from torch import nn

import snnconv
from snnconv import ConversionError, dynamics, methods
from snnconv.activations import RateNorm
from snnconv.dynamics.kernels.backends import available
from snnconv.metrics import fit_curve

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))


def backends():
    return ["eager", *(["numba"] if available("numba") else [])]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).eval()


# --- start -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["half", "zero"])
def test_a_constant_input_is_rounded_or_rounded_down(start):
    for numerator in range(-8, 41):
        z = Fraction(numerator, 32)
        wanted = min(max(math.floor(6 * z + (Fraction(1, 2) if start == "half" else 0)), 0), 6)
        spikes, _ = dynamics.if_multistep(torch.full((6, 1), float(z), dtype=torch.float64), 1.0, start=start)
        assert int(spikes.sum()) == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("theta", [1.3, torch.tensor([0.5, 1.0, 2.0, 0.7])])
def test_every_kernel_starts_where_the_equation_does(dtype, theta):
    x_seq = torch.randn(7, 5, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = dynamics.if_multistep(x_seq, theta, start="zero")[0]
    assert not torch.equal(expected, dynamics.if_multistep(x_seq, theta)[0])
    for backend in backends():
        assert torch.equal(dynamics.scan("if", x_seq, theta, backend=backend, scaled=False, start="zero"), expected)
        first, state = dynamics.resume("if", x_seq[:3], theta, None, backend=backend, scaled=False, start="zero")
        last, _ = dynamics.resume("if", x_seq[3:], theta, state, backend=backend, scaled=False, start="zero")
        assert torch.equal(torch.cat([first, last]), expected)


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
def test_a_network_starts_at_zero_in_both_frameworks(framework, tmp_path):
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    model = network().double()
    method = methods.IF(5, thresholds="max", correction="none", start="zero")
    snn = snnconv.convert(model, method, X.double(), framework=framework, progress=False)
    z = model[0](X.double())
    theta = snn.thresholds["1"]
    count = 5 * z / theta
    inside = (count - count.round()).abs() > 1e-9  # a sum on the border of two may fall to either side
    wanted = theta * torch.floor(count).clamp(0, 5) / 5
    assert inside.float().mean() > 0.9
    torch.testing.assert_close(snn.rates(X.double())["1"][inside], wanted.detach()[inside])
    path = tmp_path / "net.safetensors"
    snnconv.save(snn, path)
    again = snnconv.load(path)
    assert again.method == method
    assert torch.equal(again(X.double()), snn(X.double()))
    torch.testing.assert_close(list(snn.stream(X.double()))[-1][1], snn(X.double()))


def test_the_bound_and_the_delay_know_the_start():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 24), RateNorm(), nn.Linear(24, 2)).train()
    model(X)
    model.eval()
    found = {}
    for start in ("half", "zero"):
        snn = snnconv.convert(model, methods.RateNorm(8, start=start, delay="auto"), X, progress=False)
        (layer,) = fit_curve(model, snn, X, timesteps=range(1, 9)).layers
        assert all(layer.errors[t] <= layer.bounds[t] for t in range(1, 9))
        found[start] = snn.delay, layer.bounds[4] / layer.k
    mean = float(model[:2](X).mean(0).max())
    assert found == {
        "half": (int(1 / 2 / mean), pytest.approx(1 / 8)),
        "zero": (int(1 / mean), pytest.approx(1 / 4)),
    }


@pytest.mark.parametrize("start", ["current", "state"])
def test_a_file_of_neurons_that_start_at_zero_says_so(start):
    pytest.importorskip("nir")
    model = network()
    snn = snnconv.convert(model, methods.IF(8, start="zero"), X, progress=False)
    graph = snnconv.to_nir(snn, start=start)
    assert graph.metadata["v_init"] == 0.0
    torch.testing.assert_close(snnconv.from_nir(graph)(X), snn(X), rtol=1e-4, atol=1e-5)


# --- dead zone ---------------------------------------------------------------------------------------------


def plain(x_seq, theta, width):
    """Signed integrate-and-fire of one neuron, by hand."""
    v, n, spikes = theta / 2, 0, []
    for x in x_seq:
        v += x
        spike = 0
        if v >= theta:
            v, n, spike = v - theta, n + 1, 1
        elif v < -width and n > 0:
            v, n, spike = v + theta, n - 1, -1
        spikes.append(spike)
    return spikes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_absolute_dead_zone_does_not_scale_with_the_threshold(dtype):
    theta = torch.tensor([0.5, 1.0, 4.0, 8.0])
    steps = torch.tensor([1.0, 0.25, -0.75, -0.5, -0.125, 0.5, -1.0, -0.25])  # exact in either dtype
    x_seq = (steps[:, None, None] * theta).to(dtype)
    wanted = torch.tensor([plain((steps * t).tolist(), float(t), 0.5) for t in theta]).T[:, None]
    relative = dynamics.scan("signed_if", x_seq, theta, scaled=False, eps=0.125)
    assert not torch.equal(wanted.to(dtype), relative)
    assert torch.equal(dynamics.signed_if_multistep(x_seq, theta, eps_absolute=0.5)[0], wanted.to(dtype))
    for backend in backends():
        found = dynamics.scan("signed_if", x_seq, theta, backend=backend, scaled=False, eps_absolute=0.5)
        assert torch.equal(found, wanted.to(dtype))


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
def test_a_network_has_the_dead_zone_in_both_frameworks(framework, tmp_path):
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    model = network()
    build = {"thresholds": "max", "correction": "none", "per_channel": False}
    relative, absolute = (
        snnconv.convert(model, methods.SignedIF(6, **build, **more), X, framework=framework, progress=False)
        for more in ({}, {"eps_absolute": 0.3})
    )
    assert not torch.equal(relative(X), absolute(X))
    path = tmp_path / "net.safetensors"
    snnconv.save(absolute, path)
    again = snnconv.load(path)
    assert again.method.eps_absolute == 0.3
    assert torch.equal(again(X), absolute(X))
    theta = float(absolute.thresholds["3"])
    same = snnconv.convert(model, methods.SignedIF(6, **build, eps=0.3 / theta), X, framework=framework, progress=False)
    assert torch.equal(same.rates(X)["1"], absolute.rates(X)["1"])  # no negative spike can be due there


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: methods.IF(4, start="full"), "start must be one of"),
        (lambda: methods.SignedIF(4, eps_absolute=-1.0), "eps_absolute must be 0 or more"),
        (lambda: methods.SignedIF(4, eps_absolute=math.inf), "eps_absolute must be 0 or more"),
        (lambda: dynamics.scan("if", torch.zeros(1, 1), 1.0, start="full"), "start must be one of"),
        (lambda: dynamics.scan("signed_if", torch.zeros(1, 1), 1.0, eps_absolute=-1.0), "eps_absolute must be 0"),
        (lambda: dynamics.scan("if", torch.zeros(1, 1), 1.0, eps_absolute=1.0), "eps_absolute is for neuron"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    assert issubclass(ConversionError, ValueError)
