"""`recommend` finds a method within the budget, gives up the hopeless early, and says so where there is none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import snnconv
from snnconv import methods
from snnconv.cli.app import app
from snnconv.selection import Budget, Trial
from snnconv.selection.budget import candidates
from snnconv.selection.data import Samples, collect, divide
from snnconv.selection.trial import front, paired


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 5)).eval()


@pytest.fixture(scope="module")
def data(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Inputs with the network's own answers as labels: the ANN is right everywhere."""
    x = torch.randn(1000, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, network(x).argmax(1)


class TestBudget:
    def test_parts_are_read(self) -> None:
        assert Budget.parse("T=8, energy=0.3,drop=1.5") == Budget(8, 0.3, 1.5)
        assert str(Budget(8, 0.3, 1.5)) == "T=8,energy=0.3,drop=1.5"

    @pytest.mark.parametrize("text", ["", "8", "T=0", "T=x", "T=2.5", "energy=0", "speed=3", "T=8,T=9", "drop=nan"])
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"budget|number|T is"):
            Budget.parse(text)

    def test_no_candidate_exceeds_the_steps(self) -> None:
        for most in (1, 2, 5, 8, 100):
            found = candidates(Budget(latency=most))
            assert found
            assert all(m.latency <= most for m in found)

    def test_trained_thresholds_are_kept(self) -> None:
        assert {m.thresholds for m in candidates(Budget(latency=8), trained=True)} == {"trained"}


class TestData:
    def test_no_input_serves_twice(self) -> None:
        x = torch.arange(200.0).view(-1, 1).expand(-1, 2)
        parts = divide(Samples(x, None), None, None, seed=3)
        seen = torch.cat([part.x[:, 0] for part in parts])
        assert sorted(seen.tolist()) == list(range(200))

    def test_labels_stay_with_their_inputs(self) -> None:
        x = torch.arange(200.0).view(-1, 1)
        for part in divide(Samples(x, x[:, 0].long()), None, None, seed=3):
            assert part.y is not None
            assert torch.equal(part.x[:, 0].long(), part.y)

    def test_data_of_its_own_for_calibration_and_test(self) -> None:
        own, test = Samples(torch.zeros(9, 2), None), Samples(torch.ones(30, 2), None)
        fitting, choosing, held_out = divide(Samples(torch.ones(40, 2), None), own, test, seed=0)
        assert (fitting, held_out, len(choosing)) == (own, test, 40)

    def test_too_little_is_said(self) -> None:
        with pytest.raises(snnconv.ConversionError, match="samples are left for"):
            divide(Samples(torch.zeros(20, 2), None), None, None, seed=0)
        with pytest.raises(snnconv.ConversionError, match="data is empty"):
            collect([], 10)


class TestTrials:
    @staticmethod
    def trial(steps: int, right: int, energy: float | None = None, of: int = 200) -> Trial:
        trial = Trial(methods.IF(steps), energy_ratio=energy)
        trial.see(torch.tensor([100.0] * right + [0.0] * (of - right)), torch.full((of,), 100.0))
        return trial

    def test_drop_and_its_error_are_of_pairs(self) -> None:
        trial = self.trial(4, 150)
        assert (trial.score, trial.drop) == (75.0, 25.0)
        assert 3.0 < trial.drop_error < 3.3  # √(0.25·0.75/200) is 3.06 points
        assert paired(torch.ones(50), torch.ones(50))[1] > 0

    def test_a_cheaper_and_better_one_beats(self) -> None:
        assert self.trial(4, 190, 0.1).beats(self.trial(8, 150, 0.2))
        assert not self.trial(4, 190, 0.3).beats(self.trial(8, 150, 0.2))  # not cheaper in energy
        assert not self.trial(4, 151, 0.1).beats(self.trial(8, 150, 0.2))  # not beyond the error

    def test_front(self) -> None:
        small, large, worse = self.trial(4, 150, 0.1), self.trial(8, 190, 0.2), self.trial(16, 180, 0.3)
        assert front([worse, large, small]) == [small, large]


