"""NIR files say what the converted network does, in standard nodes, or refuse by name."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import activations, methods

nir = pytest.importorskip("nir")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.conv(x) + x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Means(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2),
        nn.ReLU6(), nn.AvgPool2d(2), nn.Conv2d(8, 6, 2, padding="same"), nn.ReLU(), nn.Dropout(), nn.Flatten(),
        nn.Linear(6 * 4, 16), nn.ReLU(), nn.Linear(16, 5),
    )  # fmt: skip


def pooled_last() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2, 1), nn.Flatten())


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 6, 5, stride=2, padding=2), nn.ReLU(), nn.Conv1d(6, 4, 3, dilation=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(16, 3),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vgg": (vgg, (3, 14, 14)),
    "residual": (Residual, (3, 6, 6)),
    "means": (Means, (3, 6, 8)),
    "pooled last": (pooled_last, (3, 6, 6)),
    "conv1d": (conv1d, (3, 16)),
}


def converted(name: str, method: methods.Method | None = None) -> tuple[snnconv.SpikingNetwork, Tensor]:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model = make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(32, *shape)
    return snnconv.convert(model.eval(), method or methods.IF(9), x, progress=False), x


def fired(snn: snnconv.SpikingNetwork, x: Tensor) -> list[Tensor]:
    found: dict[str, Tensor] = {}
    snn.memory_budget = 2**40
    snn.run(x, observe=lambda site, out: found.update({site: (out != 0).to(out.dtype)}))
    return list(found.values())


@pytest.mark.parametrize("pooling", ["average", "sum"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_file_with_the_start_as_state_is_the_network_spike_for_spike(name: str, pooling: str, tmp_path: Path) -> None:
    snn, x = converted(name)
    path = tmp_path / "net.nir"
    snnconv.to_nir(snn, path, start="state", pooling=pooling)  # type: ignore[arg-type]
    net = snnconv.from_nir(path)
    output, spikes = net.run(x)
    expected = fired(snn, x)
    assert len(expected) == len(spikes) > 0
    for a, b in zip(expected, spikes.values(), strict=True):
        assert 0.02 < float(a.mean()) < 0.98
        # rescaled weights round otherwise: a membrane within a rounding of its threshold may go either way
        assert float((a != b).float().mean()) < 2e-3
    assert torch.allclose(net(x), snn(x), atol=0.02 * float(snn(x).abs().max()))
    assert output.shape == (9, 32, *snn(x).shape[1:])


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_file_with_the_start_as_current_stands_by_itself(name: str) -> None:
    snn, x = converted(name, methods.IF(32))
    graph = snnconv.to_nir(snn)
    assert graph.metadata["v_init"] == 0.0
    net = snnconv.from_nir(graph)
    assert float((net(x) - snn(x)).norm()) < 0.15 * float(snn(x).norm())
    # the charge that is missing without that current: T steps of it are half a threshold
    state = snnconv.to_nir(snn, start="state")
    layer = next(k for k, v in state.nodes.items() if type(v).__name__ in ("Conv1d", "Conv2d"))
    assert np.allclose(graph.nodes[layer].bias - state.nodes[layer].bias, 0.5 / 32, atol=1e-6)


def test_nodes_are_standard_and_thresholds_are_one() -> None:
    snn, _ = converted("vgg")
    graph = snnconv.to_nir(snn)
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert kinds == [
        "Input", "Conv2d", "IF", "Conv2d", "IF", "AvgPool2d", "Conv2d", "IF", "Flatten", "Affine", "IF", "Affine",
        "Output",
    ]  # fmt: skip
    for node in graph.nodes.values():
        if isinstance(node, nir.IF):
            assert (node.v_threshold == 1).all()
            assert (node.r == 1).all()
            assert (node.v_reset == 0).all()
    assert [b for a, b in graph.edges][:-1] == [a for a, b in graph.edges][1:]  # a chain
    assert graph.metadata == {"made_by": "snnconv", "timesteps": 9, "delay": 0, "reset": "subtract", "v_init": 0.0}


def test_shortcuts_are_edges_into_one_node() -> None:
    snn, _ = converted("residual")
    graph = snnconv.to_nir(snn)
    (joined,) = {b for _, b in graph.edges if sum(t == b for _, t in graph.edges) == 2}
    assert isinstance(graph.nodes[joined], nir.Scale)


@pytest.mark.parametrize("method", [methods.LocalThresholdBalancing(16, delay=3), methods.IF(16, delay="auto")])
def test_the_delay_is_in_the_file(method: methods.Method) -> None:
    snn, x = converted("vgg", method)
    net = snnconv.from_nir(snnconv.to_nir(snn, start="state"))
    assert net.delay == snn.delay > 0
    assert float((net(x) - snn(x)).norm()) < 0.02 * float(snn(x).norm())


def test_rate_norm_networks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 12), activations.RateNorm(), nn.Linear(12, 8), activations.RateNorm(), nn.Linear(8, 3)
    )
    x = torch.randn(64, 6)
    model.train()(x)
    snn = snnconv.convert(model.eval(), methods.RateNorm(12), progress=False, calibration=x)
    net = snnconv.from_nir(snnconv.to_nir(snn, start="state"))
    assert torch.allclose(net(x), snn(x), atol=1e-4)


@pytest.mark.parametrize("method", [methods.SignedIF(4), methods.SRP(4, 4), methods.ShiftedThreshold(4)])
def test_neurons_without_a_node_are_named(method: methods.Method) -> None:
    snn, _ = converted("vgg", method)
    kind = type(snn.neurons["2"]).__name__
    with pytest.raises(
        snnconv.ConversionError, match=f"2: NIR has no node for {kind} neurons; convert with methods.IF"
    ):
        snnconv.to_nir(snn)


EXTENDED = [methods.SignedIF(9), methods.SignedIF(9, per_channel=False), methods.ShiftedThreshold(4)]


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("method", EXTENDED, ids=str)
def test_other_neurons_are_extension_nodes_that_run_alike(method: methods.Method, name: str, tmp_path: Path) -> None:
    snn, x = converted(name, method)
    snnconv.to_nir(snn, tmp_path / "net.nir", extensions=True)
    net = snnconv.from_nir(tmp_path / "net.nir")
    _, spikes = net.run(x)
    expected: dict[str, Tensor] = {}
    snn.memory_budget = 2**40
    snn.run(x, synapses="steps", observe=lambda site, out: expected.update({site: out.sign()}))
    assert len(expected) == len(spikes) > 0
    for a, b in zip(expected.values(), spikes.values(), strict=True):
        assert a.shape == b.shape
        assert float((a != b).float().mean()) < 2e-3
    assert float((net(x) - snn(x)).norm()) < 0.02 * float(snn(x).norm())


def test_other_tools_refuse_a_file_with_extension_nodes(tmp_path: Path) -> None:
    snn, _ = converted("means", methods.SignedIF(4))
    snnconv.to_nir(snn, tmp_path / "net.nir", extensions=True)
    with pytest.raises((AssertionError, ValueError, KeyError)):
        nir.read(tmp_path / "net.nir")


def test_neurons_that_no_file_can_hold_are_named() -> None:
    snn, _ = converted("means", methods.SRP(4, 4))
    with pytest.raises(snnconv.ConversionError, match="NIR has no node for SRP"):
        snnconv.to_nir(snn, extensions=True)


def test_grouped_convolutions_as_such(tmp_path: Path) -> None:
    snn, x = converted("vgg")
    full = snnconv.to_nir(snn, start="state")
    grouped = snnconv.to_nir(snn, tmp_path / "net.nir", start="state", grouped=True)
    sizes = [[n.weight.shape[1] for n in g.nodes.values() if isinstance(n, nir.Conv2d)] for g in (full, grouped)]
    assert sizes == [[3, 8, 8], [3, 4, 8]]
    torch.testing.assert_close(snnconv.from_nir(tmp_path / "net.nir")(x), snnconv.from_nir(full)(x))


def spikingjelly_file(path: Path, reset: float | None) -> tuple[nn.Module, Tensor]:
    """A network of SpikingJelly with its own exporter."""
    from spikingjelly.activation_based import layer, neuron, nir_exchange

    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Linear(6, 12), neuron.IFNode(v_reset=reset), layer.Linear(12, 8), neuron.IFNode(v_reset=reset),
        layer.Linear(8, 3),
    )  # fmt: skip
    x = torch.randn(16, 6)
    nir_exchange.export_to_nir(net, x, save_path=str(path), dt=1e-4)
    return net, x


def test_a_file_of_another_tool_with_hard_reset_runs_as_it_says(tmp_path: Path) -> None:
    from spikingjelly.activation_based import functional

    net, x = spikingjelly_file(tmp_path / "theirs.nir", 0.0)
    functional.reset_net(net)
    with torch.no_grad():
        want = torch.stack([net(x) for _ in range(20)])
    ours = snnconv.from_nir(tmp_path / "theirs.nir", timesteps=20, dt=1e-4)
    output, spikes = ours.run(x)
    assert 0.02 < float(torch.stack([s.mean() for s in spikes.values()]).mean()) < 0.98
    torch.testing.assert_close(output, want, rtol=1e-3, atol=1e-4)
    graph = nir.read(tmp_path / "theirs.nir")
    graph.metadata = {"reset": "subtract", "timesteps": 20}
    soft = snnconv.from_nir(graph, dt=1e-4).run(x)[0]
    assert not torch.allclose(soft, want, atol=1e-2), "another reset is another network"
    with pytest.raises(snnconv.ConversionError, match=r"from_nir\(path, timesteps=...\)"):
        snnconv.from_nir(tmp_path / "theirs.nir")


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.b(torch.cat([x, x], 1))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.a(x).relu()
        return x, self.b(x)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.b(x) if float(x.sum()) > -1 else x


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)), (1, 6, 6),
         "max_pool2d.*average pooling can be written"),
        (Joined(), (4,), "no node for the operator cat"),
        (Two(), (4,), "one output tensor"),
        (Branches(), (4,), "only traced networks.*does not trace"),
        (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.SiLU(), nn.Linear(6, 2)), (4,),
         "3: .*operator silu"),
        (nn.Sequential(nn.ConvTranspose2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 2, 1)), (1, 4, 4), "0: .*conv_transpose2d"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(2, 2, 1)), (1, 5, 5),
         "2: .*avg_pool2d"),
    ],
    ids=["max-pooling", "cat", "two outputs", "module tree", "silu", "transposed", "ceil"],
)  # fmt: skip
def test_operators_without_a_node_are_named(model: nn.Module, shape: tuple[int, ...], message: str) -> None:
    snn = snnconv.convert(model.eval(), methods.IF(4), torch.randn(16, *shape), progress=False)
    with pytest.raises(snnconv.ConversionError, match=f"(?s){message}"):
        snnconv.to_nir(snn)


def test_neurons_that_read_no_layer_start_as_a_state_or_say_so() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    x = torch.rand(8, 1, 6, 6)
    snn = snnconv.convert(model, methods.IF(8), x, progress=False)
    with pytest.raises(snnconv.ConversionError, match=r"2: its neurons read no layer whose bias .* correction='none'"):
        snnconv.to_nir(snn, start="state")
    snn = snnconv.convert(model, methods.IF(8, correction="none"), x, progress=False)
    with pytest.raises(snnconv.ConversionError, match=r"2: its neurons read no layer whose bias .* start='state'"):
        snnconv.to_nir(snn)
    torch.testing.assert_close(snnconv.from_nir(snnconv.to_nir(snn, start="state"))(x), snn(x), rtol=0, atol=1e-5)


def test_a_file_says_what_the_neurons_are_and_not_what_the_method_puts_there() -> None:
    snn = snnconv.convert(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), methods.IF(4), torch.rand(8, 4),
                          progress=False)  # fmt: skip
    snn.neurons["1"] = type("Mine", (type(snn.neurons["1"]),), {})(1.0)
    with pytest.raises(snnconv.ConversionError, match="1: Mine is not the neuron that 'if' puts there"):
        snnconv.to_nir(snn)


@pytest.mark.parametrize("option", ["start", "pooling"])
def test_unknown_choices_are_named(option: str) -> None:
    snn, _ = converted("means")
    with pytest.raises(ValueError, match=f"{option} must be one of .*'no'"):
        snnconv.to_nir(snn, **{option: "no"})


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snn, _ = converted("means")
    with pytest.raises(OSError, match=r"could not write .*missing"):
        snnconv.to_nir(snn, tmp_path / "missing" / "net.nir")
    path = tmp_path / "net.nir"
    snnconv.to_nir(snn, path)
    before = path.read_bytes()

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        snnconv.to_nir(snn, path)
    assert [p.name for p in tmp_path.iterdir()] == ["net.nir"]
    assert path.read_bytes() == before


def test_a_missing_nir_is_a_sentence() -> None:
    code = """
