"""Each operator of an ONNX file as the standard's own reference evaluates it, whatever the size of the batch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import snnconv
from snnconv import ConversionError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx.reference")

MAP, ROW, LINE = (4, 6, 6), (6,), (4, 9)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(*values: int) -> Tensor:
    return torch.tensor(values)


# operator: shape of an input, attributes, operands behind it
CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Any], list[Tensor]]] = {
    "conv": ("Conv", MAP, {"pads": [1, 1, 1, 1], "group": 2}, [drawn(6, 2, 3, 3), drawn(6)]),
    "conv, valid": ("Conv", MAP, {"auto_pad": "VALID", "strides": [2, 2]}, [drawn(3, 4, 3, 3)]),
    "conv, same lower": ("Conv", MAP, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, [drawn(3, 4, 3, 3)]),
    "conv 1d": ("Conv", LINE, {"dilations": [2]}, [drawn(3, 4, 3), drawn(3)]),
    "transposed": ("ConvTranspose", MAP, {"strides": [2, 2], "output_padding": [1, 1]}, [drawn(4, 3, 3, 3), drawn(3)]),
    "transposed, padded": ("ConvTranspose", MAP, {"pads": [1, 1, 1, 1]}, [drawn(4, 3, 3, 3)]),
    "gemm": ("Gemm", ROW, {"transB": 1, "alpha": 0.5, "beta": 2.0}, [drawn(3, 6), drawn(3)]),
    "gemm, no bias": ("Gemm", ROW, {}, [drawn(6, 3)]),
    "gemm, bias of one row": ("Gemm", ROW, {"alpha": 2.0, "beta": 0.5}, [drawn(6, 3), drawn(1, 3)]),
    "batch norm": ("BatchNormalization", MAP, {"epsilon": 1e-3}, [drawn(4), drawn(4), drawn(4), drawn(4).square()]),
    "batch norm 1d": ("BatchNormalization", LINE, {}, [drawn(4), drawn(4), drawn(4), drawn(4).square() + 0.1]),
    "layer norm": ("LayerNormalization", (5, 6), {"epsilon": 1e-4}, [drawn(6), drawn(6)]),
    "layer norm of two axes": ("LayerNormalization", (5, 6), {"axis": 1}, [drawn(5, 6)]),
    "instance norm": ("InstanceNormalization", MAP, {}, [drawn(4), drawn(4)]),
    "prelu": ("PRelu", MAP, {}, [drawn(4, 1, 1).abs()]),
    "selu": ("Selu", ROW, {}, []),
    "hard sigmoid": ("HardSigmoid", ROW, {}, []),
    "hard sigmoid of pytorch": ("HardSigmoid", ROW, {"alpha": 1 / 6, "beta": 0.5}, []),
    "clip": ("Clip", ROW, {}, [torch.tensor(-0.5), torch.tensor(0.7)]),
    "clip to 6": ("Clip", ROW, {}, [torch.tensor(0.0), torch.tensor(6.0)]),
    "power": ("Pow", ROW, {}, [torch.tensor(2.0)]),
    "modulo": ("Mod", ROW, {"fmod": 1}, [torch.tensor(0.3)]),
    "log softmax": ("LogSoftmax", ROW, {}, []),
    "dropout": ("Dropout", ROW, {}, []),
    "mean of all": ("ReduceMean", MAP, {"axes": [1, 2, 3], "keepdims": 0}, []),
    "sum": ("ReduceSum", MAP, {}, [whole(2, 3)]),
    "norm": ("ReduceL2", MAP, {"axes": [1]}, []),
    "max": ("ReduceMax", MAP, {"axes": [-1]}, []),
    "max pool": ("MaxPool", MAP, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}, []),
    "max pool, ceil": ("MaxPool", MAP, {"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1}, []),
    "average pool": ("AveragePool", MAP, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, []),
    "average pool, not counted": ("AveragePool", MAP, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, []),
    "global max": ("GlobalMaxPool", MAP, {}, []),
    "global average 1d": ("GlobalAveragePool", LINE, {}, []),
    "flatten": ("Flatten", MAP, {}, []),
    "flatten, two": ("Flatten", MAP, {"axis": 2}, []),
    "transpose": ("Transpose", MAP, {"perm": [0, 3, 1, 2]}, []),
    "slice": ("Slice", MAP, {}, [whole(1, 0), whole(4, 100), whole(2, 3), whole(2, 1)]),
    "gather one": ("Gather", MAP, {"axis": 1}, [torch.tensor(2)]),
    "gather some": ("Gather", MAP, {"axis": -1}, [whole(0, 3, 3)]),
    "squeeze": ("Squeeze", (4, 1, 3), {}, [whole(2)]),
    "unsqueeze": ("Unsqueeze", ROW, {}, [whole(1, -1)]),
    "pad": ("Pad", MAP, {}, [whole(0, 0, 1, 0, 0, 0, 2, 1), torch.tensor(0.5)]),
    "pad by mirroring": ("Pad", MAP, {"mode": "reflect"}, [whole(0, 0, 1, 2, 0, 0, 1, 2)]),
    "pad by edges": ("Pad", MAP, {"mode": "edge"}, [whole(0, 0, 1, 2, 0, 0, 1, 2)]),
    "tile": ("Tile", MAP, {}, [whole(1, 1, 2, 3)]),
    "resize": ("Resize", MAP, {"mode": "nearest"}, [torch.zeros(0), torch.tensor([1.0, 1.0, 2.0, 2.0])]),
    "depth to space": ("DepthToSpace", MAP, {"blocksize": 2, "mode": "CRD"}, []),
}


def model_of(name: str) -> tuple[Any, tuple[int, ...]]:
    kind, shape, attributes, operands = CASES[name]
    names = [f"c{i}" for i in range(len(operands))]
    node = onnx.helper.make_node(kind, ["x", *names], ["y"], name="n", **attributes)
    return file_of([node], dict(zip(names, operands, strict=True)), shape), shape


def file_of(nodes: list[Any], tensors: dict[str, Tensor], shape: tuple[int, ...]) -> Any:
    """A file that reads ``x`` ``[batch, *shape]``; standard inference says how many dimensions ``y`` has."""
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    given = [onnx.numpy_helper.from_array(v.numpy(), name) for name, v in tensors.items()]
    x, y = helper.make_tensor_value_info("x", real, ["batch", *shape]), helper.make_tensor_value_info("y", real, None)
    found = helper.make_graph(nodes, "g", [x], [y], given)
    return onnx.shape_inference.infer_shapes(
        helper.make_model(found, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )


@pytest.mark.parametrize("name", list(CASES))
def test_an_operator_is_what_the_standard_says(name: str, tmp_path: Path) -> None:
    model, shape = model_of(name)
    onnx.save(model, tmp_path / "one.onnx")
    module = snnconv.from_onnx(tmp_path / "one.onnx")
    evaluator = onnx.reference.ReferenceEvaluator(model)
    for batch in (1, 3):
        x = drawn(batch, *shape, seed=batch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (wanted,) = evaluator.run(None, {"x": x.numpy()})
        torch.testing.assert_close(module(x), torch.from_numpy(wanted), rtol=1e-4, atol=1e-5)


def test_a_sequence_is_cut_as_the_file_says(tmp_path: Path) -> None:
    node = onnx.helper.make_node
    nodes = [
        node("Split", ["x", "sizes"], ["a", "b", "c"], axis=1),
        node("Split", ["b"], ["d", "e"], axis=1),
        node("Concat", ["e", "c", "a", "d"], ["y"], axis=1),
    ]
    onnx.save(file_of(nodes, {"sizes": whole(1, 4, 1)}, (6,)), tmp_path / "cut.onnx")
    given = drawn(3, 6)
    torch.testing.assert_close(snnconv.from_onnx(tmp_path / "cut.onnx")(given), given[:, [3, 4, 5, 0, 1, 2]])


REFUSED = {
    "slope an element": ("PRelu", MAP, {}, [drawn(4, 6, 6)], "slope an element"),
    "other SELU": ("Selu", ROW, {"alpha": 1.0}, [], "other constants"),
    "one side": ("ConvTranspose", MAP, {"pads": [1, 0, 0, 0]}, [drawn(4, 3, 3, 3)], "not the same on both sides"),
    "backwards": ("Slice", ROW, {}, [whole(5), whole(0), whole(1), whole(-1)], "goes backwards"),
    "DCR": ("DepthToSpace", MAP, {"blocksize": 2}, [], "mode DCR"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_has_no_counterpart_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *case, words = REFUSED[name]
    monkeypatch.setitem(CASES, name, tuple(case))
    model, _ = model_of(name)
    onnx.save(model, tmp_path / "one.onnx")
    with pytest.raises(ConversionError, match=words):
        snnconv.from_onnx(tmp_path / "one.onnx")
