"""What people put around a network: taken off a copy, kept as part of it, or refused by name before any work."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

import snnconv
from snnconv import ConversionError, activations, methods
from snnconv.graph.unwrap import unwrap
from snnconv.network import SpikingNetwork

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
METHOD = methods.SignedIF(8)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)
    ).eval()


def converted(model: nn.Module, method: methods.Method = METHOD) -> SpikingNetwork:
    return snnconv.convert(model, method, X, progress=False)


def notes(snn: SpikingNetwork) -> str:
    assert snn.report is not None
    return "; ".join(snn.report.notes)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Everything(nn.Module):
    """Hands on all it is given."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inside(*args, **kwargs)


class Doubling(Everything):
    """Looks as if it handed on all it is given."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return 2 * self.inside(*args, **kwargs)


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "AveragedModel": AveragedModel,
    "OptimizedModule": functools.partial(torch.compile, backend="eager"),
    "Everything": Everything,
    "two of them": lambda model: AveragedModel(nn.DataParallel(model)),
}


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_network_is_the_network_inside(name: str, tmp_path: Path) -> None:
    bare, wrapped = converted(network()), WRAPPERS[name](network())
    snn = converted(wrapped)
    assert snn.report is not None
    assert snn.report.path == "graph"
    assert list(snn.neurons) == list(bare.neurons)
    assert torch.equal(snn(X), bare(X))
    assert ("AveragedModel" if name == "two of them" else name) + " was taken off" in notes(snn)
    snnconv.save(snn, tmp_path / "net")
    assert torch.equal(snnconv.load(tmp_path / "net")(X), bare(X))
    assert "not counted" not in str(snnconv.profile(wrapped, snn, X, limit=4))
    assert snnconv.compare(wrapped, snn, X).samples == 32
    assert type(wrapped) is type(WRAPPERS[name](network()))


def test_a_wrapper_inside_the_network_is_taken_off() -> None:
    model = nn.Sequential(nn.DataParallel(network()), nn.ReLU(), nn.Linear(3, 2)).eval()
    snn = converted(model)
    assert "0: DataParallel was taken off" in notes(snn)
    assert list(snn.neurons) == ["0.1", "0.4", "1"]
    assert next(iter(model.state_dict())).startswith("0.module.")


def test_a_module_that_does_more_than_hand_on_stays() -> None:
    model = Doubling(network())
    snn = converted(model, methods.ShiftedThreshold(8))
    assert "was taken off" not in notes(snn)
    torch.testing.assert_close(snn(X), model(X).detach(), rtol=0.05, atol=0.05)


def test_prepare_takes_wrappers_off_and_keeps_masks() -> None:
    model = network()
    prune.l1_unstructured(model[2], "weight", 0.5)
    model[1].register_forward_hook(lambda module, args, out: None)
    twin = snnconv.prepare(nn.DataParallel(model), activations.QuantReLU(7), X, progress=False)
    assert isinstance(twin, nn.Sequential)
    assert not twin[1]._forward_hooks
    assert float((twin[2].weight == 0).float().mean()) == 0.5
    assert prune.is_pruned(twin)


# --- parametrisations ----------------------------------------------------------------------------------------


def pruned(model: nn.Sequential) -> None:
    prune.l1_unstructured(model[2], "weight", 0.5)
    prune.random_unstructured(model[2], "weight", 0.2)


def trained_spectral(model: nn.Sequential) -> None:
    spectral_norm(model[2])
    model.train()(X)
    model.eval()


PARAMETRISED: dict[str, tuple[Callable[[nn.Sequential], Any], str]] = {
    "pruned": (pruned, "pruning of 2"),
    "weight norm, as a hook": (lambda m: weight_norm(m[2]), "WeightNorm of 2"),
    "weight norm": (lambda m: parametrizations.weight_norm(m[2]), "WeightNorm of 2"),
    "spectral norm, as a hook": (trained_spectral, "SpectralNorm of 2"),
    "spectral norm": (lambda m: parametrizations.spectral_norm(m[2]).eval(), "SpectralNorm of 2"),
    "orthogonal": (lambda m: parametrizations.orthogonal(m[2]), "Orthogonal of 2"),
}


@pytest.mark.parametrize("name", PARAMETRISED)
def test_parametrised_weights_become_plain_ones(name: str, tmp_path: Path) -> None:
    change, note = PARAMETRISED[name]
    model = network()
    change(model)
    model.eval()
    wanted = model(X).detach()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    plain = unwrap(model).model
    assert set(plain.state_dict()) == set(network().state_dict())
    assert all(isinstance(p, nn.Parameter) for p in plain.parameters())
    torch.testing.assert_close(plain(X), wanted)
    snn = converted(model, methods.ShiftedThreshold(8))
    assert snn.report is not None
    assert snn.report.path == "graph"
    assert f"{note} was evaluated once" in notes(snn)
    torch.testing.assert_close(snn(X), wanted, rtol=0.05, atol=0.05)
    snnconv.save(snn, tmp_path / "net")
    assert torch.equal(snnconv.load(tmp_path / "net")(X), snn(X))
    torch.testing.assert_close(model(X).detach(), wanted)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# --- hooks ---------------------------------------------------------------------------------------------------

SEEN: list[Any] = []


class Recorder:
    def __init__(self) -> None:
        self.shapes: dict[nn.Module, Any] = {}

    def note(self, module: nn.Module, args: Any, out: Tensor) -> None:
        self.shapes[module] = out.shape
        SEEN.append(out)

    def __call__(self, module: nn.Module, args: Any, out: Tensor) -> None:
        SEEN.append(out)


def note_if_large(name: str, module: nn.Module, args: Any, out: Tensor) -> None:
    if out.numel() < 3:
        return
    SEEN.append((name, out))


LOOKING: dict[str, Any] = {
    "a lambda": lambda module, args, out: SEEN.append(tuple(out.shape)),
    "a method": Recorder().note,
    "an object": Recorder(),
    "a partial": functools.partial(note_if_large, "relu"),
}


@pytest.mark.parametrize("name", LOOKING)
def test_hooks_that_only_look_are_not_called(name: str) -> None:
    SEEN.clear()
    model = network()
    model[1].register_forward_hook(LOOKING[name])
    model[2].register_forward_pre_hook(lambda module, args: SEEN.append(args))
    snn = converted(model)
    assert torch.equal(snn(X), converted(network())(X))
    assert not SEEN
    assert "forward hooks of 1, 2 were left out" in notes(snn)
    assert len(model[1]._forward_hooks) == len(model[2]._forward_pre_hooks) == 1


def halve_in_place(module: nn.Module, args: Any, out: Tensor) -> None:
    out.mul_(0.5)


CHANGING: dict[str, Any] = {
    "returns": lambda module, args, out: out * 0.5,
    "returns at times": lambda module, args, out: out * 0.5 if out.dim() == 2 else None,
    "keeps and returns": lambda module, args, out: SEEN.append(out.shape) or out * 0.5,
    "writes": halve_in_place,
}


@pytest.mark.parametrize("name", CHANGING)
def test_hooks_that_change_what_passes_are_part_of_the_network(name: str) -> None:
    model = network()
    model[1].register_forward_hook(CHANGING[name])
    snn = converted(model, methods.ShiftedThreshold(8))
    assert "forward hooks of 1 may change what passes: they are part of the network" in notes(snn)
    torch.testing.assert_close(snn(X), model(X).detach(), rtol=0.05, atol=0.05)


class Collecting(nn.Module):
    """Reads its features from hooks of its own."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body, self.head, self.found = network(), nn.Linear(16, 2), {}
        if kind == "a method":
            self.body[1].register_forward_hook(self.keep)
        elif kind == "a partial":
            self.body[1].register_forward_hook(functools.partial(type(self).keep, self))
        else:

            def keep(module: nn.Module, args: Any, out: Tensor) -> None:
                self.found["x"] = out

            self.body[1].register_forward_hook(keep)

    def keep(self, module: nn.Module, args: Any, out: Tensor) -> None:
        self.found["x"] = out

    def forward(self, x: Tensor) -> Tensor:
        self.body(x)
        return self.head(self.found["x"])


