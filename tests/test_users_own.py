"""A neuron, a method, a kernel and a backend of a user's own, one file each, run as the package's do."""

from __future__ import annotations

import copy
import inspect
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import dynamics, methods
from snnconv.dynamics import neuron
from snnconv.dynamics.kernels import BACKENDS, backends
from snnconv.graph.activation import ReLU

OWN = Path(__file__).parent / "own"
sys.path.insert(0, str(OWN))  # where a user has his modules

import leaky_threshold  # noqa: E402
import side_by_side  # noqa: E402

X = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _only_here() -> Iterator[None]:
    """What these modules registered is known in these tests, and gone in others."""
    tables = (neuron.NEURONS, methods.METHODS, BACKENDS, backends._KERNELS)
    before = [dict(table) for table in tables]
    neuron.register(NEURON, replace=True)
    methods.register(leaky_threshold.LeakyThreshold, replace=True)
    dynamics.kernels.register_backend(BACKEND, replace=True)
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)  # type: ignore[arg-type]


NEURON = neuron.NEURONS.pop("leaky_threshold")
BACKEND = BACKENDS.pop("side_by_side")
del methods.METHODS["leaky_threshold"]


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 5)).eval()


def converted(framework: str = "spikingjelly", timesteps: int = 16, leak: float = 0.4) -> snnconv.SpikingNetwork:
    method = methods.get("leaky_threshold")(timesteps, leak=leak)
    return snnconv.convert(network(), method, X, framework=framework, progress=False)


@pytest.fixture(params=["spikingjelly", "snntorch"])
def snn(request: pytest.FixtureRequest) -> snnconv.SpikingNetwork:
    if request.param == "snntorch":
        pytest.importorskip("snntorch")
    return converted(request.param)


def in_a_fresh_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(OWN), str(Path(snnconv.__file__).parent.parent)])
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})


# --- a neuron and its method -------------------------------------------------------------------------------


def test_it_converts_and_comes_near_the_source_network(snn: snnconv.SpikingNetwork) -> None:
    assert {type(snn.neurons[name]).__name__ for name in snn.neurons} <= {"LeakyThresholdNode", "LeakyThreshold"}
    assert all(snn.neurons[name].leak == 0.4 for name in snn.neurons)
    with torch.no_grad():
        expected = network()(X)
    far, near = ((converted(timesteps=t)(X) - expected).norm() for t in (4, 64))
    assert near < far / 2
    assert "LeakyThreshold" in str(snn.report)


def test_its_kernel_runs_and_its_spikes_are_the_equations(snn: snnconv.SpikingNetwork) -> None:
    leaky_threshold.RUNS.clear()
    fast = snn(X)
    assert leaky_threshold.RUNS
    for site in snn.neurons:
        snn.neurons[site].register_forward_hook(lambda *_: None)  # watched: the nodes fire by themselves
    leaky_threshold.RUNS.clear()
    assert torch.equal(snn(X), fast)
    assert not leaky_threshold.RUNS
    x_seq, theta = torch.randn(7, 2, 3, 5), torch.rand(3) + 0.2
    spikes, last = NEURON.sequence(x_seq, theta.reshape(3, 1), leak=0.7)
    assert torch.equal(dynamics.scan("leaky_threshold", x_seq, theta, scaled=False, leak=0.7), spikes)
    pieces, state = [], None
    for part in x_seq.split(3):
        out, state = dynamics.resume("leaky_threshold", part, theta, state, scaled=False, leak=0.7)
        pieces.append(out)
    assert torch.equal(torch.cat(pieces), spikes)
    assert all(torch.equal(a, b) for a, b in zip(state, last, strict=True))


def test_it_streams_exits_early_and_runs_in_pieces(snn: snnconv.SpikingNetwork) -> None:
    x = X[:4]
    whole = snn(x)
    *_, (steps, streamed) = snn.stream(x)
    assert steps == 16
    torch.testing.assert_close(streamed, whole)
    torch.testing.assert_close(snn.early_exit(x, margin=1e9).output, whole)
    snn.memory_budget = 1  # one input, a few steps at a time
    torch.testing.assert_close(snn(x), whole)


