"""Saving and loading: the same bits, no code, a clear word on every file that is not what it should be."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.activations import QuantReLU, RateNorm
from snnconv.storage import network_file as io
from tests.fuzz.samples import SAMPLES

METHODS = [
    methods.IF(4, delay=1),
    methods.SignedIF(4),
    methods.SRP(3, 2),
    methods.ShiftedThreshold(3),
    methods.LocalThresholdBalancing(8, max_batches=8),
]


class Net(nn.Module):
    """Residual, concat, upsampling, padding, traced sizes: most kinds of arguments a graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.down = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = F.relu(self.down(y), inplace=True)
        up = F.interpolate(z, size=y.shape[-2:], mode="bilinear", align_corners=False)
        y = y + F.pad(up[:, :, 1:], (0, 0, 1, 0), value=float("0.25"))
        y = torch.cat([y, F.max_pool2d(y, 3, 1, 1)], dim=1)[..., ::2].contiguous(memory_format=torch.channels_last)
        mask = torch.zeros(x.shape[0], 1, 1, 1, dtype=torch.float32, device=x.device)
        y = F.silu(y + mask).mean(dim=(2, 3))
        return self.head(y.view(x.size(0), -1))


class Untraceable(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, width), nn.Linear(width, width)])
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
        if float(x.sum()) < -1:
            x = x * 0
        return self.head(x)


IMAGES = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
ROWS = torch.randn(32, 5, generator=torch.Generator().manual_seed(1))


def converted(method: methods.Method = METHODS[1]) -> snnconv.SpikingNetwork:
    return snnconv.convert(Net(), method, IMAGES, progress=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("saved") / "net.safetensors"
    snnconv.save(converted(), path)
    return path


# --- the same network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_loaded_network_gives_the_same_bits(method: methods.Method, tmp_path: Path) -> None:
    snn = converted(method)
    snnconv.save(snn, tmp_path / "net.safetensors")
    again = snnconv.load(tmp_path / "net.safetensors")
    assert torch.equal(again(IMAGES), snn(IMAGES))
    assert again.method == snn.method
    assert again.report == snn.report
    assert str(again.report) == str(snn.report)
    assert (again.delay, again.framework, again.input_spec) == (snn.delay, snn.framework, snn.input_spec)
    assert list(again.program.sites) == list(snn.program.sites)
    for (t, a), (u, b) in zip(list(again.stream(IMAGES)), list(snn.stream(IMAGES)), strict=True):
        assert t == u
        assert torch.equal(a, b)


def test_trained_thresholds_come_back(tmp_path: Path) -> None:
    quant = nn.Sequential(
        nn.Linear(5, 6),
        QuantReLU(3, clip=0.8, channels=6, axis=-1),
        nn.Linear(6, 6),
        QuantReLU(3),
        nn.Linear(6, 2),
    )
    rate = nn.Sequential(nn.Linear(5, 6), RateNorm(), nn.Linear(6, 2))
    rate.train()(ROWS)
    for net, method in (
        (quant, methods.SignedIF(3, thresholds="trained")),
        (rate, methods.RateNorm(8)),
        (quant, methods.ShiftedThreshold(2, thresholds="trained")),
    ):
        snn = snnconv.convert(net, method, ROWS, progress=False)
        snnconv.save(snn, tmp_path / "net")
        again = snnconv.load(tmp_path / "net")
        assert torch.equal(again(ROWS), snn(ROWS))
        for name, site in snn.program.sites.items():
            assert torch.equal(again.program.sites[name].threshold, site.threshold)
            assert again.program.sites[name].with_(threshold=None) == site.with_(threshold=None)


def test_saving_twice_and_loading_twice(saved: Path, tmp_path: Path) -> None:
    once = snnconv.load(saved)
    snnconv.save(once, tmp_path / "again")
    twice = snnconv.load(tmp_path / "again")
    assert torch.equal(once(IMAGES), twice(IMAGES))
    for (name, a), (other, b) in zip(
        once.program.source.tensors.items(), twice.program.source.tensors.items(), strict=True
    ):
        assert name == other
        assert torch.equal(a, b)


def test_a_loaded_network_moves_and_keeps_its_dtype(tmp_path: Path) -> None:
    snn = snnconv.convert(
        nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)).double(),
        methods.IF(4),
        ROWS.double(),
        progress=False,
    )
    snnconv.save(snn, tmp_path / "net")
    out = snnconv.load(tmp_path / "net")(ROWS.double())
    assert out.dtype == torch.float64
    assert torch.equal(out, snn(ROWS.double()))


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    layer = nn.Linear(5, 5)
    snn = snnconv.convert(nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), layer), methods.IF(4), ROWS, progress=False)
    snnconv.save(snn, tmp_path / "net")
    assert torch.equal(snnconv.load(tmp_path / "net")(ROWS), snn(ROWS))


