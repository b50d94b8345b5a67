"""audit(): spikes are spikes, and a network tampered with is found out."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.graph.ops import is_synapse
from snnconv.metrics import audit
from snnconv.network import SpikingNetwork
from snnconv.runtime.executor import Executor
from snnconv.runtime.population import Population

METHODS = [
    methods.IF(6),
    methods.SignedIF(6),
    methods.SRP(4, 3),
    methods.ShiftedThreshold(4),
    methods.LocalThresholdBalancing(8),
]


class Mixed(nn.Module):
    """Spikes, sums of spikes, concatenation, upsampling, both kinds of pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 6, 3, padding=1, stride=2)
        self.merge = nn.Conv2d(10, 4, 3, padding=1)
        self.after = nn.Conv2d(4, 4, 3)
        self.pooled = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4 * 2 * 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.stem(x))
        b = F.interpolate(F.relu(self.down(a)), scale_factor=2)
        c = F.relu(self.merge(torch.cat([a, b], 1)))
        d = F.relu(self.after(F.pad(c + a, (1, 1, 1, 1))))
        e = F.relu(self.pooled(F.max_pool2d(c, 2)) + F.avg_pool2d(d, 2))
        return self.head(F.adaptive_avg_pool2d(e, 2).flatten(1))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(1)
    return Mixed()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=METHODS, ids=lambda m: m.name)
def snn(request: pytest.FixtureRequest, model: nn.Module, x: Tensor) -> SpikingNetwork:
    return snnconv.convert(model, request.param, calibration=x, progress=False)


def failure(snn: SpikingNetwork, x: Tensor) -> str:
    result = audit(snn, x)
    assert not result
    assert "FAILED" in str(result)
    with pytest.raises(ConversionError) as caught:
        result.raise_if_failed()
    return str(caught.value)


def rebuild(snn: SpikingNetwork) -> None:
    program = snn.program
    program.executor = Executor(program.source, program.executor.neuron, program.coding, program.max_pool)


def insert(snn: SpikingNetwork, site: str, make) -> None:
    """Put an operator between a site and its readers."""
    graph: fx.Graph = snn.program.source.graph
    node = next(n for n in snn.program.source.site_nodes() if n.kwargs["site"] == site)
    with graph.inserting_after(node):
        new = make(graph, node)
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user not in made(graph, node, new))
    graph.lint()
    rebuild(snn)


def made(graph: fx.Graph, first: fx.Node, last: fx.Node) -> set[fx.Node]:
    nodes = list(graph.nodes)
    return set(nodes[nodes.index(first) : nodes.index(last) + 1])


def test_converted_networks_pass(snn, x):
    result = audit(snn, x)
    assert result, str(result)
    result.raise_if_failed()
    found = {f.name: f for f in result.findings if f.what == "layer"}
    assert list(found) == list(snn.report.reads)
    assert found["stem"].reads == "input"
    assert found["down"].checked.startswith("every value of every step")
    assert found["after"].reads == "sum of spikes"
    assert "through add" in found["after"].checked
    assert "adaptive_avg_pool2d" in found["head"].checked
    assert not any("silent" in f.checked for f in result.findings)
    assert "passed" in str(result)
    assert not snn.program.executor.observers


def test_the_network_answers_as_before(snn, x):
    before = snn(x)
    audit(snn, x)
    assert torch.equal(snn(x), before)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.Identity])
def test_replaced_neuron(snn, x, kind):
    site = list(snn.program.sites)[1]
    snn.neurons[site] = kind()
    assert f"neurons {site}: a {kind.__name__} stands where" in failure(snn, x)


