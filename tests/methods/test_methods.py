"""Methods validate their choices and refuse combinations that make no sense."""

import dataclasses

import pytest
import torch
from torch import nn

import snnconv
from snnconv import methods
from snnconv.dynamics import neuron
from snnconv.dynamics.function import REALISATIONS
from snnconv.dynamics.placing import at_function
from snnconv.graph import functions


@pytest.mark.parametrize("cls", list(methods.METHODS.values()), ids=list(methods.METHODS))
class TestEveryMethod:
    def make(self, cls, timesteps=4, **fields):
        if cls is methods.SRP:
            fields.setdefault("pre_timesteps", 4)
        return cls(timesteps, **fields)

    def test_is_frozen(self, cls):
        with pytest.raises(dataclasses.FrozenInstanceError):
            self.make(cls).timesteps = 5

    @pytest.mark.parametrize("timesteps", [0, -1])
    def test_needs_a_step(self, cls, timesteps):
        with pytest.raises(ValueError, match="timesteps must be at least 1"):
            self.make(cls, timesteps)

    @pytest.mark.parametrize("timesteps", [1.5, "4", True, None])
    def test_counts_in_whole_steps(self, cls, timesteps):
        with pytest.raises(TypeError, match="timesteps must be a whole number"):
            self.make(cls, timesteps)

    def test_round_trips_through_plain_values(self, cls):
        method = self.make(cls, per_channel=False)
        assert methods.Method.from_dict(method.to_dict()) == method

    @pytest.mark.parametrize("bad", [{"correction": "magic"}, {"max_pool": "first"}, {"thresholds": "120%"}])
    def test_refuses_unknown_choices(self, cls, bad):
        with pytest.raises(ValueError, match=r"methods\."):
            self.make(cls, **bad)

    def test_unknown_name_is_refused(self, cls):
        with pytest.raises(ValueError, match="unknown method 'nobody'"):
            methods.Method.from_dict({"name": "nobody"})


def test_latency_counts_every_step():
    assert methods.SRP(4, 3).latency == 7
    assert methods.SignedIF(8).latency == 8


def test_levels():
    assert methods.ShiftedThreshold(5).levels == 31
    assert methods.IF(5).levels == 5


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: methods.RateNorm(4, thresholds="mse"), "trained with its thresholds"),
        (lambda: methods.LocalThresholdBalancing(8, thresholds="max"), "balancing is what this method does"),
        (lambda: methods.ShiftedThreshold(4, max_pool="instantaneous"), "sees its whole input"),
        (lambda: methods.ShiftedThreshold(20), "more than float32"),
        (lambda: methods.IF(4, delay=4), "no step would be left"),
        (lambda: methods.SignedIF(4, eps=0.7), "fraction of the threshold"),
        (lambda: methods.SRP(4, 0), "pre_timesteps must be at least 1"),
        (lambda: methods.LocalThresholdBalancing(8, k=-1.0), "k must be positive"),
        (lambda: methods.LocalThresholdBalancing(8, tolerance=-1.0), "tolerance must be at least 0"),
        (lambda: methods.LocalThresholdBalancing(8, calibration_samples=0), "calibration_samples must be at least 1"),
    ],
)
def test_nonsense_is_refused_with_a_reason(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_where_a_ladder_would_be_long_the_function_is_evaluated_unless_ladders_are_asked_for():
    def realisation(**options):
        return methods.ShiftedThreshold(**options).neuron_at(functions.SiLU())[0].name

    ladder, function = (at_function(neuron.get("shifted_threshold"), functions.SiLU(), r)[0].name for r in REALISATIONS)
    assert ladder != function
    assert realisation(timesteps=12) == ladder
    assert realisation(timesteps=13) == function
    assert realisation(timesteps=13, realisation="ladder") == ladder
    assert realisation(timesteps=4, realisation="function") == function


def test_both_are_the_same_spikes_where_one_takes_the_others_place():
    net, x = nn.Sequential(nn.Linear(3, 2), nn.SiLU(), nn.Linear(2, 2)).double(), torch.randn(40, 3).double()
    ladder, function = (
        snnconv.convert(net, methods.ShiftedThreshold(13, realisation=r, correction="none"), x, progress=False)
        for r in ("ladder", None)
    )
    assert torch.equal(ladder(x), function(x))
