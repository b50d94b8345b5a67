"""The speed benchmark measures every engine beside the ANN, writes as it goes, and goes on where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

import snnconv
from benchmarks.speed import __main__ as speed
from benchmarks.speed import early_exit, int8, memory, profile
from benchmarks.speed.engines import ENGINES, MOST_BITS, Unavailable
from benchmarks.speed.networks import NETWORKS, Network, folded
from snnconv import methods
from snnconv.dynamics.kernels import processor
from snnconv.runtime import int8 as int8_layers
from tests import networks as nets


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network(small, (3, 8, 8))
    monkeypatch.setitem(NETWORKS, "small", made)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("vnni", "bfloat16"), [(True, True), (True, False), (False, True)])
def test_every_engine_is_measured_or_says_why_not(
    network: Network, vnni: bool, bfloat16: bool, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "has_vnni", lambda: vnni)
    monkeypatch.setattr(processor, "native_bfloat16", lambda device: bfloat16)
    reasons = {"int8": int8_layers.supported(), "bfloat16": "" if bfloat16 else "cpu does not compute in bfloat16 here"}
    assert bool(reasons["int8"]) != vnni or not torch.backends.mkldnn.is_available()
    out = tmp_path / "speed.json"
    arguments = ["--networks", "small", "--batches", "2", "--timesteps", "2,16", "--repeats", "1", "--out", str(out)]
    arguments += ["--device", "cpu", "--threads", str(torch.get_num_threads())]
    # once all of them; where the processor lacks something, those that it is for and those beside them
    words = [""] if vnni and bfloat16 else ["int8", "bfloat16", "snnconv IF"]
    expected = {name for name in ENGINES if any(word in name for word in words)}
    arguments += ["--engines", ",".join(words)] if words != [""] else []
    assert speed.main(arguments) == 0
    record = json.loads(out.read_text())
    cells = {(c["timesteps"], c["engine"]): c for c in record["cells"]}
    assert {name for t, name in cells if t == 2} == expected
    assert not any(ENGINES[name].sums for t, name in cells if t > MOST_BITS)
    for (t, name), cell in cells.items():
        why_not = next((reason for label, reason in reasons.items() if label in name), "")
        if why_not:
            assert why_not in cell["left_out"]
            continue
        steps = 1 if ENGINES[name].sums else ENGINES[name].steps(t)
        assert cell["ratio"] == pytest.approx(cell["seconds"] / cell["ann_seconds"] / steps)
        assert cell["seconds"] > 0
        assert cell["threads"] == torch.get_num_threads()
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    written = out.read_bytes()
    assert speed.main(arguments) == 0
    assert out.read_bytes() == written
    assert capsys.readouterr().out.count("| small | 2 | 2 | snnconv IF |") == 3  # once measured, twice in the table


def test_a_transformer_has_its_row_and_engines_for_relus_say_that_it_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    monkeypatch.setitem(NETWORKS, "small", Network(nets.TinyViT, (3, 12, 12)))
    out = tmp_path / "speed.json"
    arguments = ["--networks", "small", "--batches", "2", "--timesteps", "8", "--repeats", "2", "--device", "cpu"]
    engines = "every layer,step by step,snnconv IF"
    assert speed.main([*arguments, "--engines", engines, "--out", str(out)]) == 0
    cells = {cell["engine"]: cell for cell in json.loads(out.read_text())["cells"]}
    covered = cells["snnconv shifted threshold, every layer"]
    assert covered["ratio"] == pytest.approx(covered["seconds"] / covered["ann_seconds"]), "one pass, whatever T"
    for name in ("SpikingJelly, step by step", "snnTorch Leaky, step by step"):
        assert cells[name]["left_out"] == "the network has no nn.ReLU that a neuron could stand for"
    assert "left_out" in cells["snnconv IF"]


def test_what_would_take_too_long_is_left_out(network: Network, tmp_path: Path, capsys) -> None:
    out = tmp_path / "speed.json"
    arguments = ["--networks", "small", "--batches", "1", "--timesteps", "4", "--engines", "snnconv IF", "--limit", "0"]
    speed.main([*arguments, "--device", "cpu", "--out", str(out), "--threads", str(torch.get_num_threads())])
    assert all("s a run" in cell["left_out"] for cell in json.loads(out.read_text())["cells"])


def test_engines_compute_what_they_say(network: Network) -> None:
    model, x = network.build()
    with torch.no_grad():
        y = model(x)
        assert torch.allclose(folded(model)(x), y, atol=1e-5)
    for name in ("snnconv signed IF", "snnconv SRP", "snnconv IF, eager"):
        snn = ENGINES[name].prepare(model, x, 64)
        assert torch.allclose(snn(x), y, atol=0.2)
    for multi in ("SpikingJelly, step by step", "SpikingJelly, multi-step"):
        assert torch.allclose(ENGINES[multi].prepare(model, x, 64)(x) / 64, y, atol=0.4)


def test_an_unknown_network_is_named(capsys) -> None:
    with pytest.raises(SystemExit):
        speed.main(["--networks", "resnet19"])
    assert "unknown network 'resnet19'" in capsys.readouterr().err


def test_a_missing_package_is_a_reason(monkeypatch: pytest.MonkeyPatch, network: Network) -> None:
    monkeypatch.setattr("benchmarks.speed.engines.importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="snntorch is not installed"):
        ENGINES["snnTorch Leaky, step by step"].prepare(*network.build(), 4)


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mkldnn_convolution", "layers"),
        ("onednn::qconv2d_pointwise", "layers"),
        ("mkldnn::_convolution_pointwise_", "layers"),
        ("aten::addmm", "layers"),
        (profile.SCAN, "neurons"),
        ("aten::ge", "neurons"),
        ("aten::copy_", "copies"),
    ],
)
def test_operators_have_their_kind(operator: str, kind: str) -> None:
    assert profile._kind(operator) == kind


@pytest.mark.parametrize("threads", [1, 2])
def test_a_profile_shares_out_the_time_of_one_thread(threads: int) -> None:
    launch = pytest.importorskip("snnconv.dynamics.kernels.numba_cpu.launch")
    before = launch.run_blocks, torch.get_num_threads()
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6400, 4)]
    model = nn.Sequential(*layers)
    x = torch.randn(4, 3, 24, 24)
    snn = snnconv.convert(model.eval(), methods.IF(8), calibration=x, progress=False)
    torch.set_num_threads(threads)
    try:
        shares = profile.where(snn, x, repeats=2)
        assert torch.get_num_threads() == threads
        assert list(shares) == ["total", "layers", "neurons", "copies", "python"]
        assert shares["layers"] > 0
        assert shares["neurons"] > 0
        with pytest.raises(RuntimeError, match="no convolution or linear layer"):
            profile.where(lambda x: x + 1, x, repeats=1)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before[1])
    assert launch.run_blocks is before[0]


@pytest.mark.slow
def test_memory_beside_the_budget(tmp_path: Path, capsys) -> None:
    out = tmp_path / "memory.json"
    small = ["--network", "resnet20", "--timesteps", "4", "--batch", "96", "--threads", "1", "--out", str(out)]
    assert memory.main([*small, "--budgets", "4", "32"]) == 0
    few, many = json.loads(out.read_text())["rows"]
    assert 1 < few["part"] * 7 <= many["part"] < 96
    assert 0 < few["peak"] < many["peak"] < 2 * 32 * 2**20
    assert many["peak"] > few["peak"] + 8 * 2**20
    assert "inputs a part" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("command", [early_exit, int8])
def test_accuracy_beside_time_on_cifar10(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    if not os.environ.get("SNNCONV_DATA"):
        pytest.skip("SNNCONV_DATA is not set")
    if command is int8 and int8_layers.supported():
        pytest.skip(int8_layers.supported())
    monkeypatch.setattr(command, "METHODS", {"signed IF": methods.SignedIF(4)})
    out = tmp_path / "out.json"
    assert command.main(["--images", "40", "--batch", "20", "--repeats", "1", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert record["images"] == 40
    assert all(row["time"] > 0 for row in record["rows"])
    if command is int8:
        (row,) = record["rows"]
        assert row["same"] >= 80
        assert set(row["float_layers"]) == {"conv1", "linear"}
    else:
        assert all(row["steps"] <= 4 for row in record["rows"])
    assert "signed IF" in capsys.readouterr().out
