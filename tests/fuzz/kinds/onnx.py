"""ONNX files of other tools."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

import snnconv
from snnconv.export.onnx_in.calls import OPERATORS
from tests.fuzz.changes import LINE, PAYLOAD, Changed, changed_bytes
from tests.fuzz.kind import Kind, WrongError

NUMBERS = (0, 1, -1, 2, 3, 7, 100, -5, 2**20, 2**31, 2**40, 2**62, -(2**40))
WORDS = ("", "x", "class", "self", "torch", "forward", "graph", "code", "1x", "a.b", "²", PAYLOAD, LINE, "a" * 5000)
KINDS_OF_NODES = ("Loop", "If", "Constant", "os.system", "Relu", "Tile", "Expand", "ConstantOfShape", "Range", "Pad")


@functools.cache
def samples() -> dict[str, bytes]:
    """A convolutional network, and one that computes with sizes."""
    draw = np.random.default_rng(0)

    def tensors(**shapes: Any) -> list[Any]:
        return [
            numpy_helper.from_array(
                np.array(shape, np.int64) if isinstance(shape, list) else draw.normal(size=shape).astype(np.float32),
                name,
            )
            for name, shape in shapes.items()
        ]

    node = helper.make_node
    conv = [
        node("Conv", ["x", "w", "b"], ["a"], name="conv", pads=[1, 1, 1, 1], strides=[2, 2], kernel_shape=[3, 3]),
        node("Relu", ["a"], ["r"], name="relu"),
        node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"], name="flatten", axis=1),
        node("Gemm", ["f", "v", "c"], ["y"], name="fc", transB=1),
    ]
    sizes = [
        node("Shape", ["x"], ["s"], name="shape"),
        node("Gather", ["s", "first"], ["n"], name="gather", axis=0),
        node("Concat", ["n", "rest"], ["to"], name="concat", axis=0),
        node("MatMul", ["x", "v"], ["m"], name="matmul"),
        node("Reshape", ["m", "to"], ["q"], name="reshape"),
        node("Softmax", ["q"], ["z"], name="softmax", axis=-1),
        node("Slice", ["z", "start", "end", "axis"], ["t"], name="slice"),
        node("Tile", ["t", "times"], ["u"], name="tile"),
        node("ReduceMean", ["u"], ["k"], name="mean", axes=[1], keepdims=0),
        node("Pad", ["k", "pads"], ["y"], name="pad"),
    ]
    made = {
        "conv.onnx": (conv, tensors(w=(4, 2, 3, 3), b=(4,), v=(5, 16), c=(5,)), ["n", 2, 8, 8], ["n", 5]),
        "sizes.onnx": (
            sizes,
            tensors(
                v=(6, 12), first=[0], rest=[3, 4], start=[0], end=[2], axis=[2], times=[1, 1, 3], pads=[0, 1, 0, 1]
            ),
            ["n", 6],
            ["n", 8],
        ),
    }
    found = {}
    for name, (nodes, weights, shape, out) in made.items():
        given, gives = (
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", out))
        )  # fmt: skip
        graph = helper.make_graph(nodes, "g", [given], [gives], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        found[name] = model.SerializeToString()
    return found


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes of the file, or a node, a setting, a tensor, a name or a size in it."""
    if draw.random() < 0.3:
        return changed_bytes(content, draw)
    model = onnx.load_model_from_string(content)
    graph, how = model.graph, []
    for _ in range(draw.choice((1, 1, 1, 2))):
        edit = draw.choice((_operator, _setting, _tensor, _nodes, _name, _size, _outside))
        edit(model, graph, draw)
        how.append(edit.__name__[1:])
    return Changed(model.SerializeToString(), "+".join(how), True)


def _operator(model: Any, graph: Any, draw: random.Random) -> None:
    if graph.node:
        draw.choice(graph.node).op_type = draw.choice((*sorted(OPERATORS), *KINDS_OF_NODES, *WORDS))


def _setting(model: Any, graph: Any, draw: random.Random) -> None:
    nodes = [n for n in graph.node if n.attribute]
    if not nodes:
        return
    node = draw.choice(nodes)
    entry = draw.choice(node.attribute)
    name = draw.choice((entry.name, entry.name, "group", "dilations", "axis", "to", "value", "auto_pad", "ceil_mode"))
    node.attribute.remove(entry)
    odd: Any = draw.choice(
        (draw.choice(NUMBERS), [draw.choice(NUMBERS)] * draw.randint(1, 5), 0.5, float("nan"), draw.choice(WORDS[1:]))
    )
    node.attribute.append(helper.make_attribute(name, odd))