def test_replaced_neuron_in_disguise(snn, x, monkeypatch):
    """A subclass of the right neuron that hands on currents."""
    site = list(snn.program.sites)[1]
    node = snn.neurons[site]
    timesteps = snn.timesteps

    class Fake(type(node)):  # type: ignore[misc]
        def forward(self, x_seq: Tensor) -> Tensor:
            return x_seq.relu() if len(x_seq) != 1 else x_seq.relu().expand(timesteps, *x_seq.shape[1:])

    node.__class__ = Fake
    monkeypatch.setattr(Population, "fire_all", Population.fire)  # its own equation runs, not a kernel
    message = failure(snn, x)
    assert f"neurons {site}:" in message
    assert "neither 0 nor a spike" in message


def test_spikes_of_another_size_than_the_threshold(snn, x):
    site = next(iter(snn.program.sites))
    snn.neurons[site].register_forward_hook(lambda module, args, out: out * 1.01)
    message = failure(snn, x)
    assert f"neurons {site}:" in message
    assert "layer down: " in message


def test_a_changed_threshold_is_noted(snn, x):
    """It is a spiking network as before, but not the one that the report describes."""
    first, second, third, *_ = snn.program.sites
    assert not audit(snn, x).notes
    snn.neurons[first].v_threshold.mul_(1.01)
    snn.neurons[second].v_threshold[1] *= 0.9
    snn.thresholds[third] = snn.thresholds[third] * 1.001
    result = audit(snn, x)
    assert result, str(result)
    assert result.notes == [
        f"{name}: its thresholds were changed after the conversion" for name in (first, second, third)
    ]


def test_one_channel_is_enough(snn, x):
    site = next(iter(snn.program.sites))
    busiest = int(snn.rates(x)[site].sum((0, 2, 3)).argmax())

    def shrink(module, args, out):
        out = out.clone()
        out[..., busiest, :, :] *= 0.9
        return out

    snn.neurons[site].register_forward_hook(shrink)
    assert "layer down" in failure(snn, x)


def test_hook_that_adds(snn, x):
    site = list(snn.program.sites)[1]
    snn.neurons[site].register_forward_hook(lambda module, args, out: out + 0.1)
    message = failure(snn, x)
    assert f"neurons {site}:" in message
    assert "layer merge" in message


@pytest.mark.parametrize(
    "scale",
    [
        lambda graph, node: graph.call_function(torch.mul, (node, 1.1)),
        lambda graph, node: graph.call_function(torch.multiply, (node, 1.1)),
        lambda graph, node: graph.call_method("__mul__", (node, 0.5)),
        lambda graph, node: graph.call_function(torch.div, (node, 3.0)),
    ],
    ids=["mul", "multiply", "method", "div"],
)
@pytest.mark.parametrize("reported", [True, False])
def test_operator_that_scales(snn, x, scale, reported):
    insert(snn, list(snn.program.sites)[1], scale)
    if not reported:
        snn.report = None
    assert "layer merge" in failure(snn, x)


def test_operator_that_adds_noise(snn, x):
    def noise(graph: fx.Graph, node: fx.Node) -> fx.Node:
        drawn = graph.call_function(torch.randn_like, (node,))
        graph._insert = drawn.append
        return graph.call_function(torch.add, (node, drawn))

    insert(snn, list(snn.program.sites)[1], noise)
    message = failure(snn, x)
    assert "layer merge: reads analog, but the conversion report says spikes" in message
    assert "analog, which the conversion report does not list" in message


def test_operator_that_adds_a_constant(snn, x):
    insert(snn, list(snn.program.sites)[1], lambda graph, node: graph.call_function(torch.add, (node, 0.1)))
    assert "layer merge: reads currents, but the conversion report says spikes" in failure(snn, x)


def test_operator_behind_a_sum(snn, x):
    """The values of a sum are not checked one by one, so what lies on the way is."""
    graph = snn.program.source.graph
    pad = next(n for n in graph.nodes if n.target is F.pad)
    with graph.inserting_before(pad):
        scaled = graph.call_function(torch.mul, (pad.args[0], 1.5))
    pad.args = (scaled, *pad.args[1:])
    rebuild(snn)
    assert "layer after: the spikes it reads are scaled on their way, by mul" in failure(snn, x)


