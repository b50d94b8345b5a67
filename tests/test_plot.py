"""Plots show what they were given."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import snnconv

pytest.importorskip("matplotlib")

from snnconv import methods, plot
from snnconv.metrics import Trace, trace


def test_accuracy_draws_a_line_a_method_and_the_ann() -> None:
    axes = plot.accuracy({"IF": {4: 30.0, 16: 80.0}, "signed": {4: 70.0}}, ann=90.0, dashed={"IF"})
    assert [line.get_label() for line in axes.lines] == ["IF", "signed", "ANN 90.0 %"]
    assert list(axes.lines[0].get_xdata()) == [4, 16]
    assert list(axes.lines[0].get_ydata()) == [30.0, 80.0]
    assert axes.lines[0].get_linestyle() == "--"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["4", "16"]


def test_accuracy_draws_into_given_axes() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert plot.accuracy({"a": {1: 1.0}}, axes=axes) is axes


@pytest.mark.parametrize("curves", [{}, {"a": {}}, {"a": {0: 1.0}}])
def test_accuracy_refuses_what_cannot_be_drawn(curves: dict[str, dict[int, float]]) -> None:
    with pytest.raises(ValueError, match="curve"):
        plot.accuracy(curves)


def test_layer_error_marks_the_worst_layer() -> None:
    axes = plot.layer_error({"a": 0.1, "b": 0.4, "c": 0.2})
    colours = {patch.get_facecolor() for patch in (axes.patches[0], axes.patches[2])}
    assert len(axes.patches) == 3
    assert axes.patches[1].get_facecolor() not in colours
    assert "b" in axes.get_title()


def test_energy_is_in_microjoules_with_ratios() -> None:
    axes = plot.energy(2e6, {"T=4": 1e6})
    assert [patch.get_height() for patch in axes.patches] == pytest.approx([2.0, 1.0])
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.50"]
    with pytest.raises(ValueError, match="above zero"):
        plot.energy(0.0, {})


def signed_trace(spikes: list[list[float]]) -> Trace:
    """T × N unit spikes of one sample."""
    s = torch.tensor(spikes).unsqueeze(1)
    return Trace("relu", torch.zeros_like(s), s * 0.5 + 0.25, s, torch.full(s.shape[1:], 0.5))


def test_raster_marks_every_spike_at_its_step_and_neuron() -> None:
    axes = plot.raster(signed_trace([[1, 0, 0], [0, 1, 0], [-1, 0, 0]]), neurons=[0, 1, 2])
    positive, negative = (set(map(tuple, c.get_offsets().tolist())) for c in axes.collections)
    assert positive == {(1.0, 0.0), (2.0, 1.0)}
    assert negative == {(3.0, 0.0)}
    assert axes.get_title() == "relu: 3 spikes of 3 neurons"


def test_raster_without_negative_spikes_has_no_legend_for_them() -> None:
    axes = plot.raster(signed_trace([[1, 0], [0, 1]]))
    assert len(axes.collections) == 1
    assert axes.get_legend() is None


def test_membrane_is_in_units_of_the_threshold() -> None:
    axes = plot.membrane(signed_trace([[1, 0, 0], [0, 1, 0], [-1, 0, 0]]), neurons=[0])
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]
    assert list(axes.lines[0].get_ydata()) == [1.5, 0.5, -0.5]
    assert [c.get_offsets().tolist() for c in axes.collections] == [[[1.0, 1.5]], [[3.0, -0.5]]]


def test_membrane_shows_the_busiest_neurons() -> None:
    axes = plot.membrane(signed_trace([[0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0]]))
    assert [line.get_label() for line in axes.lines[:2]] == ["1", "2"]


@pytest.mark.parametrize("draw", [plot.raster, plot.membrane])
def test_a_neuron_that_is_not_there_is_named(draw: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="relu has 2 neurons a sample, 0 … 1: no 2"):
        draw(signed_trace([[1, 0]]), neurons=[0, 2])


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
@pytest.mark.parametrize("method", [methods.IF(5), methods.SignedIF(5), methods.SRP(3, 2), methods.ShiftedThreshold(3)])
def test_a_trace_is_what_the_network_did(method: methods.Method, framework: str) -> None:
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    x = torch.randn(16, 2, 6, 6)
    snn = snnconv.convert(net, method, x, framework=framework, progress=False)
    found: list[torch.Tensor] = []
    snn.run(x, observe=lambda site, out: found.append(out) if site == "3" else None)
    out = torch.cat(found)
    got = trace(snn, x, "3")
    assert torch.equal(got.spikes.sign(), out.sign())
    assert got.membrane.shape == out.shape
    assert got.threshold.shape == out.shape[1:]
    if method.coding == "rate":  # soft reset: nothing is lost between input, output and membrane
        steps = method.pre_timesteps_ or method.timesteps
        charge = got.threshold / 2 + got.current[:steps].sum(0) - got.threshold * got.spikes[:steps].sum(0)
        if not method.pre_timesteps_:
            assert torch.allclose(charge, got.membrane[steps - 1], atol=1e-4)


def test_a_trace_of_no_site_lists_them() -> None:
    snn = snnconv.convert(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), methods.IF(2), torch.randn(4, 2), progress=False)
    with pytest.raises(ValueError, match="no site 'fc'; the network has 1"):
        trace(snn, torch.randn(1, 2), "fc")
