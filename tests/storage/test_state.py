"""What a converted network is made of: one threshold in one place, kept by every way of copying it."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.runtime import int8
from tests.fuzz.samples import SAMPLES, inputs

SMALL = [name for name in SAMPLES if not name.startswith(("ltb", "rate_norm"))]


def other(name: str) -> snnconv.SpikingNetwork:
    """The same architecture by the same method, with other weights and thresholds."""
    sample = SAMPLES[name]
    torch.manual_seed(11)
    model = sample.model().train()
    model(inputs())
    return snnconv.convert(model.eval(), sample.method, 3 * inputs(), framework=sample.framework, progress=False)


def saved_again(name: str, snn: snnconv.SpikingNetwork, folder: Path) -> snnconv.SpikingNetwork:
    snnconv.save(snn, folder / "net")
    sample = SAMPLES[name]
    return snnconv.load(folder / "net", model=None if sample.traced else sample.model())


# --- thresholds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_a_loaded_state_is_what_thresholds_say_and_save_writes(name: str, tmp_path: Path) -> None:
    a, b = SAMPLES[name].network(), other(name)
    assert not torch.equal(a(inputs()), b(inputs()))
    b.load_state_dict(a.state_dict())
    assert torch.equal(b(inputs()), a(inputs()))
    assert list(a.thresholds) == list(a.program.sites)
    assert all(torch.equal(b.thresholds[site], theta) for site, theta in a.thresholds.items())
    assert torch.equal(saved_again(name, b, tmp_path)(inputs()), a(inputs()))


@pytest.mark.parametrize("name", SMALL)
def test_an_edited_neuron_is_what_thresholds_say_and_save_writes(name: str, tmp_path: Path) -> None:
    snn = SAMPLES[name].network()
    site = next(iter(snn.thresholds))
    before, theta = snn(inputs()), snn.thresholds[site]
    snn.neurons[site].v_threshold.mul_(0.37)
    assert torch.allclose(snn.thresholds[site], theta * 0.37, rtol=1e-6)
    assert not torch.equal(snn(inputs()), before)
    assert torch.equal(saved_again(name, snn, tmp_path)(inputs()), snn(inputs()))


@pytest.mark.parametrize("name", SMALL)
def test_an_assigned_threshold_is_the_neurons(name: str) -> None:
    snn = SAMPLES[name].network()
    site = next(iter(snn.thresholds))
    theta = snn.thresholds[site]
    snn.thresholds[site] = theta * 2
    assert torch.equal(snn.thresholds[site], theta * 2)
    assert "v_threshold" in repr(snn.neurons[site]) or "threshold" in repr(snn.neurons[site])
    key = next(k for k in snn.state_dict() if k.startswith(f"neurons.{site}.") and k.endswith("threshold"))
    assert torch.equal(snn.state_dict()[key], snn.neurons[site].v_threshold)


def test_thresholds_that_cannot_be_are_refused() -> None:
    snn = SAMPLES["if.graph.spikingjelly"].network()
    site = next(iter(snn.thresholds))
    with pytest.raises(ValueError, match="positive and finite"):
        snn.thresholds[site] = snn.thresholds[site] * float("nan")
    with pytest.raises(KeyError):
        snn.thresholds["nowhere"] = torch.ones(())
    with pytest.raises(TypeError):
        del snn.thresholds[site]


def test_a_copy_of_the_thresholds_is_a_copy() -> None:
    snn = SAMPLES["if.graph.spikingjelly"].network()
    before = snn(inputs())
    for theta in snn.thresholds.values():
        theta.mul_(3)
    assert torch.equal(snn(inputs()), before)


def test_biases_of_a_module_tree_follow_a_loaded_state() -> None:
    """Also behind a move, which gives a module new tensors."""
    name = "signed_if.tree.spikingjelly"
    a, b = SAMPLES[name].network(), other(name).double().float()
    assert a.program.biases
    b.load_state_dict(a.state_dict())
    assert torch.equal(b(inputs()), a(inputs()))


@pytest.mark.skipif(bool(int8.supported()), reason="8-bit layers do not run here")
@pytest.mark.parametrize("change", ["thresholds", "weights", "state", "assigned"])
def test_8_bit_layers_follow_what_changes(change: str) -> None:
    snn, target = SAMPLES["signed_if.graph.spikingjelly"].network(), other("signed_if.graph.spikingjelly")
    snn.precision = "int8"
    before = snn(inputs())
    site = next(iter(snn.thresholds))
    if change == "thresholds":
        snn.neurons[site].v_threshold.mul_(0.5)
    elif change == "weights":
        snn.program.source.tensors["second.weight"].mul_(0.5)
    elif change == "assigned":
        snn.thresholds[site] = snn.thresholds[site] / 2
    else:
        snn.load_state_dict(target.state_dict())
    after = snn(inputs())
    assert not torch.equal(after, before)
    snn.precision = "int8"  # made anew
    assert torch.equal(snn(inputs()), after)


# --- copies and other processes ----------------------------------------------------------------------------


def _unpickled(snn: snnconv.SpikingNetwork) -> snnconv.SpikingNetwork:
    return pickle.loads(pickle.dumps(snn))


def _torch_saved(snn: snnconv.SpikingNetwork) -> snnconv.SpikingNetwork:
    content = io.BytesIO()
    torch.save(snn, content)
    content.seek(0)
    return torch.load(content, weights_only=False)


@pytest.mark.parametrize("way", [_unpickled, _torch_saved, copy.deepcopy], ids=["pickle", "torch.save", "deepcopy"])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_network_is_copied_before_and_after_its_calls(name: str, way, tmp_path: Path) -> None:
    snn = SAMPLES[name].network()
    first = way(snn)
    expected = snn(inputs())
    list(snn.stream(inputs()) if snn.method.coding == "rate" else ())
    if snn.method.coding == "rate":
        snn.early_exit(inputs(), margin=0.1)
    snn.rates(inputs())
    second, third = way(snn), way(saved_again(name, snn, tmp_path))
    for copied in (first, second, third, way(second)):
        assert torch.equal(copied(inputs()), expected)
        assert copied.report == snn.report
        assert list(copied.state_dict()) == list(snn.state_dict())
    # a copy stands alone, and its state is its own
    site = next(iter(snn.thresholds))
    second.neurons[site].v_threshold.mul_(0.5)
    assert torch.equal(snn(inputs()), expected)
    assert not torch.equal(second(inputs()), expected)
    first.load_state_dict(second.state_dict())
    assert torch.equal(first(inputs()), second(inputs()))


def test_a_network_that_was_called_in_parts_and_failed_pickles() -> None:
    snn = SAMPLES["srp.graph.spikingjelly"].network()
    snn.memory_budget = 1
    expected = snn(inputs())
    with pytest.raises(snnconv.ConversionError):
        snn(inputs()[:, :, :1, :1].expand(-1, 2, 1, 1))
    with pytest.raises(ZeroDivisionError):
        snn.run(inputs(), observe=lambda site, out: 1 / 0)
    assert torch.equal(_unpickled(snn)(inputs()), expected)


@pytest.mark.skipif(bool(int8.supported()), reason="8-bit layers do not run here")
def test_8_bit_layers_are_made_again() -> None:
    snn = SAMPLES["signed_if.graph.spikingjelly"].network()
    snn.precision = "int8"
    again = _unpickled(snn)
    assert again.precision == "int8"
    assert torch.equal(again(inputs()), snn(inputs()))
    assert again.float_layers == snn.float_layers


class Kept(nn.Module):
    """Two layers that can only be kept whole."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.out = nn.Conv1d(1, 4, 1), nn.LocalResponseNorm(2), nn.Conv1d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.fc(x).relu()))


def test_modules_that_are_kept_whole_pickle_with_the_rest() -> None:
    x = torch.randn(16, 1, 5)
    snn = snnconv.convert(Kept(), methods.IF(4), x, progress=False)
    assert snn.program.source.modules
    again = _unpickled(snn)
    assert torch.equal(again(x), snn(x))
    assert again.weights.modules_["norm"] is again.program.source.modules["norm"]


@pytest.mark.parametrize("name", ["shifted_threshold.graph.snntorch", "signed_if.graph.spikingjelly"])
def test_a_network_is_sent_to_another_process(name: str, tmp_path: Path) -> None:
    snn = SAMPLES[name].network()
    torch.save({"x": inputs(), "y": snn(inputs())}, tmp_path / "data")
    (tmp_path / "net").write_bytes(pickle.dumps(snn))
    code = """
import pickle, sys, torch
snn = pickle.load(open(sys.argv[1] + "/net", "rb"))
data = torch.load(sys.argv[1] + "/data")
assert torch.equal(snn(data["x"]), data["y"])
pickle.dumps(snn)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