def _tensor(model: Any, graph: Any, draw: random.Random) -> None:
    if not graph.initializer:
        return
    place = draw.randrange(len(graph.initializer))
    tensor = graph.initializer[place]
    what = draw.choice(("value", "value", "dims", "type", "bytes", "name"))
    if what == "value":
        values = numpy_helper.to_array(tensor).copy() if not tensor.external_data else np.zeros(2, np.float32)
        if values.size:
            odd = draw.choice(NUMBERS) if values.dtype.kind == "i" else draw.choice((0, 1e30, float("nan"), -1, 7))
            values.flat[draw.randrange(values.size)] = odd
        graph.initializer[place].CopyFrom(numpy_helper.from_array(values, tensor.name))
    elif what == "dims":
        tensor.dims.append(draw.choice((0, 1, 2, 2**40, -1)))
    elif what == "type":
        tensor.data_type = draw.choice((0, 1, 6, 7, 8, 9, 10, 11, 14, 16, 17, 22, 99))
    elif what == "bytes":
        tensor.raw_data = tensor.raw_data[: draw.randrange(len(tensor.raw_data) + 1)]
    else:
        tensor.name = draw.choice(WORDS)


def _nodes(model: Any, graph: Any, draw: random.Random) -> None:
    if not graph.node:
        return
    node = draw.choice(graph.node)
    if draw.random() < 0.5:
        graph.node.remove(node)
    else:
        graph.node.add().CopyFrom(node)


def _name(model: Any, graph: Any, draw: random.Random) -> None:
    """A value has another name wherever it stands, or one node has."""
    word = draw.choice(WORDS)
    if draw.random() < 0.3 and graph.node:
        draw.choice(graph.node).name = word
        return
    names = [i.name for i in (*graph.input, *graph.output, *graph.initializer)]
    old = draw.choice(names or ["x"])
    everywhere = draw.random() < 0.7
    for entry in (*graph.input, *graph.output, *graph.initializer):
        entry.name = word if entry.name == old else entry.name
    for node in graph.node if everywhere else ():
        for names_ in (node.input, node.output):
            names_[:] = [word if n == old else n for n in names_]


def _size(model: Any, graph: Any, draw: random.Random) -> None:
    entry = draw.choice((*graph.input, *graph.output, *graph.input))
    dims = entry.type.tensor_type.shape.dim
    if draw.random() < 0.2:
        entry.type.tensor_type.elem_type = draw.choice((0, 2, 7, 8, 9, 10, 11, 16, 99))
    elif dims and draw.random() < 0.8:
        draw.choice(dims).dim_value = draw.choice(NUMBERS)
    else:
        dims.add().dim_value = 2
    if draw.random() < 0.2:
        model.opset_import[0].version = draw.choice((1, 6, 9, 11, 13, 18, 21, 10**6, -1))


def _outside(model: Any, graph: Any, draw: random.Random) -> None:
    """A tensor that lies in another file."""
    tensors = [t for t in graph.initializer if t.HasField("raw_data")]
    if tensors:
        tensor = draw.choice(tensors)
        place = draw.choice(("/etc/hostname", "../../etc/hostname", "gone.bin", "/dev/zero", "", "."))
        onnx.external_data_helper.set_external_data(tensor, place, offset=0, length=draw.choice((0, 16, 2**40)))
        tensor.ClearField("raw_data")


def read(path: Path) -> Any:
    """The names of the layers, and what the module answers to noise."""
    module = snnconv.from_onnx(path)
    drawn = torch.Generator().manual_seed(1)
    graph = onnx.load(str(path)).graph
    weights = {t.name for t in graph.initializer}
    given = []
    for entry in (i for i in graph.input if i.name not in weights):
        kind = entry.type.tensor_type
        x = torch.rand(2, *(d.dim_value for d in kind.shape.dim[1:]), generator=drawn)
        given.append(x.to(torch.from_numpy(np.zeros(0, helper.tensor_dtype_to_np_dtype(kind.elem_type))).dtype))
    try:
        return [name for name, _ in module.named_children()], module(*given)
    except Exception as error:
        raise WrongError("refused late", error) from error


KIND = Kind(samples, change, read, (snnconv.ConversionError,), needs=("onnx",))