def test_the_file_is_plain_safetensors(saved: Path) -> None:
    from safetensors import safe_open

    with safe_open(str(saved), framework="pt") as file:
        metadata = file.metadata()
        assert metadata["format"] == "snnconv"
        assert "weights/down.weight" in file.keys()  # noqa: SIM118
    header = json.loads(metadata["network"])
    assert header["path"] == "graph"


# --- what cannot be saved ----------------------------------------------------------------------------------


def foreign(x: Tensor) -> Tensor:
    return x * 2


torch.fx.wrap("foreign")


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return foreign(F.relu(self.fc(x)))


def test_python_code_in_the_graph_is_refused_by_name(tmp_path: Path) -> None:
    snn = snnconv.convert(nn.Sequential(Foreign()), methods.IF(4), ROWS, progress=False)
    with pytest.raises(ConversionError, match=r"in 0: operator 'foreign' is Python code.*use a torch"):
        snnconv.save(snn, tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_module_kept_whole_is_refused_by_name(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 1), nn.ReLU(), nn.InstanceNorm1d(4), nn.Conv1d(4, 2, 1))
    snn = snnconv.convert(net, methods.IF(4), ROWS.unsqueeze(1), progress=False)
    with pytest.raises(ConversionError, match=r"cannot save 2 \(InstanceNorm1d\)"):
        snnconv.save(snn, tmp_path / "net")


@pytest.mark.parametrize(
    "value", [None, True, 3, -0.5, float("inf"), "same", (1, (2, [3, None])), [1, "a"], {"a": (1,), "b": {}},
              slice(None, 3, 2), torch.float16, torch.device("cpu"), ..., torch.Size([2, 3]),
              torch.channels_last],
    ids=repr,
)  # fmt: skip
def test_arguments_survive_json(value: Any) -> None:
    again = io._decode(json.loads(json.dumps(io._encode(value, "here"), allow_nan=False)))
    assert again == value
    assert type(again) is type(value)


def test_not_a_number_survives_json() -> None:
    assert str(io._decode(json.loads(json.dumps(io._encode(float("nan"), "here"), allow_nan=False)))) == "nan"


@pytest.mark.parametrize("value", [torch.zeros(2), object(), {1: 2}, 1j, b"x"], ids=lambda v: type(v).__name__)
def test_other_arguments_are_refused_by_place(value: Any) -> None:
    with pytest.raises(ConversionError, match=r"block\.3"):
        io._encode({"name": "conv", "op": "x", "args": (value,), "meta": {"path": "block.3"}}, "nodes")


def test_only_converted_networks_are_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Linear"):
        snnconv.save(nn.Linear(2, 2), tmp_path / "net")  # type: ignore[arg-type]