def test_removed_neuron(snn, x):
    """Layers that read currents where the report says spikes."""
    node = snn.program.source.site_nodes()[1]
    node.replace_all_uses_with(node.args[0])
    snn.program.source.graph.erase_node(node)
    rebuild(snn)
    assert "layer merge: reads currents" in failure(snn, x)


def test_removed_layer(snn, x):
    graph = snn.program.source.graph
    last = [n for n in graph.nodes if is_synapse(n)][-1]
    last.replace_all_uses_with(last.args[0])
    graph.erase_node(last)
    rebuild(snn)
    assert "layer head of the conversion report is gone" in failure(snn, x)


def test_graph_changed_behind_the_executor(snn, x):
    graph = snn.program.source.graph
    site = snn.program.source.site_nodes()[0]
    with graph.inserting_after(site):
        graph.call_function(torch.neg, (site,))
    assert "the graph was changed" in failure(snn, x)


def test_observer_that_writes(snn, x):
    """Values changed in place, behind the neurons' backs."""
    first = snn.program.source.site_nodes()[0]

    def write(node: fx.Node, value: object) -> None:
        if node is first and type(value).__name__ == "Temporal":
            value.data.add_(0.1)

    snn.program.executor.observers.append(write)
    assert "layer down" in failure(snn, x)


def test_currents_and_analog_values_are_named():
    class Bottleneck(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (
                nn.Linear(4, 6),
                nn.Linear(6, 3),
                nn.Linear(3, 6),
                nn.Linear(6, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.d(F.silu(self.c(self.b(F.relu(self.a(x))))))

    x = torch.rand(16, 4)
    snn = snnconv.convert(Bottleneck(), methods.SignedIF(8), calibration=x, progress=False)
    result = audit(snn, x)
    assert result, str(result)
    found = {f.name: f for f in result.findings}
    assert "as the conversion report lists" in found["c"].checked
    assert "silu" in str(result)
    snn.report.reads["c"] = "spikes"
    assert "layer c: reads currents, but the conversion report says spikes" in failure(snn, x)
    snn.report = None
    assert found["c"].reads == "currents"
    assert audit(snn, x)


def test_max_pooling_behind_neurons(x):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 4)

        def forward(self, x: Tensor) -> Tensor:
            a = F.relu(self.a(x))
            return self.b(F.max_pool2d(a, 3, 1)) + self.c(a)[..., :1, :1]

    for method in (methods.IF(16), methods.SignedIF(16), methods.ShiftedThreshold(6)):
        snn = snnconv.convert(Net(), method, calibration=x, progress=False)
        result = audit(snn, x)
        assert result, str(result)
        snn.neurons["relu"].register_forward_hook(lambda module, args, out: out * 1.01)
        assert "layer b" in failure(snn, x)


class Largest(nn.Module):
    """A maximum over channels or over places, read by a layer with weights."""

    def __init__(self, over: str) -> None:
        super().__init__()
        self.over, self.a, self.b = over, nn.Linear(5, 6), nn.Linear(6 if over == "places" else 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)).amax(1 if self.over == "places" else 2))


@pytest.mark.parametrize(
    "method", [methods.SignedIF(8), methods.IF(8), methods.ShiftedThreshold(4)], ids=lambda m: m.name
)
def test_a_maximum_over_different_thresholds_is_no_false_alarm(method):
    torch.manual_seed(0)
    x = torch.randn(16, 4, 5)
    result = audit(snnconv.convert(Largest("channels").eval(), method, x, progress=False), x)
    assert result, str(result)
    assert "a maximum is over neurons of different thresholds" in result.findings[-1].checked