def test_it_is_profiled_audited_and_compared(snn: snnconv.SpikingNetwork) -> None:
    x = X[:4]
    costs = snnconv.profile(network(), snn, x)
    assert costs.spikes > 0
    assert costs.latency == 16
    assert bool(snnconv.audit(snn, x))
    assert len(snnconv.compare(network(), snn, x).rows) == 2
    from snnconv.metrics.tracing import trace

    found = trace(snn, x, "2")
    assert found.membrane.shape == found.spikes.shape == (16, 4, 8, 6, 6)  # the pooling moved before the neurons
    torch.testing.assert_close(found.spikes.mean(0) * found.threshold, snn.rates(x)["2"])


def test_it_trains_with_a_surrogate_gradient(snn: snnconv.SpikingNetwork) -> None:
    node = copy.deepcopy(snn.neurons["2"])
    current = torch.full((6, 2, 8, 3, 3), 0.4, requires_grad=True)
    node.run(current).sum().backward()
    assert current.grad is not None
    assert current.grad.abs().sum() > 0


def test_it_is_saved_and_loaded_by_a_process_that_registers_it(snn: snnconv.SpikingNetwork, tmp_path: Path) -> None:
    file, whole, given = tmp_path / "net.safetensors", tmp_path / "net.pt", tmp_path / "x.pt"
    snnconv.save(snn, file)
    torch.save(snn, whole)
    torch.save((X, snn(X)), given)
    code = """
import sys, torch, snnconv
import leaky_threshold
x, expected = torch.load(sys.argv[3])
for snn in (snnconv.load(sys.argv[1]), torch.load(sys.argv[2], weights_only=False)):
    print(snn.method, torch.equal(snn(x), expected), bool(snnconv.audit(snn, x[:2])))
"""
    done = in_a_fresh_process(code, file, whole, given)
    line = f"{snn.method} True True"
    assert done.stdout.splitlines() == [line, line], done.stderr


