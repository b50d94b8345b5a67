"""Second stage of rate norm training: only p learns, until the accuracy falls; and the fit curve."""

import pytest
import torch
from torch import nn

import snnconv
from snnconv import ConversionError, methods, plot
from snnconv.activations import RateNorm
from snnconv.metrics import fit_curve

X = torch.randn(256, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).long()


@pytest.fixture(scope="module")
def stage_one():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 24), nn.BatchNorm1d(24), RateNorm(), nn.Linear(24, 16), RateNorm(), nn.Linear(16, 2)
    )
    optimiser = torch.optim.Adam([p for n, p in model.named_parameters() if not n.endswith(".p")], 1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimiser.step()
    return model.eval()


def run(model, **options):
    settings = {"epochs": 4, "every": 5, "learning_rate": 0.05, **options}
    return snnconv.train_rate_scale(model, list(X.split(16)), [(X, Y)], progress=False, **settings)


def test_only_the_scales_change(stage_one):
    fast, _ = run(stage_one, tolerance=100.0)
    before, after = stage_one.state_dict(), fast.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed - {"1.running_mean", "1.running_var", "1.num_batches_tracked"} == {"2.p", "4.p"}
    frozen, _ = run(stage_one, statistics="frozen", tolerance=100.0)
    assert {name for name, value in frozen.state_dict().items() if not torch.equal(before[name], value)} == {
        "2.p",
        "4.p",
    }
    assert [p.requires_grad for p in fast.parameters()] == [p.requires_grad for p in stage_one.parameters()]


def test_fewer_steps_are_needed(stage_one):
    fast, report = run(stage_one, tolerance=5.0)
    assert report.stages[-1].mean_k < report.stages[0].mean_k

    def error(model):
        snn = snnconv.convert(model, methods.RateNorm(4))
        return float((snn(X) - model(X)).detach().norm() / model(X).detach().norm())

    assert error(fast) < error(stage_one)


def test_accuracy_stays_within_the_tolerance(stage_one):
    fast, report = run(stage_one, weight=20.0, epochs=20, learning_rate=0.3, tolerance=1.0)
    accuracy = 100 * float((fast(X).argmax(1) == Y).float().mean())
    assert report.stopped
    assert report.stages[-1].accuracy < report.stages[0].accuracy - 1
    assert accuracy >= report.stages[0].accuracy - 1
    assert report.chosen == report.stages[-2].step
    assert report.to_dict()["stages"][0]["step"] == 0


def test_without_labels_agreement_decides(stage_one):
    _, report = snnconv.train_rate_scale(stage_one, [X], [X], progress=False)
    assert report.stages[0].accuracy == 100


def test_bad_input(stage_one):
    with pytest.raises(ConversionError, match="no rate norm layer"):
        run(nn.Sequential(nn.Linear(6, 2), nn.ReLU()))
    with pytest.raises(ConversionError, match="1: this rate norm layer has seen no data"):
        run(nn.Sequential(nn.Linear(6, 2), RateNorm()))
    with pytest.raises(ConversionError, match="validation data is empty"):
        snnconv.train_rate_scale(stage_one, [X], [], progress=False)
    with pytest.raises(ValueError, match="at least 1"):
        run(stage_one, epochs=0)
    with pytest.raises(ValueError, match=r"statistics must be one of \('moving', 'frozen'\), got 'batch'"):
        run(stage_one, statistics="batch")
    with pytest.raises(ValueError, match="distance must be one of"):
        run(stage_one, distance="l1")


# --- statistics of BatchNorm -------------------------------------------------------------------------------


@pytest.fixture
def behind():
    """A rate norm layer whose outputs, in [0, 1], go through a layer and BatchNorm."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 24), RateNorm(), nn.Linear(24, 16), nn.BatchNorm1d(16), RateNorm(), nn.Linear(16, 2)
    )
    for _ in range(200):
        model.train()(X)
    return model.eval()


def test_running_statistics_are_the_moving_average_of_the_batches(behind):
    seen = []
    behind[3].register_forward_hook(lambda m, inputs, _: seen.append(inputs[0].detach()) if m.training else None)
    fast, report = run(behind, tolerance=100.0)
    mean, variance = behind[3].running_mean.clone(), behind[3].running_var.clone()
    for x in seen:
        mean = 0.9 * mean + 0.1 * x.mean(0)
        variance = 0.9 * variance + 0.1 * x.var(0)
    assert len(seen) == report.chosen == 64
    torch.testing.assert_close(fast[3].running_mean, mean)
    torch.testing.assert_close(fast[3].running_var, variance)


def test_the_taken_statistics_belong_to_the_taken_scales(behind):
    seen = []
    behind[3].register_forward_hook(lambda m, inputs, _: seen.append(inputs[0].detach()) if m.training else None)
    torch.manual_seed(0)
    fast, report = run(behind, tolerance=0.0, weight=50.0, learning_rate=0.5, epochs=20)
    assert report.stopped
    assert report.chosen < len(seen)
    mean = behind[3].running_mean.clone()
    for x in seen[: report.chosen]:
        mean = 0.9 * mean + 0.1 * x.mean(0)
    torch.testing.assert_close(fast[3].running_mean, mean)
    assert int(fast[3].num_batches_tracked - behind[3].num_batches_tracked) == report.chosen


def test_batchnorm_takes_back_the_growth_of_outputs_as_the_scale_falls(behind):
    """In range, y = z/θ grows by p before over p after; what reads it keeps its values by moving statistics alone."""

    def after(statistics):
        fast, _ = run(behind, tolerance=100.0, epochs=40, learning_rate=0.01, statistics=statistics)
        grown = float(behind[1].theta / fast[1].theta)
        return grown, fast[:4](X).square().mean()

    (grown, moving), (_, frozen) = after("moving"), after("frozen")
    assert grown > 1.5
    before = behind[:4](X).square().mean()
    assert abs(float(moving / before) - 1) < 0.15
    assert float(frozen / before) > 1.5


def test_a_single_input_keeps_the_statistics(behind):
    fast, _ = snnconv.train_rate_scale(behind, [X[:1]], [X], progress=False)
    assert torch.equal(fast[3].running_mean, behind[3].running_mean)
    assert not torch.equal(fast[1].p, behind[1].p)


# --- fit curve ---------------------------------------------------------------------------------------------


def test_k_and_bound_are_the_formulas(stage_one):
    """K = Σy/Σy² of the normalised activation; K/2T from θ/2, a quarter of the paper's 2Ω/T, whose Ω is K."""
    curve = fit_curve(stage_one, snnconv.convert(stage_one, methods.RateNorm(8)), X)
    with torch.no_grad():
        for layer, depth in zip(curve.layers, (3, 5), strict=True):
            y = stage_one[:depth](X).double()
            omega = float(y.sum() / y.square().sum())
            assert layer.k == pytest.approx(omega, rel=1e-4)
            assert layer.bounds[8] == pytest.approx(2 * omega / 8 / 4, rel=1e-4)


@pytest.mark.parametrize("timesteps", [3, 16])
def test_a_layer_with_constant_input_keeps_the_bound(stage_one, timesteps):
    snn = snnconv.convert(stage_one, methods.RateNorm(timesteps))
    curve = fit_curve(stage_one, snn, X, timesteps=range(1, timesteps + 1))
    first = curve.layers[0]
    assert all(first.errors[t] <= first.bounds[t] for t in curve.timesteps)
    assert first.errors[1] > 0.1 * first.bounds[1]


def test_the_curve_is_the_layer_error_at_the_last_step(stage_one):
    snn = snnconv.convert(stage_one, methods.RateNorm(8))
    curve = fit_curve(stage_one, snn, X)
    rows = snnconv.compare(stage_one, snn, X).rows
    assert [layer.errors[8] ** 0.5 for layer in curve.layers] == pytest.approx([row.error for row in rows], rel=1e-3)
    assert curve.timesteps == (1, 2, 4, 8)
    assert len(curve.rows()) == 8
    assert curve.to_dict()["layers"][0]["name"] == "2"
    assert "bound" in str(curve)


def test_k_does_not_depend_on_the_unit_of_the_activation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2)).eval()
    found = []
    for scaled in (False, True):
        qann = snnconv.prepare(model, RateNorm(scaled=scaled), X, progress=False).eval()
        found.append(fit_curve(qann, snnconv.convert(qann, methods.RateNorm(4)), X).mean_k)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_the_plot_shows_errors_and_bounds(stage_one):
    pytest.importorskip("matplotlib")
    curve = fit_curve(stage_one, snnconv.convert(stage_one, methods.RateNorm(8)), X)
    axes = plot.fit_curve(curve, layers=["4"])
    assert [list(line.get_ydata()) for line in axes.lines] == [
        [curve.layers[1].errors[t] for t in (1, 2, 4, 8)],
        [curve.layers[1].bounds[t] for t in (1, 2, 4, 8)],
    ]
    with pytest.raises(ValueError, match="there are 2, 4"):
        plot.fit_curve(curve, layers=["9"])


def test_fit_curve_refuses(stage_one):
    snn = snnconv.convert(stage_one, methods.RateNorm(8))
    with pytest.raises(ValueError, match="within 1 … 8"):
        fit_curve(stage_one, snn, X, timesteps=[16])
    relu = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    shifted = snnconv.convert(relu, methods.ShiftedThreshold(3), X, progress=False)
    with pytest.raises(ConversionError, match="bits of one number"):
        fit_curve(relu, shifted, X)