def test_a_maximum_over_equal_thresholds_is_checked():
    torch.manual_seed(0)
    x = torch.randn(16, 4, 5)
    for over, method in (("places", methods.SignedIF(8)), ("channels", methods.SignedIF(8, per_channel=False))):
        snn = snnconv.convert(Largest(over).eval(), method, x, progress=False)
        result = audit(snn, x)
        assert result, str(result)
        assert "different thresholds" not in result.findings[-1].checked
        snn.neurons["relu"].register_forward_hook(lambda module, args, out: out * 1.01)
        assert "layer" in failure(snn, x)


def test_network_with_traced_sizes(x):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 3)

        def forward(self, x: Tensor) -> Tensor:
            n, _, h, w = x.shape
            return self.b(F.relu(self.a(x)).view(n, 4 * (h - 2) * (w - 2)))

    snn = snnconv.convert(Net(), methods.IF(4), calibration=x, progress=False)
    result = audit(snn, x)
    assert result, str(result)
    assert result.findings[-1].checked == "every value of every step is 0 or a spike"


def test_a_layer_on_queries_that_are_repeated_for_each_sample_reads_constants():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries = nn.Parameter(torch.randn(5, 6))
            self.a, self.b, self.q, self.out = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            memory = self.b(F.relu(self.a(x)))
            queries = self.queries.unsqueeze(0).repeat(memory.size(0), 1, 1)
            wanted = self.q((queries + torch.zeros_like(queries)).transpose(0, 1)).transpose(0, 1)
            return self.out(torch.softmax(wanted @ memory.transpose(1, 2), -1) @ memory)

    torch.manual_seed(0)
    x = torch.randn(16, 4, 3)
    snn = snnconv.convert(Net().eval(), methods.ShiftedThreshold(8), x, cover="synapses", progress=False)
    result = audit(snn, x)
    assert result, str(result)
    checked = {finding.name: finding.checked for finding in result.findings}
    assert checked["q"] == "reads constants of its size, computed once"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(model, x, dtype):
    for method in METHODS:
        snn = copy.deepcopy(snnconv.convert(model, method, calibration=x, progress=False)).to(dtype)
        result = audit(snn, x.to(dtype))
        assert result, str(result)


def test_networks_that_do_not_trace_say_what_was_not_checked():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.a(x))
            return self.b(x) if float(x.sum()) > -1 else x

    x = torch.rand(8, 3)
    for method in (methods.IF(8), methods.ShiftedThreshold(4)):
        snn = snnconv.convert(Net(), method, calibration=x, progress=False)
        result = audit(snn, x)
        assert result, str(result)
        assert "was not checked (a, b)" in str(result)
        next(iter(snn.neurons.items()))[1].register_forward_hook(lambda m, a, out: out + 0.1)
        assert "neither 0 nor a spike" in failure(snn, x)


def test_silent_neurons_are_named(model, x):
    snn = snnconv.convert(model, methods.IF(4), calibration=x, progress=False)
    for weights in snn.weights.buffers():
        weights.zero_()
    assert str(audit(snn, x)).count("silent: no spike to check") == 5


def test_wrong_input_is_refused(model, x):
    snn = snnconv.convert(model, methods.IF(4), calibration=x, progress=False)
    with pytest.raises(ConversionError, match="wrong input shape"):
        audit(snn, x[0])


def test_a_padding_with_a_value_is_a_current_beside_the_spikes() -> None:
    """It folds into the biases of what reads it: the spikes themselves are moved, as by a padding with zeros."""

    class Padded(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.a, self.b, self.value = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3), value

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(F.pad(F.relu(self.a(x)), (1, 1, 1, 1), value=self.value))

    costs = []
    for value in (0.0, -0.5):
        torch.manual_seed(0)
        model, x = Padded(value).eval(), torch.randn(8, 3, 6, 6)
        network = snnconv.convert(model, methods.SignedIF(timesteps=4, correction="none"), x, progress=False)
        assert network.report.reads["b"] == "spikes"
        audit(network, x)
        costs.append(snnconv.profile(model, network, x))
    assert [c.sops for c in costs[0].layers] == [c.sops for c in costs[1].layers]