# --- writing -----------------------------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        snnconv.save(converted(), tmp_path / "nowhere" / "net")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    for action in (lambda: snnconv.save(converted(), tmp_path), lambda: snnconv.load(tmp_path)):
        with pytest.raises(IsADirectoryError, match="is a folder"):
            action()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net"
    path.write_bytes(b"old")
    snn = converted()

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match=r"cannot write .*net: No space left on device"):
        snnconv.save(snn, path)
    assert [p.name for p in tmp_path.iterdir()] == ["net"]
    assert path.read_bytes() == b"old"


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snn = converted()

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        snnconv.save(snn, tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_file_may_be_replaced_while_its_network_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "net"
    snn = converted()
    snnconv.save(snn, path)
    again = snnconv.load(path)
    snnconv.save(converted(methods.IF(2)), path)
    assert torch.equal(again(IMAGES), snn(IMAGES))


# --- damaged and foreign files -----------------------------------------------------------------------------


def edited(saved: Path, path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the saved file whose safetensors header went through ``edit``."""
    content = saved.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    return path


def in_network(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def edit(header: dict[str, Any]) -> None:
        network = json.loads(header["__metadata__"]["network"])
        change(network)
        header["__metadata__"]["network"] = json.dumps(network)

    return edit


def node(network: dict[str, Any], op: str) -> dict[str, Any]:
    """The first node of a kind, as its list of [key, value]."""
    for entry in network["nodes"]:
        if dict(entry["dict"])["op"] == op:
            return entry
    raise AssertionError(op)


def set_field(entry: dict[str, Any], key: str, value: Any) -> None:
    entry["dict"] = [[k, value if k == key else v] for k, v in entry["dict"]]


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1], ids=str)
def test_a_truncated_file_is_named(saved: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "short"
    path.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ConversionError, match="short: not a readable safetensors file"):
        snnconv.load(path)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x04pickle" * 20, b"PK\x03\x04" + b"0" * 99])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"other\.pt: not a readable safetensors file"):
        snnconv.load(path)


def test_a_checkpoint_is_no_converted_network(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "weights")
    with pytest.raises(ConversionError, match="weights: not a converted network"):
        snnconv.load(tmp_path / "weights")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        snnconv.load(tmp_path / "nothing")


def test_a_newer_format_is_refused(saved: Path, tmp_path: Path) -> None:
    path = edited(saved, tmp_path / "new", lambda h: h["__metadata__"].update(version="7"))
    with pytest.raises(ConversionError, match=r"new: format version 7.*upgrade"):
        snnconv.load(path)


def bad_args(network: dict[str, Any]) -> None:
    set_field(node(network, "call_function"), "args", {"tuple": [{"node": "later"}]})


def getattr_of(name: str) -> Callable[[dict[str, Any]], None]:
    def change(network: dict[str, Any]) -> None:
        first = dict(node(network, "placeholder")["dict"])["name"]
        entry = node(network, "call_function")
        set_field(entry, "target", "builtins.getattr")
        set_field(entry, "args", {"tuple": [{"node": first}, name]})
        set_field(entry, "kwargs", {"dict": []})

    return change


def at(op: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda network: set_field(node(network, op), key, value)


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown operator": (at("call_function", "target", "os.system"), "'os.system'"),
    "unlisted torch function": (at("call_function", "target", "torch.load"), "torch.load"),
    "unknown method": (at("call_method", "target", "__reduce__"), "'__reduce__'"),
    "module call": (at("call_function", "op", "call_module"), "unknown kind of node"),
    "attribute": (getattr_of("__class__"), "__class__"),
    "missing node": (bad_args, "'later' is read before"),
    "missing weight": (at("get_attr", "target", "no.weight"), "'no.weight' is missing"),
    "no output": (lambda n: n["nodes"].pop(), "no output"),
    "no method": (lambda n: n.pop("method"), "'method' is missing"),
    "unknown conversion": (lambda n: n.update(method={"dict": [["name", "magic"]]}), "method 'magic'"),
    "bad choice": (lambda n: n["method"]["dict"].append(["tau", 3]), "tau"),
    "no time": (lambda n: n["method"]["dict"].append(["timesteps", 0]), "timesteps"),
    "lost tensor": (lambda n: n["tensors"].append("weights/lost"), "'weights/lost' is missing"),
    "no threshold": (lambda n: n["tensors"].pop(0), "has no threshold"),
    "unknown value": (lambda n: n.update(delay={"pickle": "x"}), "unknown type of value 'pickle'"),
    "unknown site kind": (lambda n: set_field(n["sites"][0], "kind", "magic"), "unknown kind 'magic'"),
    "wrong type": (lambda n: n.update(nodes=3), "damaged header"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_header_is_named(kind: str, saved: Path, tmp_path: Path) -> None:
    change, message = DAMAGE[kind]
    path = edited(saved, tmp_path / "damaged", in_network(change))
    with pytest.raises(ConversionError, match=f"damaged: .*{message}"):
        snnconv.load(path)


def test_a_header_that_is_no_json_is_named(saved: Path, tmp_path: Path) -> None:
    path = edited(saved, tmp_path / "damaged", lambda h: h["__metadata__"].update(network="{"))
    with pytest.raises(ConversionError, match="damaged: damaged header"):
        snnconv.load(path)


def test_a_bottomless_header_is_named(saved: Path, tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    path = edited(saved, tmp_path / "damaged", lambda h: h["__metadata__"].update(network=deep))
    with pytest.raises(ConversionError, match="damaged: damaged header"):
        snnconv.load(path)


# --- networks that do not trace ----------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, snnconv.SpikingNetwork]:
    snn = snnconv.convert(Untraceable(), methods.SignedIF(4), ROWS, progress=False)
    assert snn.report is not None
    assert snn.report.path == "module tree"
    snnconv.save(snn, tmp_path / "tree")
    return tmp_path / "tree", snn


def test_a_module_tree_comes_back_into_its_architecture(tree: tuple[Path, snnconv.SpikingNetwork]) -> None:
    path, snn = tree
    fresh = Untraceable()
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    again = snnconv.load(path, model=fresh)
    assert torch.equal(again(ROWS), snn(ROWS))
    assert again.report == snn.report
    assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items()), "load changed the given model"


def test_a_module_tree_needs_its_architecture(tree: tuple[Path, snnconv.SpikingNetwork]) -> None:
    with pytest.raises(ConversionError, match=r"load\(path, model=Untraceable"):
        snnconv.load(tree[0])


class Other(Untraceable):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, 6)])


class Renamed(nn.Module):
    """The same weights, no places for the sites."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Untraceable()


@pytest.mark.parametrize("other", [Untraceable(7), Other(), Renamed()], ids=["width", "depth", "names"])
def test_another_architecture_is_refused(other: nn.Module, tree: tuple[Path, snnconv.SpikingNetwork]) -> None:
    with pytest.raises(ConversionError, match="is not the architecture that was saved"):
        snnconv.load(tree[0], model=other)


def test_trained_activations_of_a_module_tree(tmp_path: Path) -> None:
    class Loop(Untraceable):
        def __init__(self) -> None:
            super().__init__()
            self.act = RateNorm()

        def forward(self, x: Tensor) -> Tensor:
            y = self.act(self.layers[0](x))
            return self.head(y if float(x.detach().abs().sum()) > 0 else y + 1)

    net = Loop()
    net.train()(ROWS)
    snn = snnconv.convert(net, methods.RateNorm(8), ROWS, progress=False)
    snnconv.save(snn, tmp_path / "tree")
    assert torch.equal(snnconv.load(tmp_path / "tree", model=Loop())(ROWS), snn(ROWS))


# --- files of earlier releases -----------------------------------------------------------------------------

FORMER = Path(__file__).parents[1] / "fixtures" / "networks"
SUFFIX = ".snn.safetensors"


@pytest.mark.parametrize("path", sorted(FORMER.glob(f"*{SUFFIX}")), ids=lambda path: path.name.removesuffix(SUFFIX))
def test_a_file_of_an_earlier_release_gives_the_same_outputs(path: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    name = path.name.removesuffix(SUFFIX)
    outputs, sample = load_file(FORMER / "outputs.safetensors"), SAMPLES[name]
    model = None if sample.traced else sample.model()
    snn = snnconv.load(path, model=model)
    torch.testing.assert_close(snn(outputs["inputs"]), outputs[name], rtol=1e-5, atol=1e-6)
    assert snn.framework == sample.framework
    assert snn.method == sample.method
    snnconv.save(snn, tmp_path / "net")
    assert torch.equal(snnconv.load(tmp_path / "net", model=model)(outputs["inputs"]), snn(outputs["inputs"]))


def test_every_method_has_a_file_of_an_earlier_release() -> None:
    kept = {path.name.removesuffix(SUFFIX).rpartition(".")[0] for path in FORMER.glob(f"*{SUFFIX}")}
    assert kept >= {f"{method}.{kind}" for method in methods.METHODS for kind in ("graph", "tree")}
