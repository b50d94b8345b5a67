"""Saving and loading: the same bits, no code, a clear word on every file that is not what it should be."""

from __future__ import annotations

import errno
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, limits, methods
from snnconv.activations import QuantReLU, RateNorm
from snnconv.graph.records import NodeRecord
from snnconv.storage import graph_json
from tests.fuzz.mutate import Parts
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


class Centred(nn.Module):
    """Takes the mean of its batch away."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x - x.mean(0))))


def test_a_network_whose_inputs_have_to_do_with_one_another(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 5)
    snn = snnconv.convert(Centred(), methods.SignedIF(8), x, progress=False)
    assert snn.input_spec["whole_batch"]
    snnconv.save(snn, tmp_path / "net.safetensors")
    again = snnconv.load(tmp_path / "net.safetensors")
    again.memory_budget = 1
    assert again.input_spec == snn.input_spec
    assert torch.equal(again(x), snn(x))


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
            other = again.program.sites[name]
            assert torch.equal(other.threshold, site.threshold)
            assert (other.function.to_dict(), other.axis) == (site.function.to_dict(), site.axis)


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


@pytest.mark.parametrize(
    "layer",
    [
        nn.InstanceNorm1d(4), nn.InstanceNorm1d(4, affine=True), nn.InstanceNorm1d(4, track_running_stats=True),
        nn.RMSNorm(6), nn.RMSNorm(6, elementwise_affine=False), nn.LPPool1d(2, 2), nn.LPPool1d(3, 2, ceil_mode=True),
    ],
    ids=repr,
)  # fmt: skip
def test_normalisations_and_poolings_of_torch_are_saved(layer: nn.Module, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 1), nn.ReLU(), layer, nn.ReLU(), nn.Conv1d(4, 2, 1)).eval()
    for tensor in layer.buffers():
        tensor.copy_(torch.rand(tensor.shape))
    x = torch.randn(16, 1, 6)
    snn = snnconv.convert(net, methods.ShiftedThreshold(12, thresholds="max"), x, progress=False)
    assert (snn(x) - net(x)).norm() < 0.01 * net(x).norm()
    snnconv.save(snn, tmp_path / "net")
    assert torch.equal(snnconv.load(tmp_path / "net")(x), snn(x))


def test_a_module_kept_whole_is_refused_by_name(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 1), nn.ReLU(), nn.LocalResponseNorm(2), nn.Conv1d(4, 2, 1))
    snn = snnconv.convert(net, methods.IF(4), ROWS.unsqueeze(1), progress=False)
    with pytest.raises(ConversionError, match=r"cannot save 2 \(LocalResponseNorm\)"):
        snnconv.save(snn, tmp_path / "net")


@pytest.mark.parametrize(
    "value", [None, True, 3, -0.5, float("inf"), "same", (1, (2, [3, None])), [1, "a"], {"a": (1,), "b": {}},
              slice(None, 3, 2), torch.float16, torch.device("cpu"), ..., torch.Size([2, 3]),
              torch.channels_last],
    ids=repr,
)  # fmt: skip
def test_arguments_survive_json(value: Any) -> None:
    written = json.dumps({"value": graph_json.encode(value, "here"), "next": 1}, allow_nan=False)
    again = graph_json.decode(written)["value"]
    assert again == value
    assert type(again) is type(value)


def test_not_a_number_survives_json() -> None:
    written = json.dumps({"value": graph_json.encode(float("nan"), "here")}, allow_nan=False)
    assert str(graph_json.decode(written)["value"]) == "nan"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('{"a": 1', "it is no JSON"),
        ("[1, 2]", "no record of names and values"),
        ('{"tuple": [1]}', "no record of names and values"),
        ('{"a": {"b": 1, "c": 2}}', r"\['b', 'c'\] is no encoded value"),
        ('{"a": {"code": "x"}}', r"\['code'\] is no encoded value"),
        ('{"a": {"tuple": {"tuple": [1]}}}', r"\(1,\) is no tuple"),
        ('{"a": {"dict": [["b"]]}}', r"\[\['b'\]\] is no dict"),
        ('{"a": {"dict": [[1, 2]]}}', r"\[\[1, 2\]\] is no dict"),
        ('{"a": {"dtype": "no"}}', "'no' is no dtype"),
        ('{"a": {"slice": [1, 2, 3, 4]}}', "is no slice"),
        ('{"a": {"node": 1}}', "1 is no node"),
        ('{"a": 1, "a": 2}', "are not different names"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "too deep"),
    ],
)
def test_a_header_holds_what_is_written_and_nothing_else(written: str, said: str) -> None:
    with pytest.raises(ConversionError, match=f"damaged header: .*{said}"):
        graph_json.decode(written)


@pytest.mark.parametrize("value", [torch.zeros(2), object(), {1: 2}, 1j, b"x"], ids=lambda v: type(v).__name__)
def test_other_arguments_are_refused_by_place(value: Any) -> None:
    with pytest.raises(ConversionError, match=r"block\.3"):
        graph_json.encode(NodeRecord("x", "conv", "y", (value,), meta={"path": "block.3"}), "nodes")


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


def edited(saved: Path, path: Path, edit: Callable[[Parts], Any], seal: bool = True) -> Path:
    """A copy of the saved file whose parts went through ``edit``, sealed as by somebody who means it."""
    parts = Parts.of(saved.read_bytes())
    text = edit(parts)
    path.write_bytes(parts.joined(seal, text if isinstance(text, str) else None))
    return path


def in_network(change: Callable[[dict[str, Any]], Any]) -> Callable[[Parts], Any]:
    def edit(parts: Parts) -> None:
        change(parts.network)

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
    path = edited(saved, tmp_path / "new", lambda parts: parts.metadata.update(version="7", release="9.1"))
    with pytest.raises(ConversionError, match=r"new: format version 7, written by snnconv 9.1; this is .*upgrade"):
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
    "unlisted tensor": (lambda n: n["tensors"].pop(0), "'neurons/.*' is in the file and not in its list"),
    "tensor twice": (lambda n: n["tensors"].append(n["tensors"][0]), "is listed twice"),
    "foreign tensor": (lambda n: n["tensors"].append("pickles/x"), "unknown kind; known: neurons, "),
    "unknown value": (lambda n: n.update(delay={"pickle": "x"}), r"\['pickle'\] is no encoded value"),
    "unknown site kind": (lambda n: set_field(n["sites"][0], "kind", "magic"), "unknown activation kind 'magic'"),
    "wrong type": (lambda n: n.update(nodes=3), "header.nodes must be a list, got 3"),
    "unknown field": (lambda n: n.update(colour="red"), "header has a field 'colour'; known: path, "),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_header_is_named(kind: str, saved: Path, tmp_path: Path) -> None:
    change, message = DAMAGE[kind]
    path = edited(saved, tmp_path / "damaged", in_network(change))
    with pytest.raises(ConversionError, match=f"damaged: .*{message}"):
        snnconv.load(path)


def test_a_header_that_is_no_json_is_named(saved: Path, tmp_path: Path) -> None:
    path = edited(saved, tmp_path / "damaged", lambda parts: "{")
    with pytest.raises(ConversionError, match="damaged: damaged header"):
        snnconv.load(path)


def test_a_bottomless_header_is_named(saved: Path, tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    path = edited(saved, tmp_path / "damaged", lambda parts: deep)
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
NEW = {"multi_threshold", "hierarchical_multi_threshold"}
"""Methods that the release of these files did not have."""


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
    former = methods.METHODS.keys() - NEW
    assert kept >= {f"{method}.{kind}" for method in former for kind in ("graph", "tree")}


# --- contradictions ----------------------------------------------------------------------------------------


def pairs(*path: Any, **fields: Any) -> Callable[[dict[str, Any]], None]:
    """Give some fields of the record at ``path`` other values."""

    def change(network: dict[str, Any]) -> None:
        record: Any = network
        for key in path:
            record = record[key] if not isinstance(record, dict) or "dict" not in record else dict(record["dict"])[key]
        for key, value in fields.items():
            if key in dict(record["dict"]):
                set_field(record, key, value)
            else:
                record["dict"].append([key, value])

    return change


def call(target: str, *args: Any) -> Callable[[dict[str, Any]], None]:
    """Another operator, of plain numbers, in the middle of the graph, read by the output."""

    def change(network: dict[str, Any]) -> None:
        fields = {"op": "call_function", "name": "odd", "target": target, "args": {"tuple": list(args)}}
        record = [*fields.items(), ("kwargs", {"dict": []}), ("meta", {"dict": []})]
        output = network["nodes"][-1]
        network["nodes"].insert(-1, {"dict": [list(item) for item in record]})
        (last,) = dict(output["dict"])["args"]["tuple"]
        set_field(output, "args", {"tuple": [{"tuple": [last, {"node": "odd"}]}]})

    return change


CONTRADICTIONS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "delay of another method": (lambda n: n.update(delay=2), "delay is 2, and SignedIF.* has 0"),
    "delay beyond the steps": (lambda n: n.update(delay=4), "delay is 4"),
    "delay that is no whole number": (lambda n: n.update(delay=1.5), "header.delay must be a whole number, got 1.5"),
    "endless steps": (pairs("method", timesteps=2**64), "timesteps is 18446744073709551616, more than snnconv.limits"),
    "another framework": (lambda n: n.update(framework="brian"), "one of spikingjelly, snntorch, got 'brian'"),
    "no budget": (lambda n: n.update(memory_budget=0), "memory_budget is 0"),
    "another path": (lambda n: n.update(path="module tree"), "path is 'module tree', and there are .* nodes"),
    "unknown path": (lambda n: n.update(path="cloud"), "graph, module tree, got 'cloud'"),
    "precision": (lambda n: n.update(precision="int4"), "float32, int8, got 'int4'"),
    "a layer of no site": (
        pairs("method", layers={"dict": [["act9", {"dict": [["eps", 0.1]]}]]}), "its layers name 'act9', which is"
    ),
    "axis without end": (pairs("sites", 0, axis=99), "axis 99 is no channel axis"),
    "axis of the batch": (pairs("sites", 0, axis=0), "axis 0 is no channel axis"),
    "axis of another dimension": (pairs("sites", 0, axis=2), "has the thresholds of 6 channels, and its input 8"),
    "cap below zero": (pairs("sites", 0, cap=-1), "cap is -1"),
    "levels of a ReLU": (pairs("sites", 0, levels=3), "a field 'levels', which a relu does not have"),
    "kind without threshold": (pairs("sites", 0, kind="quant"), "missing .*'threshold'"),
    "site twice": (lambda n: n["sites"].append(n["sites"][0]), "there are two sites"),
    "site less": (lambda n: n["sites"].pop(0), "belongs to no site"),
    "shape of another network": (pairs("input_spec", shape=[3, 8]), "shape, dtype and floating are not those of"),
    "shape that is a number": (pairs("input_spec", shape=4), "input_spec.shape must be a list, got 4"),
    "negative bytes": (pairs("input_spec", step_bytes=-1), "step_bytes is -1"),
    "infinite bytes": (pairs("input_spec", constant_bytes={"float": "inf"}), "constant_bytes must be a whole number"),
    "unknown field": (pairs("input_spec", colour=1), "input_spec has a field 'colour'; known: shape, "),
    "unknown dtype": (pairs("input_spec", dtype="float4"), "shape, dtype and floating|dtype 'float4'"),
    "operator of other types": (at("call_method", "args", {"tuple": [3]}), "of nothing"),
    "arguments that are none": (at("call_function", "args", 3), "args must be a tuple, got 3"),
    "arguments by no name": (at("call_function", "kwargs", "x"), "kwargs must be a dict, got 'x'"),
    "weights of another shape": (at("get_attr", "target", "head.weight"), "read by no node"),
    "numbers without end": (call("operator.pow", 10, 10**9), "operator.pow of numbers"),
    "a constant without end": (call("torch.zeros", 10**6, 10**6), "makes 1000000000000 elements.*limits.CONSTANT"),
    "a constant that fails": (call("torch.zeros", "x"), "torch.zeros fails"),
    "a device that is not here": (call("torch.zeros", 1, {"device": "cuda:77"}), "cuda:77, which this machine lacks"),
    "a node nobody reads": (lambda n: n["nodes"].insert(1, json.loads(json.dumps(n["nodes"][1]).replace("first", "x"))),
                            "two nodes of that name|nobody reads it|is missing"),
    "a report of another path": (pairs("report", path="module tree"), "report.path"),
    "a report of other types": (pairs("report", delay="x"), "report.delay must be a whole number, got 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_a_contradiction_is_refused_whoever_wrote_it(kind: str, saved: Path, tmp_path: Path) -> None:
    change, message = CONTRADICTIONS[kind]
    path = edited(saved, tmp_path / "odd", in_network(change))
    with pytest.raises(ConversionError, match=f"odd: .*({message})"):
        snnconv.load(path)


def growing(network: dict[str, Any]) -> None:
    """A size of the input to a power, to a power ..."""
    first = dict(node(network, "placeholder")["dict"])["name"]
    names, steps = ["width"], [("call_method", "width", "size", [{"node": first}, 2])]
    for number in range(12):
        names.append(f"power_{number}")
        steps.append(("call_function", names[-1], "operator.pow", [{"node": names[-2]}, {"node": names[-2]}]))
    output = network["nodes"].pop()
    for op, name, target, args in steps:
        fields = {"op": op, "name": name, "target": target, "args": {"tuple": args}}
        record = [*fields.items(), ("kwargs", {"dict": []}), ("meta", {"dict": []})]
        network["nodes"].append({"dict": [list(item) for item in record]})
    (last,) = dict(output["dict"])["args"]["tuple"]
    set_field(output, "args", {"tuple": [{"tuple": [last, {"node": names[-1]}]}]})
    network["nodes"].append(output)


def test_numbers_that_grow_without_end_are_refused_before_they_do(saved: Path, tmp_path: Path) -> None:
    path = edited(saved, tmp_path / "odd", in_network(growing))
    with pytest.raises(ConversionError, match=r"pow of numbers gives one without end|limits\.SIZE"):
        snnconv.load(path)


TENSORS: dict[str, tuple[str, bytes, str]] = {
    "NaN weights": ("weights/head.weight", struct.pack("<f", float("nan")), "'head.weight' has 1 NaN"),
    "infinite weights": ("weights/head.weight", struct.pack("<f", float("inf")), "'head.weight' has 1 NaN or infinite"),
    "NaN thresholds": ("neurons/first.2", struct.pack("<f", float("nan")), "its threshold at .* is nan"),
    "no thresholds": ("neurons/first.2", struct.pack("<f", 0.0), "its threshold at .* is 0.0"),
    "negative thresholds": ("neurons/first.2", struct.pack("<f", -1.0), "its threshold at .* is -1.0"),
    "infinite thresholds": ("neurons/first.2", struct.pack("<f", float("inf")), "its threshold at .* is inf"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_values_that_no_network_has_are_refused_whoever_wrote_them(kind: str, saved: Path, tmp_path: Path) -> None:
    name, value, message = TENSORS[kind]

    def change(parts: Parts) -> None:
        start = parts.layout[name]["data_offsets"][0]
        parts.body = parts.body[:start] + value + parts.body[start + 4 :]

    with pytest.raises(ConversionError, match=message):
        snnconv.load(edited(saved, tmp_path / "odd", change))


def test_a_file_of_the_first_format_that_contradicts_its_method_is_refused(tmp_path: Path) -> None:
    former = FORMER / f"if.graph.spikingjelly{SUFFIX}"
    for field, value in (("coding", "sum"), ("max_pool", "instantaneous"), ("delay", 3)):
        path = edited(former, tmp_path / "odd", in_network(lambda n, f=field, v=value: n.update({f: v})))
        with pytest.raises(ConversionError, match=field):
            snnconv.load(path)


def test_every_flipped_bit_is_seen(saved: Path, tmp_path: Path) -> None:
    content, path = saved.read_bytes(), tmp_path / "flipped"
    for seed in range(60):
        draw = random.Random(seed)
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(ConversionError, match="flipped: "):
            snnconv.load(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with names")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConversionError, match="pipe is a pipe, a socket or a device"):
        snnconv.load(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"cannot write .*pipe: it is a pipe"):
        snnconv.save(converted(), tmp_path / "pipe")


def test_a_file_says_which_network_it_was_made_from(tmp_path: Path) -> None:
    model = Net().eval()
    snn = snnconv.convert(model, methods.IF(4), IMAGES, progress=False)
    assert snn.made_from(model)
    snnconv.save(snn, tmp_path / "net")
    again = snnconv.load(tmp_path / "net")
    assert again.made_from(model)
    model.head.bias.data[0] += 1
    assert again.made_from(model) is False
    former = snnconv.load(FORMER / f"if.graph.spikingjelly{SUFFIX}")
    assert former.made_from(model) is None


def test_another_release_is_named_where_its_file_is_refused(saved: Path, tmp_path: Path) -> None:
    def change(parts: Parts) -> None:
        parts.metadata["release"] = "9.1"
        parts.network["method"] = {"dict": [["name", "hal"], ["timesteps", 4]]}

    with pytest.raises(
        ConversionError, match=r"unknown method 'hal'; known: .*signed_if.*written by snnconv 9\.1; this"
    ):
        snnconv.load(edited(saved, tmp_path / "odd", change))


def test_limits_are_raised_by_who_means_it(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = edited(saved, tmp_path / "long", in_network(pairs("method", timesteps=2**17)))
    with pytest.raises(ConversionError, match=r"limits\.TIMESTEPS = 65536; set that higher"):
        snnconv.load(path)
    monkeypatch.setattr(limits, "TIMESTEPS", 2**17)
    assert snnconv.load(path).timesteps == 2**17


ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "addcmul": lambda h: torch.addcmul(h, h, h, value=0.5),
    "lerp": lambda h: torch.lerp(h, h * 2, 0.25),
    "written as a method": lambda h: h.log1p().atan2(h + 1),
    "variance": lambda h: h - torch.var(h, -1, keepdim=True),
    "log of a sum": lambda h: h - torch.logsumexp(h, -1, keepdim=True),
    "running product": lambda h: torch.cumprod(h, -1),
    "triangle": lambda h: torch.tril(h.unsqueeze(-1) * h.unsqueeze(-2)).mean(-1),
    "numbers that are none": lambda h: torch.nan_to_num(h / h),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_operators_that_do_not_spike_are_saved_too(name: str, tmp_path: Path) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(ELEMENTWISE[name](F.relu(self.first(x))))

    torch.manual_seed(0)
    x = torch.randn(16, 4)
    snn = snnconv.convert(Model().eval(), methods.ShiftedThreshold(4), x, progress=False)
    snnconv.save(snn, tmp_path / "net.safetensors")
    assert torch.equal(snnconv.load(tmp_path / "net.safetensors")(x), snn(x))


@pytest.mark.parametrize("meta", [{}, {"path": "layer"}, {"path": "layer", "pre_neuron": True}])
def test_the_fields_of_a_node_stand_in_any_order(meta: dict[str, Any]) -> None:
    values = {"op": "call_method", "name": "a", "target": "view", "args": (1,), "kwargs": {"x": 2}, "meta": meta}
    node_of = graph_json.node_of
    assert node_of(values, 0) == node_of(dict(reversed(values.items())), 0) == NodeRecord(**values)


@pytest.mark.parametrize("field", ["op", "name", "target", "args", "kwargs", "meta"])
def test_a_field_of_a_node_of_another_type_is_refused(field: str) -> None:
    values = {"op": "call_method", "name": "a", "target": "view", "args": (), "kwargs": {}, "meta": {}}
    with pytest.raises(ConversionError, match=field):
        graph_json.node_of(values | {field: 3}, 0)