class TestRecommend:
    def test_steps(self, network: nn.Module, data: tuple[Tensor, Tensor]) -> None:
        found = snnconv.recommend(network, data, "T=8", progress=False)
        assert found.best is not None
        assert found.network is not None
        assert found.best.latency <= 8
        assert found.holds
        assert found.best in found.front
        assert f"meets T=8; on {found.test_samples} other inputs" in str(found)
        with torch.no_grad():
            right = (found.network(data[0]).argmax(1) == data[1]).float().mean()
        assert 100 * float(right) == pytest.approx(found.test, abs=4)

    def test_drop(self, network: nn.Module, data: tuple[Tensor, Tensor]) -> None:
        found = snnconv.recommend(network, data, "drop=6", progress=False)
        assert found.best is not None
        assert found.best.drop <= 6
        cheaper = [t for t in found.trials if t.energy_ratio and t.energy_ratio < (found.best.energy_ratio or 0)]
        assert cheaper
        assert all(t.stopped or t.drop + t.drop_error > 6 for t in cheaper)

    def test_energy(self, network: nn.Module, data: tuple[Tensor, Tensor]) -> None:
        found = snnconv.recommend(network, data, "energy=0.4", progress=False)
        assert found.best is not None
        assert found.best.energy_ratio is not None
        assert found.best.energy_ratio <= 0.4
        over = [t for t in found.trials if t.energy_ratio is not None and t.energy_ratio > 0.4]
        assert over
        assert all("of the energy" in t.stopped for t in over)

    def test_the_hopeless_see_fewer_inputs(self, network: nn.Module, data: tuple[Tensor, Tensor]) -> None:
        found = snnconv.recommend(network, data, "T=8", progress=False)
        most = max(t.samples for t in found.trials)
        assert found.best is not None
        assert found.best.samples == most
        assert sum(t.samples < most for t in found.trials) >= len(found.trials) / 2
        assert all(t.network is None for t in found.trials if t.stopped)

    def test_a_budget_that_cannot_be_met_is_said(self, network: nn.Module, data: tuple[Tensor, Tensor]) -> None:
        found = snnconv.recommend(network, data, "T=1,drop=0.5", progress=False)
        assert found.best is None
        assert found.network is None
        assert not found.holds
        assert found.verdict.startswith("No method meets T=1,drop=0.5. The smallest drop is that of")

    def test_without_labels_the_network_is_the_reference(self, network: nn.Module, data: tuple[Tensor, Tensor]) -> None:
        found = snnconv.recommend(network, data[0], "T=8", progress=False, methods=[methods.IF(8)])
        assert (found.score, found.ann) == ("agreement (%)", 100.0)

    def test_a_score_of_ones_own(self, data: tuple[Tensor, Tensor]) -> None:
        x = data[0]
        model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        with torch.no_grad():
            y = model(x)
        tried = [methods.IF(4), methods.IF(32)]

        def closeness(output: Tensor, target: Tensor) -> Tensor:
            return -(output - target).abs().mean(1)

        found = snnconv.recommend(model, (x, y), "T=32", score=closeness, methods=tried, progress=False)
        assert found.method == methods.IF(32)
        with pytest.raises(snnconv.ConversionError, match="give score="):
            snnconv.recommend(model, (x, y), "T=32", progress=False)

    def test_the_model_is_left_as_it_was(self, data: tuple[Tensor, Tensor]) -> None:
        model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 5)).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        snnconv.recommend(model, data[0], "T=4", methods=[methods.IF(4)], progress=False)
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_a_network_that_nothing_converts_is_named(self, data: tuple[Tensor, Tensor]) -> None:
        with pytest.raises(snnconv.ConversionError, match="no method converts this network; this network has no "):
            snnconv.recommend(nn.Linear(16, 5).eval(), data, "T=8", progress=False)

    def test_rate_norm_layers_keep_their_thresholds(self, data: tuple[Tensor, Tensor]) -> None:
        model = nn.Sequential(nn.Linear(16, 32), snnconv.activations.RateNorm(), nn.Linear(32, 5))
        model(data[0])  # running maximum
        found = snnconv.recommend(model.eval(), data[0], "T=32", progress=False)
        assert found.method is not None
        assert found.method.thresholds == "trained"

    def test_progress_is_told(self, network: nn.Module, data: tuple[Tensor, Tensor]) -> None:
        told: list[tuple[str, int, int]] = []

        def progress(what: str, done: int, total: int) -> None:
            told.append((what, done, total))

        snnconv.recommend(network, data, "T=8", methods=[methods.IF(8)], progress=progress)
        assert told[0] == ("100 inputs", 0, 1)
        assert told[-1] == ("test", 2, 2)


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path: Path, data: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        code = "from torch import nn\nimport torch\ndef net():\n    torch.manual_seed(0)\n    return nn.Sequential("
        code += "nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 5))\n"
        (tmp_path / "net.py").write_text(code)
        np.savez("data.npz", x=data[0].numpy(), y=data[1].numpy())
        return tmp_path

    def test_prints_a_command_that_converts(self, files: Path) -> None:
        done = CliRunner().invoke(
            app, ["recommend", "net.py:net", "--data", "data.npz", "--budget", "T=6", "--out", "best.safetensors"]
        )
        assert done.exit_code == 0, done.output
        command = next(line for line in done.output.splitlines() if line.startswith("snnconv convert"))
        assert CliRunner().invoke(app, command.split()[1:]).exit_code == 0
        chosen, converted = snnconv.load("best.safetensors"), snnconv.load("net.snn.safetensors")
        assert chosen.method == converted.method

    def test_exit_status_where_nothing_meets_the_budget(self, files: Path) -> None:
        done = CliRunner().invoke(app, ["recommend", "net.py:net", "--data", "data.npz", "--budget", "energy=0.001"])
        assert done.exit_code == 1
        assert "No method meets energy=0.001." in done.output

    def test_mistakes(self, files: Path) -> None:
        base = ["recommend", "net.py:net", "--data", "data.npz", "--budget"]
        done = CliRunner().invoke(app, [*base, "fast"])
        assert (done.exit_code, "no part of a budget" in done.output) == (2, True)
        done = CliRunner().invoke(app, [*base, "T=8", "--out", "none/x.safetensors"])
        assert (done.exit_code, "does not exist" in done.output) == (2, True)