COLLECTED: ContextVar[list[Tensor] | None] = ContextVar("collected", default=None)


class CollectingByCall(nn.Module):
    """Installs hooks at its first call, which keep features for the call that runs: as Hugging Face's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.installed = network(), nn.Linear(16, 2), False

    def forward(self, x: Tensor) -> Tensor:
        if not self.installed:
            self.body[1].register_forward_hook(keep_for_the_call)
            self.installed = True
        token = COLLECTED.set([])
        try:
            self.body(x)
            return self.head(COLLECTED.get()[-1])
        finally:
            COLLECTED.reset(token)


def keep_for_the_call(module: nn.Module, args: Any, out: Tensor) -> None:
    kept = COLLECTED.get()
    if kept is not None:
        kept.append(out)


def test_hooks_that_keep_what_the_running_call_reads_are_part_of_the_network() -> None:
    model = CollectingByCall().eval()
    wanted = model(X).detach()
    snn = converted(model, methods.ShiftedThreshold(8))
    assert "forward hooks of body.1 may change what passes: they are part of the network" in notes(snn)
    assert float((snn(X) - wanted).norm() / wanted.norm()) < 0.05


@pytest.mark.parametrize("kind", ["a method", "a partial", "a closure"])
def test_hooks_that_the_network_reads_are_part_of_it(kind: str) -> None:
    model = Collecting(kind).eval()
    wanted = model(X).detach()
    snn = converted(model, methods.ShiftedThreshold(8))
    assert "hooks" not in notes(snn)
    for x, y in ((X, wanted), (X.flip(1)[:5], model(X.flip(1)[:5]).detach())):
        assert float((snn(x) - y).norm() / y.norm()) < 0.05


def test_a_network_that_keeps_an_activation_is_copied() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            self.features = self.net[:2](x)
            self.all = [self.features]
            return self.net[2:](self.features)

    model = Keeping().eval()
    model(X)
    snn = converted(model)
    assert snn.report is not None
    assert snn.report.path == "graph"
    assert torch.equal(snn(X), converted(network())(X))
    assert model.features.grad_fn is not None


# --- refused -------------------------------------------------------------------------------------------------


def spiking_inside(kind: str) -> nn.Module:
    if kind == "snntorch":
        snntorch = pytest.importorskip("snntorch")
        return nn.Sequential(nn.Linear(6, 4), nn.Sequential(snntorch.Leaky(beta=0.9)), nn.ReLU())
    from spikingjelly.activation_based import neuron

    return nn.Sequential(nn.Linear(6, 4), nn.Sequential(neuron.LIFNode()), nn.ReLU())


def quantised() -> nn.Module:
    import torch.ao.quantization as quantization

    if "x86" not in torch.backends.quantized.supported_engines:
        pytest.skip("this PyTorch quantises nothing here")
    model = nn.Sequential(quantization.QuantStub(), nn.Linear(6, 4), nn.ReLU(), quantization.DeQuantStub()).eval()
    model.qconfig = quantization.get_default_qconfig("x86")
    quantization.prepare(model, inplace=True)
    model(X)
    return quantization.convert(model)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "TorchScript": (
        lambda: nn.Sequential(torch.jit.script(network())),
        r"0: a TorchScript module.*give the nn\.Module",
    ),
    "a trace": (lambda: torch.jit.trace(network(), X), r"the network: a TorchScript module.*give the nn\.Module"),
    "an export": (lambda: torch.export.export(network(), (X,)), r"an exported program.*give the nn\.Module"),
    "an export's module": (
        lambda: torch.export.export(network(), (X,)).module(),
        r"exported program.*give the nn\.Mod",
    ),
    "SpikingJelly": (lambda: spiking_inside("spikingjelly"), r"1\.0: LIFNode is a spiking neuron inside.*nn\.ReLU"),
    "snnTorch": (lambda: spiking_inside("snntorch"), r"1\.0: Leaky is a spiking neuron inside.*nn\.ReLU"),
    "a converted part": (
        lambda: nn.Sequential(converted(network()), nn.ReLU()),
        r"0\.neurons\..* spiking neuron inside",
    ),
    "quantised": (quantised, r"0: Quantize is quantised.*give the float network"),
    "lazy": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.LazyLinear(3)),
        r"2 \(LazyLinear\) has no weights yet",
    ),
    "meta": (lambda: network().to("meta"), r"weight '0\.weight' is on the meta device.*load_state_dict"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_network_is_refused_by_name(name: str) -> None:
    make, message = REFUSED[name]
    model = make()
    asked: list[int] = []

    def data() -> Iterator[Tensor]:
        asked.append(1)
        yield X

    with pytest.raises(ConversionError, match=message):
        snnconv.convert(model, METHOD, data(), progress=False)
    assert not asked
    with pytest.raises(ConversionError, match=message):
        snnconv.prepare(model, activations.QuantReLU(3), X, progress=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_networks_of_other_number_types_convert_by_graph(dtype: torch.dtype) -> None:
    model = network().to(dtype)
    snn = snnconv.convert(model, methods.SignedIF(16), X.to(dtype), progress=False)
    assert snn.report is not None
    assert snn.report.path == "graph", snn.report.notes
    wanted = model(X.to(dtype)).detach().float()
    assert float((snn(X.to(dtype)).float() - wanted).norm() / wanted.norm()) < 0.1


def test_layers_that_quantise_as_they_run_are_no_fault() -> None:
    if "x86" not in torch.backends.quantized.supported_engines:
        pytest.skip("this PyTorch quantises nothing here")
    model = torch.ao.quantization.quantize_dynamic(network(), {nn.Linear})
    snn = snnconv.convert(copy.deepcopy(model), methods.ShiftedThreshold(8), X, progress=False)
    wanted = model(X).detach()
    assert float((snn(X) - wanted).norm() / wanted.norm()) < 0.1
