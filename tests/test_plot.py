"""Plots show what they were given."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from snnconv import plot


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
