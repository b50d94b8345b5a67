"""Plots show what they were given."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

import snnconv

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.patches import StepPatch

from snnconv import methods, plot
from snnconv.dynamics import ladder_thresholds
from snnconv.graph.functions import Sigmoid, SiLU
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
    assert [text.get_text() for text in axes.texts] == ["1.00 ×", "0.50 ×"]
    with pytest.raises(ValueError, match="above zero"):
        plot.energy(0.0, {})


def signed_trace(spikes: list[list[float]]) -> Trace:
    """T × N unit spikes of one sample."""
    s = torch.tensor(spikes).unsqueeze(1)
    return Trace("relu", torch.zeros_like(s), s * 0.5 + 0.25, s, torch.full(s.shape[1:], 0.5), torch.ones(len(s)))


def test_raster_marks_every_spike_at_its_step_and_neuron() -> None:
    axes = plot.raster(signed_trace([[1, 0, 0], [0, 1, 0], [-1, 0, 0]]), neurons=[0, 1, 2])
    positive, negative = (set(map(tuple, c.get_offsets().tolist())) for c in axes.collections)
    assert positive == {(1.0, 0.0), (2.0, 1.0)}
    assert negative == {(3.0, 0.0)}
    assert axes.get_title(loc="left") == "relu: 3 spikes of 3 neurons"


def test_raster_without_negative_spikes_has_no_legend_for_them() -> None:
    axes = plot.raster(signed_trace([[1, 0], [0, 1]]))
    assert len(axes.collections) == 1
    assert axes.get_legend() is None


def test_membrane_is_in_units_of_the_threshold_and_crosses_it_before_a_spike() -> None:
    axes = plot.membrane(signed_trace([[1, 0, 0], [0, 1, 0], [-1, 0, 0]]), neurons=[0])
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]
    assert list(axes.lines[0].get_ydata()) == [1.5, 0.5, -0.5]
    marks = [c.get_offsets().tolist() for c in axes.collections if isinstance(c, PathCollection)]
    assert marks == [[[1.0, 2.5]], [[3.0, -1.5]]]
    rises = [
        segment.tolist() for c in axes.collections if isinstance(c, LineCollection) for segment in c.get_segments()
    ]
    assert rises == [[[1, 1.5], [1, 2.5]], [[3, -0.5], [3, -1.5]]]


def test_a_raster_shows_neurons_that_spike_from_the_whole_layer() -> None:
    spikes = torch.zeros(4, 1000)
    spikes[0, 100:] = 1
    axes = plot.raster(signed_trace(spikes.tolist()))
    assert axes.get_title(loc="left") == "relu: 80 spikes of 80 neurons"
    assert signed_trace(spikes.tolist()).spread(0, 3) == [100, 550, 999]


def test_membrane_shows_neurons_that_are_neither_silent_nor_saturated() -> None:
    always, half, never = [1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]
    spikes = torch.tensor([always, half, never, half, half]).float().T.tolist()
    assert [line.get_label() for line in plot.membrane(signed_trace(spikes)).lines[:3]] == ["1", "3", "4"]


def test_the_threshold_of_shifted_neurons_falls_with_every_step() -> None:
    x = torch.rand(64, 4)
    snn = snnconv.convert(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), methods.ShiftedThreshold(3), x, progress=False)
    found = trace(snn, x[:1], "1")
    assert found.worth.tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    (stairs,) = [patch for patch in plot.membrane(found).patches if isinstance(patch, StepPatch)]
    assert list(stairs.get_data().values) == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_numbers_of_steps_are_labelled_where_they_do_not_overlap() -> None:
    axes = plot.accuracy({"every step": {t: 50.0 + t for t in range(1, 33)}})
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    shown = [label.get_text() for label in axes.get_xticklabels() if label.get_text()]
    assert {"1", "2", "4", "8", "16", "32"} <= set(shown)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_the_legend_of_a_raster_lies_above_the_data_and_its_marks_are_seen() -> None:
    torch.manual_seed(0)
    axes = plot.raster(signed_trace(torch.randint(-1, 2, (32, 300)).float().tolist()))
    FigureCanvasAgg(axes.figure).draw()
    assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1 - 1
    for marks in axes.collections:
        assert marks.get_sizes()[0] ** 0.5 >= 3
        assert marks.get_linewidth()[0] >= 1.5


def test_objects_are_drawn_as_they_are() -> None:
    model, x = (
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)),
        torch.randn(64, 4),
    )
    snn = snnconv.convert(model, methods.SignedIF(8), x, progress=False)
    compared, counted = snnconv.compare(model, snn, x), snnconv.profile(model, snn, x)
    assert [p.get_height() for p in plot.layer_error(compared).patches] == [row.error for row in compared.rows]
    heights = [patch.get_height() for patch in plot.energy(counted).patches]
    assert heights == pytest.approx([1e6 * counted.ann_energy, 1e6 * counted.snn_energy])
    assert len(plot.energy({"a": counted, "b": counted}).patches) == 3
    by_layer = plot.layer_energy(counted)
    ann = by_layer.containers[0]
    assert sum(patch.get_height() for patch in ann) == pytest.approx(1e6 * counted.ann_energy)
    spiking = sum(patch.get_height() for container in by_layer.containers[1:] for patch in container)
    assert spiking == pytest.approx(1e6 * counted.snn_energy)
    drawn = plot.thresholds(snn.report)
    assert [label.get_text() for label in drawn.get_xticklabels()] == [site.name for site in snn.report.spiking]


@pytest.mark.parametrize("name", ["$x_{", "$\\frac$", "a\nb\x00", "<script>", "n" * 5000])
def test_names_are_drawn_as_text_whatever_they_are(name: str) -> None:
    for axes in (plot.layer_error({name: 0.1}), plot.accuracy({name: {1: 2.0}})):
        FigureCanvasAgg(axes.figure).draw()


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


@pytest.mark.parametrize(
    ("function", "lsb", "bits", "codes"), [(SiLU(), 0.5, 2, range(-1, 4)), (Sigmoid(), 1 / 7, 3, range(8))]
)
def test_a_ladder_is_drawn_with_its_codes_and_thresholds(function, lsb: float, bits: int, codes: range) -> None:
    axes = plot.ladder(function, lsb, bits)
    drawn = {round(float(y) / lsb) for y in axes.get_lines()[-1].get_ydata()}
    assert drawn == set(codes)
    marks = sorted(segment[0][0] for segment in axes.collections[0].get_segments())
    steps = ladder_thresholds(function, lsb, bits, function.signed, torch.float32, 1)
    assert marks == sorted((steps.values * steps.direction.unsqueeze(-1))[steps.values.isfinite()].tolist())
