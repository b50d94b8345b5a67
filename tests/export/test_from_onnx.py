"""from_onnx(): files of other tools as modules that a conversion takes, or a sentence that says why not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.export.onnx_in.reader import _close

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = F.relu(self.conv(x) + x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    """A transformer block with a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.n1, self.n2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mlp, self.head = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        y = self.n1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.n2(x))
        return self.head(x[:, 0])


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=2), nn.ReLU6(), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cnn": (cnn, (3, 16, 16)), "residual": (Residual, (3, 8, 8)), "transformer block": (Block, (7, 16)),
}  # fmt: skip
DYNAMIC = pytest.mark.skipif(not hasattr(torch.onnx, "ops"), reason="the exporter of PyTorch 2.8 and later")


def written(name: str, path: Path, way: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model = make()
    model.train()(torch.randn(8, *shape))
    x = torch.randn(2, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way == "new":
            sizes = ({0: torch.export.Dim("batch", min=1)},)
            torch.onnx.export(model.eval(), (x,), path, dynamo=True, dynamic_shapes=sizes, verbose=False)
        else:  # "old", or "one": for a batch of one alone
            axes = {"x": {0: "batch"}} if way == "old" else {}
            x = x if way == "old" else x[:1]
            torch.onnx.export(
                model.eval(), (x,), path, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes
            )
    return model, shape


@pytest.mark.parametrize("way", [pytest.param("new", marks=DYNAMIC), "old", "one"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_module_is_the_network_at_any_batch_size(name: str, way: str, tmp_path: Path) -> None:
    model, shape = written(name, tmp_path / "net.onnx", way)
    if (name, way) == ("transformer block", "one"):  # its class token is written for a batch of one
        with pytest.raises(ConversionError, match="may hold for a batch of 1 alone: export it with a dynamic batch"):
            snnconv.from_onnx(tmp_path / "net.onnx")
        return
    module = snnconv.from_onnx(tmp_path / "net.onnx")
    for batch in (1, 5):
        x = torch.randn(batch, *shape)
        torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_module_converts_as_the_network_does(name: str, tmp_path: Path) -> None:
    model, shape = written(name, tmp_path / "net.onnx", "old")
    x = torch.randn(32, *shape)
    method = methods.ShiftedThreshold(timesteps=6)
    ours = snnconv.convert(model, method, x, progress=False)
    theirs = snnconv.convert(snnconv.from_onnx(tmp_path / "net.onnx"), method, x, progress=False)
    assert theirs.report is not None
    assert theirs.report.path == "graph"
    assert len(theirs.thresholds) == len(ours.thresholds) > 0
    assert float((theirs(x) - model(x)).norm() / model(x).norm()) < 0.05


def test_layers_are_pytorchs_own_and_named_as_in_the_file(tmp_path: Path) -> None:
    written("cnn", tmp_path / "net.onnx", "old")
    kinds = [type(m).__name__ for m in snnconv.from_onnx(tmp_path / "net.onnx").children()]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU6", "Linear"]  # the exporter folds batch norm
    written("transformer block", tmp_path / "block.onnx", "old")
    kinds = [type(m).__name__ for m in snnconv.from_onnx(tmp_path / "block.onnx").children()]
    assert kinds.count("GELU") == 1


@DYNAMIC
@pytest.mark.parametrize("bits", [4, 7])
def test_our_own_twin_is_read_back(bits: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Residual().eval(), torch.randn(16, 3, 8, 8)
    snn = snnconv.convert(model, methods.ShiftedThreshold(bits), x, progress=False)
    snnconv.to_onnx(snn, tmp_path / "twin.onnx", twin=True)
    twin = snnconv.from_onnx(tmp_path / "twin.onnx")
    assert float(torch.isclose(twin(x), snn(x), rtol=1e-3, atol=1e-4).all(1).float().mean()) > 0.8  # ties of rounding


def graph(nodes: list[Any], tensors: dict[str, Tensor], shape: list[Any], out: list[Any]) -> Any:
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    found = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", real, shape)], [helper.make_tensor_value_info("y", real, out)],
        [onnx.numpy_helper.from_array(v.numpy(), name) for name, v in tensors.items()],
    )  # fmt: skip
    return helper.make_model(found, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_padding_as_tensorflow_writes_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2], kernel_shape=[3, 3])
    onnx.save(graph([node], {"w": torch.randn(4, 3, 3, 3)}, ["n", 3, 8, 8], ["n", 4, 4, 4]), str(tmp_path / "a.onnx"))
    module = snnconv.from_onnx(tmp_path / "a.onnx")  # compared with the reference evaluator
    assert module(torch.randn(5, 3, 8, 8)).shape == (5, 4, 4, 4)


def test_operators_that_are_not_covered_are_all_named(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Celu", ["x"], ["a"], name="first"),
        onnx.helper.make_node("Hardmax", ["a"], ["y"], name="second"),
    ]
    onnx.save(graph(nodes, {}, ["n", 3], ["n", 3]), str(tmp_path / "a.onnx"))
    with pytest.raises(ConversionError, match=r"a\.onnx.*Celu \(node 'first'\), Hardmax \(node 'second'\)"):
        snnconv.from_onnx(tmp_path / "a.onnx")


def test_an_operator_of_ones_own(tmp_path: Path) -> None:
    from snnconv.export.onnx_in.calls import OPERATORS, register_onnx_operator

    onnx.save(graph([onnx.helper.make_node("Celu", ["x"], ["y"])], {}, ["n", 3], ["n", 3]), str(tmp_path / "a.onnx"))
    register_onnx_operator("Celu")(lambda call: call.module(nn.CELU(), call.value(0)))
    try:
        x = torch.randn(4, 3)
        assert torch.equal(snnconv.from_onnx(tmp_path / "a.onnx")(x), F.celu(x))
    finally:
        del OPERATORS["Celu"]


def test_a_reading_that_is_wrong_is_refused(tmp_path: Path) -> None:
    from snnconv.export.onnx_in.calls import OPERATORS

    onnx.save(graph([onnx.helper.make_node("Relu", ["x"], ["y"])], {}, ["n", 3], ["n", 3]), str(tmp_path / "a.onnx"))
    before = OPERATORS["Relu"]
    OPERATORS["Relu"] = lambda call: call.emit(torch.tanh, call.value(0))
    try:
        with pytest.raises(ConversionError, match="output 'y' is not what ONNX's reference evaluator gives"):
            snnconv.from_onnx(tmp_path / "a.onnx")
        snnconv.from_onnx(tmp_path / "a.onnx", check=False)
    finally:
        OPERATORS["Relu"] = before


def test_sizes_that_a_file_leaves_open_are_asked_for(tmp_path: Path) -> None:
    onnx.save(
        graph([onnx.helper.make_node("Relu", ["x"], ["y"])], {}, ["n", "len"], ["n", "len"]), str(tmp_path / "a.onnx")
    )
    with pytest.raises(ConversionError, match=r"input 'x' leaves dimension 1 \('len'\) open: give input_shapes"):
        snnconv.from_onnx(tmp_path / "a.onnx")
    assert snnconv.from_onnx(tmp_path / "a.onnx", input_shapes={"x": [6]})(torch.ones(2, 6)).shape == (2, 6)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "bytes"])
def test_damaged_files_are_refused_in_our_words(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    written("cnn", path, "old")
    whole = path.read_bytes()
    content = {
        "cut": whole[: len(whole) // 2],
        "text": b"not a network",
        "empty": b"",
        "bytes": b"\xff" * 64 + whole[64:],
    }
    path.write_bytes(content[damage])
    with pytest.raises(ConversionError, match=r"net\.onnx"):
        snnconv.from_onnx(path)
    with pytest.raises(FileNotFoundError, match="there is no ONNX file"):
        snnconv.from_onnx(tmp_path / "none.onnx")


def saved(path: Path, nodes: list[Any], tensors: dict[str, Tensor], name: str = "x") -> Path:
    model = graph(nodes, tensors, ["n", 3], ["n", 3])
    model.graph.input[0].name = name
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("kind", "tensors", "words"),
    [
        ("Tile", {"a": torch.tensor([1, 2**40])}, "Tile 'grow' gives values of shape"),
        ("Expand", {"a": torch.tensor([2**40, 1, 3])}, "Expand 'grow' gives values of shape"),
        ("ConstantOfShape", {"a": torch.tensor([2**40])}, "ConstantOfShape 'grow' makes 1.1e\\+12 values"),
        ("Range", {"a": torch.tensor(0), "b": torch.tensor(2**40), "c": torch.tensor(1)}, "Range 'grow' makes"),
    ],
)
def test_what_grows_without_measure_is_refused_before_it_does(
    kind: str, tensors: dict[str, Tensor], words: str, tmp_path: Path
) -> None:
    reads = list(tensors) if kind in ("ConstantOfShape", "Range") else ["x", *tensors]
    node = onnx.helper.make_node(kind, reads, ["y"], name="grow")
    with pytest.raises(ConversionError, match=words):
        snnconv.from_onnx(saved(tmp_path / "a.onnx", [node], tensors))


def test_outputs_are_compared_in_parts_and_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnconv.export.onnx_in.reader.PART", 3)
    want = torch.tensor([1.0, float("nan"), -2.0, float("inf"), 1000.0, 0.0, 5.0, 3.0])
    assert _close(want.clone(), want)
    off = torch.zeros(8)
    off[7] = 0.9  # of the largest, 1000, a thousandth may be missing
    assert _close(want + off, want)
    assert not _close(want + 2 * off, want)
    assert not _close(want, want.nan_to_num(nan=0.0))


def test_the_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = onnx.helper.make_node("Tile", ["x", "a"], ["y"], name="grow")
    path = saved(tmp_path / "a.onnx", [node], {"a": torch.tensor([1, 4])})
    monkeypatch.setattr("snnconv.limits.VALUES", 30)
    with pytest.raises(ConversionError, match=r"more than snnconv\.limits\.VALUES = 30"):
        snnconv.from_onnx(path)
    monkeypatch.setattr("snnconv.limits.VALUES", 36)  # three samples of twelve
    assert snnconv.from_onnx(path)(torch.ones(2, 3)).shape == (2, 12)


@pytest.mark.parametrize("name", ["class", "self", "torch", "forward", "graph", "1x", "\u00b2", "a.b", "x" * 5000])
def test_names_that_python_has_for_itself_are_read(name: str, tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Relu", [name], ["a"], name=name),
        onnx.helper.make_node("Gemm", ["a", "w"], ["y"], name=name),
    ]
    module = snnconv.from_onnx(saved(tmp_path / "a.onnx", nodes, {"w": torch.eye(3)}, name))
    assert module(torch.tensor([[1.0, -2.0, 3.0]])).tolist() == [[1.0, 0.0, 3.0]]


def test_a_tensor_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(36))
    (tmp_path / "in").mkdir()
    model = graph([onnx.helper.make_node("Gemm", ["x", "w"], ["y"])], {"w": torch.eye(3)}, ["n", 3], ["n", 3])
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../secret", offset=0, length=36)
    model.graph.initializer[0].ClearField("raw_data")
    (tmp_path / "in" / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match=r"a\.onnx: not a readable ONNX file"):
        snnconv.from_onnx(tmp_path / "in" / "a.onnx")


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"])
    with pytest.raises(ConversionError, match="tensor 'w' holds NaN"):
        snnconv.from_onnx(saved(tmp_path / "a.onnx", [node], {"w": torch.full((3, 3), float("nan"))}))