def test_a_process_that_does_not_register_it_refuses_the_file_by_name(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    snnconv.save(converted(), file)
    done = in_a_fresh_process("import sys, snnconv; snnconv.load(sys.argv[1])", file)
    last = done.stderr.strip().splitlines()[-1]
    assert "ConversionError" in last
    assert "unknown method 'leaky_threshold'; known: if, " in last
    assert "damaged" not in last


def test_a_method_whose_neuron_is_missing_names_the_neuron(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    snnconv.save(converted(), file)
    del neuron.NEURONS["leaky_threshold"]
    sentence = r"unknown neuron 'leaky_threshold'; known: if, .* has been imported"
    with pytest.raises(snnconv.ConversionError, match=sentence):
        snnconv.load(file)
    with pytest.raises(ValueError, match=sentence):
        converted()


@pytest.mark.parametrize("how", ["imported", "installed"])
def test_the_command_line_takes_it_by_name_with_its_settings(how: str, tmp_path: Path) -> None:
    torch.save({"x": X, "y": torch.zeros(len(X), dtype=torch.long)}, tmp_path / "data.pt")
    (tmp_path / "model.py").write_text(f"import torch\nfrom torch import nn\n\n{inspect.getsource(network)}")
    if how == "installed":  # a package that names its method
        about = tmp_path / "own-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[snnconv.methods]\nleaky_threshold = leaky_threshold\n")
    file = tmp_path / "net.safetensors"
    words = ["convert", f"{tmp_path}/model.py:network", "--data", tmp_path / "data.pt", "--out", file]
    settings = ["--method", "leaky-threshold", "--timesteps", 8, "--leak", 0.3]
    code = "import leaky_threshold\n" if how == "imported" else f"import sys; sys.path.append({str(tmp_path)!r})\n"
    done = in_a_fresh_process(f"{code}from snnconv.cli.app import app; app()", *words, *settings)
    assert done.returncode == 0, done.stderr
    assert snnconv.load(file).method == leaky_threshold.LeakyThreshold(8, leak=0.3)
    if how == "installed":
        load = f"{code}import snnconv; print(snnconv.load({str(file)!r}).method)"
        assert "leak=0.3" in in_a_fresh_process(load).stdout


def test_its_settings_are_checked_wherever_they_are_given() -> None:
    for call in (
        lambda: dynamics.scan("leaky_threshold", X, 1.0, leak=1.5),
        lambda: methods.get("leaky_threshold")(4, leak=1.5).node(torch.ones(3), 1, ReLU(), "spikingjelly"),
    ):
        with pytest.raises(ValueError, match=r"leak is 1\.5: it is a factor a step"):
            call()
    with pytest.raises(ValueError, match="leak is for neuron 'leaky_threshold' only, not 'if'"):
        dynamics.scan("if", X, 1.0, leak=0.5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'leek'"):
        snnconv.neurons.spikingjelly.node_class("leaky_threshold")(1.0, leek=0.5)


def test_what_there_is_no_kernel_or_node_for_is_refused_by_name(snn: snnconv.SpikingNetwork) -> None:
    pytest.importorskip("numba")
    with pytest.raises(ValueError, match="'numba' does not run this input: it has no kernel for the neuron 'leaky_th"):
        dynamics.scan("leaky_threshold", X, 1.0, backend="numba")
    pytest.importorskip("nir")
    with pytest.raises(snnconv.ConversionError, match="NIR has no node for LeakyThreshold"):
        snnconv.to_nir(snn, io.BytesIO())  # type: ignore[arg-type]


# --- a backend ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["side_by_side", "auto"])
def test_a_backend_of_ones_own_runs_a_network(backend: str) -> None:
    snn = snnconv.convert(network(), methods.IF(8), X, progress=False)
    snn.backend = "eager"
    expected = snn(X)
    side_by_side.RUNS.clear()
    snn.backend = backend
    assert torch.equal(snn(X), expected)
    assert side_by_side.RUNS


def test_it_says_what_it_does_not_run() -> None:
    call = dynamics.scan
    with pytest.raises(ValueError, match=r"'side_by_side' does not run this input: torch.float64 in and .* float32"):
        call("if", X.double(), 1.0, backend="side_by_side")
    with pytest.raises(ValueError, match="one threshold a channel"):
        call("if", X, torch.rand(X.shape[1:]) + 0.1, backend="side_by_side")
    with pytest.raises(ValueError, match="no kernel for the neuron 'signed_if'"):
        call("signed_if", X, 1.0, backend="side_by_side")
    with pytest.raises(ValueError, match=r"unknown backend 'sideways'; known: auto, eager, .*, side_by_side"):
        call("if", X, 1.0, backend="sideways")


def test_what_its_kernel_does_not_answer_runs_by_the_equation() -> None:
    x_seq: Tensor = X.reshape(8, 8, 3, 144)
    out, state = dynamics.resume("if", x_seq[:3], 0.7, None, backend="side_by_side")
    again, _ = dynamics.resume("if", x_seq[3:], 0.7, state, backend="side_by_side")
    assert torch.equal(torch.cat([out, again]), dynamics.scan("if", x_seq, 0.7, backend="eager"))


# --- the tables --------------------------------------------------------------------------------------------


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="there is a neuron 'if' already"):
        neuron.register(neuron.Neuron(name="if", state=NEURON.state, initial=NEURON.initial, step=NEURON.step))
    with pytest.raises(ValueError, match="there is a backend 'eager' already"):
        dynamics.kernels.register_backend(dynamics.kernels.Backend("eager"))
    with pytest.raises(ValueError, match="there is a eager kernel for 'if' already"):
        dynamics.kernels.register_kernel("if", "eager", leaky_threshold.in_place)
    with pytest.raises(ValueError, match="there is a method 'if' already"):
        methods.register(type("Mine", (methods.IF,), {}))


def test_a_record_says_what_does_not_fit() -> None:
    fields = {"state": NEURON.state, "initial": NEURON.initial, "step": NEURON.step}
    for wrong, sentence in (
        ({"name": "leaky threshold"}, "a word of letters"),
        ({"name": "mine", "membrane": "u"}, "its state has v, rise; none is 'u'"),
        ({"name": "mine", "weight": lambda step: 1.0}, "its state needs a field `step: int`"),
        ({"name": "mine", "gather": NEURON.initial}, "it needs multistep and an option 'timesteps'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            neuron.Neuron(**{**fields, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a kernel does not answer 'sum'"):
        dynamics.kernels.register_kernel("if", "eager", leaky_threshold.in_place, ("sum",))  # type: ignore[arg-type]
