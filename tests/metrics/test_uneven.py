"""Unevenness error: the four categories, counted as a plain simulation counts them."""

import math

import pytest
import torch
from torch import nn

import snnconv
from snnconv import ConversionError, methods, plot
from snnconv.activations import QCFS, RateNorm
from snnconv.metrics import unevenness
from snnconv.metrics.uneven import CATEGORIES

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
T = 6


def network(activation=nn.ReLU):
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(6, 20),
        activation(),
        nn.Linear(20, 16),
        activation(),
        nn.Linear(16, 12),
        activation(),
        nn.Linear(12, 3),
    )
    return model.double()


def converted(model, method=None):
    return snnconv.convert(
        model, method or methods.IF(T, thresholds="max", correction="none"), X.double(), progress=False
    )


def simulated(model, snn, x):
    """Spikes of every neuron, and those that an even current would give, neuron by neuron."""
    found, inputs = [], [x.tolist()] * T
    for layer, theta in zip((model[0], model[2], model[4]), snn.thresholds.values(), strict=True):
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        outputs = [[0.0] * len(bias) for _ in range(T)]
        for i, (row, b, size) in enumerate(zip(weight, bias, theta.tolist(), strict=True)):
            v, total, n = size / 2, 0.0, 0
            for t in range(T):
                current = sum(w * a for w, a in zip(row, inputs[t], strict=True)) + b
                total += current
                v += current
                if v >= size:
                    v, n, outputs[t][i] = v - size, n + 1, size
            found.append((n, min(max(math.floor(total / size + 0.5), 0), T)))
        inputs = outputs
    return found


def test_categories_are_those_of_a_plain_simulation():
    model = network()
    snn = converted(model)
    counts, values = dict.fromkeys(CATEGORIES, 0), 0
    for x in X.double():
        for n, m in simulated(model, snn, x):
            values += 1
            if n > m:
                counts["wrongly active" if m == 0 else "too many"] += 1
            elif n < m:
                counts["wrongly silent" if n == 0 else "too few"] += 1
    found = unevenness(model, snn, X.double())
    assert found.total.counts == counts
    assert found.total.values == values == 40 * 48
    assert min(counts[category] for category in CATEGORIES[:3]) > 0
    assert sum(found.layers[0].counts.values()) == 0  # its current is even
    assert [layer.name for layer in found.layers] == ["1", "3", "5"]
    assert found.total.shares["too many"] == counts["too many"] / values
    assert len(found.rows()) == 12
    assert "wrongly active" in str(found)
    assert found.to_dict()["samples"] == 40


def test_against_the_source_m_is_its_quantised_activation():
    model = network()
    snn = converted(model)
    with torch.no_grad():
        z = model[:3](X.double())
        theta = snn.thresholds["3"]
        wanted = torch.floor(z * T / theta + 0.5).clamp(0, T)
        n = (snn.rates(X.double())["3"] * T / theta).round()
    layer = unevenness(model, snn, X.double(), against="source").layers[1]
    assert layer.counts == {
        "wrongly active": int(((n > wanted) & (wanted == 0)).sum()),
        "too many": int(((n > wanted) & (wanted > 0)).sum()),
        "too few": int(((n < wanted) & (n > 0)).sum()),
        "wrongly silent": int(((n < wanted) & (n == 0)).sum()),
    }


def test_the_mask_of_srp_silences_wrongly_active_neurons():
    model = snnconv.prepare(network(), QCFS(T, per_channel=True), X.double(), progress=False).eval()
    trained = {"thresholds": "trained", "correction": "none"}
    plain, masked = (
        unevenness(model, converted(model, method), X.double(), against="source").total.counts["wrongly active"]
        for method in (methods.IF(T, **trained), methods.SRP(T, T, **trained))
    )
    assert masked < plain


def test_unit_spikes_and_signed_spikes_are_counted():
    model = network(RateNorm).train()
    model(X.double())
    model.eval()
    found = unevenness(model, converted(model, methods.RateNorm(T)), X.double())
    assert sum(found.layers[0].counts.values()) == 0
    model = network()
    signed = unevenness(model, converted(model, methods.SignedIF(T, thresholds="max", correction="none")), X.double())
    assert sum(signed.total.counts.values()) < sum(
        unevenness(model, converted(model), X.double()).total.counts.values()
    )


def test_the_plot_stacks_the_shares():
    pytest.importorskip("matplotlib")
    found = unevenness(network(), converted(network()), X.double())
    axes = plot.unevenness(found)
    heights = [[bar.get_height() for bar in group] for group in axes.containers]
    assert heights == [[100 * layer.shares[category] for layer in found.layers] for category in CATEGORIES]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "3", "5"]


def test_it_refuses():
    model = network()
    with pytest.raises(ConversionError, match="cannot come unevenly"):
        unevenness(model, converted(model, methods.ShiftedThreshold(3)), X.double())
    with pytest.raises(ValueError, match=r"against must be one of \('input', 'source'\), got 'ann'"):
        unevenness(model, converted(model), X.double(), against="ann")