import importlib.util as util
find = util.find_spec
util.find_spec = lambda name, *rest: None if name == "nir" else find(name, *rest)
import snnconv
snnconv.to_nir
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: NIR files need nir: pip install" in done.stderr


class TestReader:
    def graph(self, **metadata: object) -> object:
        snn, _ = converted("means")
        graph = snnconv.to_nir(snn)
        graph.metadata.update(metadata)
        return graph

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no NIR file .*none\.nir"):
            snnconv.from_nir(tmp_path / "none.nir")

    def test_a_graph_without_the_reset_is_refused(self) -> None:
        with pytest.raises(snnconv.ConversionError, match="does not say in its metadata"):
            snnconv.from_nir(self.graph(reset="to v_reset"))

    def test_nodes_of_other_kinds_are_named(self) -> None:
        graph = self.graph()
        graph.nodes["odd"] = nir.Threshold(np.ones(3))
        with pytest.raises(snnconv.ConversionError, match=r"odd \(Threshold\)"):
            snnconv.from_nir(graph)

    def test_recurrent_edges_are_named(self) -> None:
        graph = self.graph()
        graph.edges.append((graph.edges[1][1], graph.edges[0][1]))
        with pytest.raises(snnconv.ConversionError, match=r"recurrent edges.*conv"):
            snnconv.from_nir(graph)


