"""Poisson input: mean and variance of its spikes, and what it means for a converted network."""

import pytest
import torch
from torch import nn

import snnconv
from snnconv import methods
from snnconv.dynamics.poisson import poisson_input


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mean_and_variance_are_those_of_independent_draws():
    """Of T draws: mean x, variance |x|(c − |x|)/T; five deviations wide."""
    x, steps = torch.tensor([[0.0, 0.1, -0.4, 0.7, 1.0, -2.0]]), 20_000
    spikes = poisson_input(x, steps, generator=seeded())
    deviation = (x.abs() * (2 - x.abs()) / steps).sqrt()
    assert bool(((spikes.mean(0) - x).abs() <= 5 * deviation + 1e-6).all())
    assert set(spikes.unique().tolist()) == {-2.0, 0.0, 2.0}
    torch.testing.assert_close(spikes.var(0), x.abs() * (2 - x.abs()), rtol=0.1, atol=0.02)


def test_values_beyond_the_scale_are_cut_off():
    spikes = poisson_input(torch.tensor([[3.0, -3.0]]), 50, scale=1.0, generator=seeded())
    assert torch.equal(spikes, torch.tensor([[1.0, -1.0]]).expand(50, 1, 2))


def test_the_same_generator_gives_the_same_spikes():
    x = torch.rand(4, 3, generator=seeded(1))
    assert torch.equal(poisson_input(x, 8, generator=seeded()), poisson_input(x, 8, generator=seeded()))
    assert not torch.equal(poisson_input(x, 8, generator=seeded()), poisson_input(x, 8, generator=seeded(2)))


def test_a_network_reads_it_and_comes_to_the_answer_for_a_constant_input():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    x = torch.rand(8, 6)
    snn = snnconv.convert(model, methods.SignedIF(64, correction="none"), calibration=x, progress=False)
    run = snn.run_sequence(poisson_input(x, 4096, generator=seeded()))
    wanted = model(x).detach()
    error = [float((run.readouts[t - 1] - wanted).norm() / wanted.norm()) for t in (2, 4096)]
    assert error[1] < min(0.05, error[0] / 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(timesteps=0), "timesteps must be at least 1, got 0"),
        (dict(timesteps=4, scale=0.0), "scale must be above 0 and finite, got 0.0"),
    ],
)
def test_values_that_make_no_sense_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        poisson_input(torch.ones(1, 2), **arguments)
    with pytest.raises(ValueError, match="NaN or infinity"):
        poisson_input(torch.tensor([float("nan")]), 3)


def test_no_input_has_no_spikes():
    assert poisson_input(torch.zeros(0, 3), 4).shape == (4, 0, 3)
    assert not poisson_input(torch.zeros(2, 3), 4).any()