@pytest.mark.slow
def test_resnet20_meets_the_budget_on_the_test_images(resnet20: nn.Module) -> None:
    from benchmarks.data import cifar10

    train = list(cifar10("train").shuffled(0).first(500).batches(100))
    test = list(cifar10("test").shuffled(0).first(1000).batches(100))
    tried = [methods.ShiftedThreshold(4), methods.ShiftedThreshold(5), methods.SignedIF(4), methods.IF(8)]
    found = snnconv.recommend(resnet20, train, "T=8,drop=2", test=test, methods=tried, progress=False)
    assert found.best is not None
    assert found.test_samples == 1000
    assert found.holds
    assert math.isclose(found.test_ann - found.test, found.test_drop[0], abs_tol=0.01)
    none = snnconv.recommend(resnet20, train, "T=2,drop=2", test=test, methods=[methods.IF(2)], progress=False)
    assert none.best is None


class TestLatency:
    def test_the_budget_counts_what_is_asked_for(self, network: nn.Module, data: tuple[Tensor, Tensor]) -> None:
        tried = [methods.ShiftedThreshold(4), methods.MultiThreshold(4)]
        how = {"methods": tried, "progress": False}
        by_layer = snnconv.recommend(network, data, "T=4", **how)
        assert not any(trial.stopped.startswith("takes") for trial in by_layer.trials)
        whole = snnconv.recommend(network, data, "T=4", latency="network", **how)
        stopped = {type(trial.method).__name__: trial.stopped for trial in whole.trials}
        assert stopped["ShiftedThreshold"] == "takes 8 steps"
        assert isinstance(whole.method, methods.MultiThreshold)
        assert "of the network, all layers stepping together" in str(whole)
        assert snnconv.recommend(network, data, "T=4", latency="pipelined", **how).best is None

    def test_the_table_says_what_a_step_is_worth(self, network: nn.Module, data: tuple[Tensor, Tensor]) -> None:
        tried = [methods.MultiThreshold(4), methods.ShiftedThreshold(4)]
        found = snnconv.recommend(network, data, "T=4", methods=tried, progress=False)
        header = str(found).splitlines()[0].split()
        assert ("bits" in header, "network" in header, "pipelined" in header) == (True, True, False)
        steps = {type(t.method).__name__: (t.network_latency, t.pipelined_latency) for t in found.trials}
        assert steps["ShiftedThreshold"] == (8, 8)  # by the earlier name, too: two layers wait for one another
        assert "3.17" in str(found)

    def test_another_word_is_refused(self, network: nn.Module, data: tuple[Tensor, Tensor]) -> None:
        with pytest.raises(ValueError, match="latency must be one of"):
            snnconv.recommend(network, data, "T=4", latency="chip")