def edit_nodes(kind: str, **values: Any) -> Callable[[Any], None]:
    """Give the first node of a kind other attributes, past its own checks."""

    def change(graph: Any) -> None:
        node = next(n for n in graph.nodes.values() if type(n).__name__ == kind)
        for key, value in values.items():
            before = getattr(node, key)
            object.__setattr__(node, key, value(before) if callable(value) else value)

    return change


def metadata(**values: Any) -> Callable[[Any], None]:
    return lambda graph: graph.metadata.update(values)


def edges(change: Callable[[list[tuple[str, str]]], Any]) -> Callable[[Any], None]:
    return lambda graph: change(graph.edges)


def first_set_to(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(before: np.ndarray) -> np.ndarray:
        after = np.array(before)
        after.flat[0] = value
        return after

    return change


ODD: dict[str, tuple[Callable[[Any], None], str]] = {
    "half a step": (metadata(timesteps=2.7), "timesteps is 2.7, no whole number"),
    "no steps": (metadata(timesteps=0), "timesteps is 0"),
    "endless steps": (metadata(timesteps=2**40), "timesteps is 1099511627776: it must be 1 … snnconv.limits.TIMESTEPS"),
    "steps of text": (metadata(timesteps="many"), "timesteps is 'many', no number"),
    "steps that are NaN": (metadata(timesteps=float("nan")), "timesteps is nan, no finite number"),
    "a delay of all steps": (metadata(delay=9), "delay is 9: it must be 0 … timesteps - 1 = 8"),
    "a negative delay": (metadata(delay=-1), "delay is -1"),
    "a start above the threshold": (metadata(v_init=7.0), "v_init is 7.0"),
    "NaN thresholds": (edit_nodes("IF", v_threshold=first_set_to(np.nan)), r"node '\w+' \(IF\): v_threshold has 1 NaN"),
    "infinite thresholds": (edit_nodes("IF", v_threshold=first_set_to(np.inf)), r"\(IF\): v_threshold has 1 NaN or "),
    "zero thresholds": (edit_nodes("IF", v_threshold=first_set_to(0)), "v_threshold is 0.0 somewhere.*positive"),
    "negative thresholds": (edit_nodes("IF", v_threshold=first_set_to(-1)), "v_threshold is -1.0 somewhere.*positive"),
    "NaN weights": (edit_nodes("Conv2d", weight=first_set_to(np.nan)), r"\(Conv2d\): weight has 1 NaN"),
    "weights of another shape": (edit_nodes("Conv2d", weight=lambda w: w[:, :2]), r"node '\w+' \(Conv2d\) fails"),
    "weights of text": (edit_nodes("Conv2d", weight=np.array(["x"])), "weight is of type <U1, no numbers"),
    "a stride of nothing": (edit_nodes("Conv2d", stride=0), "stride is .*whole numbers from 1 on"),
    "half a stride": (edit_nodes("Conv2d", stride=(1.5, 1)), "stride is .*whole numbers from 1 on"),
    "padding without measure": (edit_nodes("Conv2d", padding=(9000, 9000)), r"\(Conv2d\) gives 1 x .*limits.VALUES"),
    "unknown padding": (edit_nodes("Conv2d", padding="most"), "padding is 'most'"),
    "no groups": (edit_nodes("Conv2d", groups=0), "groups is 0"),
    "thresholds of another shape": (edit_nodes("IF", v_threshold=lambda v: np.ones(5, np.float32)), r"\(IF\) fails"),
    "a missing edge": (edges(lambda e: e.pop(0)), "an edge is missing"),
    "an edge to nowhere": (edges(lambda e: e.append(("nobody", e[0][1]))), "nobody -> .* that there is not"),
    "an edge twice": (edges(lambda e: e.append(e[0])), "is there twice"),
    "no output": (lambda g: g.nodes.pop("output"), "that there is not|one Output node"),
    "two inputs": (lambda g: g.nodes.update(more=g.nodes["input"]), "one Input node, this one 2"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_a_graph_that_no_network_is_is_refused_by_node(kind: str) -> None:
    change, message = ODD[kind]
    snn, _ = converted("vgg")
    graph = snnconv.to_nir(snn)
    change(graph)
    with pytest.raises(snnconv.ConversionError, match=message):
        snnconv.from_nir(graph)


@pytest.mark.parametrize(
    ("value", "message"),
    [(None, "shifted_threshold needs timesteps, "), ("many", "timesteps is 'many': "), (0, "timesteps is 0: ")],
)
def test_a_setting_of_an_extension_node_is_named(value: object, message: str, tmp_path: Path) -> None:
    import h5py

    model, path = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), tmp_path / "net.nir"
    snn = snnconv.convert(model, methods.ShiftedThreshold(4), torch.randn(16, 6), progress=False)
    snnconv.to_nir(snn, path, extensions=True)
    with h5py.File(path, "r+") as file:
        options = next(node for node in file["node/nodes"].values() if "options" in node)["options"]
        del options["timesteps"]
        if value is not None:
            options["timesteps"] = value
    with pytest.raises(snnconv.ConversionError, match=rf"net\.nir: node '\w+' \(snnconv\.Neuron\): {message}"):
        snnconv.from_nir(path)


def test_a_window_of_sum_coding_is_measured_by_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    snn = snnconv.convert(model, methods.ShiftedThreshold(4), torch.randn(16, 6), progress=False)
    graph = snnconv.to_nir(snn, extensions=True)
    monkeypatch.setattr("snnconv.limits.VALUES", 4 * 8)
    assert snnconv.from_nir(graph)(torch.randn(2, 6)).shape == (2, 3)
    monkeypatch.setattr("snnconv.limits.VALUES", 4 * 8 - 1)
    with pytest.raises(snnconv.ConversionError, match="gives 4 x 8 values for one sample, more than"):
        snnconv.from_nir(graph)


def test_an_input_of_another_shape_is_refused() -> None:
    snn, x = converted("vgg")
    net = snnconv.from_nir(snnconv.to_nir(snn))
    with pytest.raises(snnconv.ConversionError, match=r"wrong input shape .*takes \[B, 3, 14, 14\]"):
        net(x[:, :, :4])


def test_a_linear_layer_along_a_sequence_is_told_from_one_on_vectors() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    snn = snnconv.convert(model, methods.IF(4), torch.randn(16, 5, 6), progress=False)
    with pytest.raises(snnconv.ConversionError, match=r"runs along a sequence, \[5, 6\] a sample.*Conv1d"):
        snnconv.to_nir(snn)


def test_changed_files_are_refused_in_our_words_or_run(tmp_path: Path) -> None:
    """HDF5 has no digest: another value may be read, but nothing fails in other words, and no NaN comes out."""
    snn, x = converted("means")
    snnconv.to_nir(snn, tmp_path / "net.nir")
    content, path = (tmp_path / "net.nir").read_bytes(), tmp_path / "changed.nir"
    refused = 0
    for seed in range(80):
        draw = random.Random(seed)
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 4, 16))):
            changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed if draw.random() < 0.8 else changed[: draw.randrange(len(content))])
        said = ""
        try:
            y = snnconv.from_nir(path)(x)
        except snnconv.ConversionError as error:
            said = str(error)
        assert str(path) in said or "wrong input shape" in said or not y.isnan().any()
        refused += bool(said)
    assert refused


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SpikingJelly", "snnTorch", "sinabs", "Norse"])
def test_other_frameworks_run_the_file_with_its_reset(name: str, tmp_path: Path) -> None:
    from benchmarks.nir_agreement import compare
    from benchmarks.nir_frameworks import FRAMEWORKS, Run, version

    if version(FRAMEWORKS[name].package) is None:
        pytest.skip(f"{FRAMEWORKS[name].package} is not installed")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(96, 5),
    )  # fmt: skip
    x = torch.randn(16, 3, 12, 12)
    snn = snnconv.convert(model.eval(), methods.IF(8), x, progress=False)
    path = tmp_path / "net.nir"
    snnconv.to_nir(snn, path)
    net = snnconv.from_nir(path)
    said = Run(net(x), list(net.run(x)[1].values()))
    row = compare(FRAMEWORKS[name], path, x, said, net.neurons, corrected=True)
    assert row["spikes_equal"] > 99
    assert row["classes_equal"] == 100
