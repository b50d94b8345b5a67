"""Saving and loading converted networks: safetensors with a JSON header, no pickle, no code."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconv import methods
from snnconv.dynamics import neuron
from snnconv.files.atomic import write_whole
from snnconv.graph.ops import METHODS, SHAPE_ATTRIBUTES, VIEW_ATTRIBUTES, qualified_name, resolve
from snnconv.graph.source import ConversionError, Site, SourceGraph, activation_site
from snnconv.graph.store import Store
from snnconv.methods.base import Method
from snnconv.network import SpikingNetwork
from snnconv.report import ConversionReport
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.tree import TreeProgram

__all__ = ["load", "save"]

FORMAT = "snnconv"
VERSION = 2
READS = ("1", "2")
"""Versions that `load` takes; 1 held θ of each site, later ones what the neurons hold."""
SITE = "site"
_ATTRIBUTES = SHAPE_ATTRIBUTES | VIEW_ATTRIBUTES
"""What ``getattr`` in a saved network may ask for."""
_DTYPES = {str(v).removeprefix("torch."): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
_FORMATS = {
    str(v).removeprefix("torch."): v
    for v in (torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.channels_last_3d)
}
_META = ("path", "pre_neuron")


# --- public ------------------------------------------------------------------------------------------------


def save(snn: SpikingNetwork, path: str | os.PathLike[str]) -> None:
    """Write a converted network to a safetensors file.

    The file holds tensors (weights, thresholds) and a JSON header (the graph's operators by name, sites,
    method, report). It is written beside ``path`` and moved there when complete: ``path`` is the old file or
    the new one, never half of it.

    Args:
        snn: the network that :func:`snnconv.convert` gave.
        path: the file to write; its folder must exist.

    Raises:
        ConversionError: the network has a part that is Python code rather than an operator; the message names
            it.
        OSError: the file cannot be written; the message names it.

    >>> import tempfile, snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> x = torch.randn(64, 4)
    >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=4), calibration=x)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     snnconv.save(snn, f"{folder}/net.safetensors")
    ...     bool((snnconv.load(f"{folder}/net.safetensors")(x) == snn(x)).all())
    True
    """
    if not isinstance(snn, SpikingNetwork):
        raise TypeError(f"save takes a network that snnconv.convert made, got {type(snn).__name__}")
    program = snn.program
    tensors = {f"neurons/{name}": torch.as_tensor(snn.neurons[name].v_threshold) for name in snn.neurons}
    header: dict[str, Any] = {
        "method": snn.method.to_dict(),
        "framework": snn.framework,
        "delay": snn.delay,
        "input_spec": snn.input_spec,
        "memory_budget": snn.memory_budget,
        "precision": snn.precision,
        "report": snn.report.to_dict() if snn.report is not None else None,
        "coding": snn.method.coding,
        "max_pool": snn.method.max_pool,
        "notes": list(program.notes),
        "sites": [_site_values(site) for site in program.sites.values()],
    }
    tensors |= {f"trained/{k}": s.threshold for k, s in program.sites.items() if s.threshold is not None}
    if isinstance(program, GraphProgram):
        _refuse_modules(program.source)
        header |= {"path": "graph", "nodes": [_node_values(n) for n in program.source.graph.nodes]}
        tensors |= {f"weights/{k}": v for k, v in program.source.tensors.items()}
    elif isinstance(program, TreeProgram):
        header |= {"path": "module tree", "analog": program.analog, "synapses": program.synapses}
        header["class"] = type(program.model).__name__
        tensors |= {f"weights/{k}": v for k, v in program.model.state_dict().items() if isinstance(v, Tensor)}
        tensors |= {f"biases/{k}": v for k, v in program.biases.items()}
    else:
        raise ConversionError(f"a network that runs as a {type(program).__name__} cannot be saved")
    header["tensors"] = list(tensors)
    encoded = {key: _encode(value, key) for key, value in header.items()}
    _write(Path(path), tensors, json.dumps(encoded, ensure_ascii=False, allow_nan=False))


def load(path: str | os.PathLike[str], model: nn.Module | None = None) -> SpikingNetwork:
    """Read a network that :func:`save` wrote, onto the CPU.

    No code from the file runs: operators are looked up by name in a fixed table.

    Args:
        path: the file.
        model: for a network that was converted call by call because it does not trace: the same architecture
            (its weights do not matter and it is not changed). Not needed otherwise.

    Raises:
        FileNotFoundError: there is no such file.
        ConversionError: a damaged file, a file of something else, a newer format, or a ``model`` that does
            not fit.
    """
    path = Path(path)
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT:
        raise ConversionError(
            f"{path}: not a converted network (a safetensors file without the {FORMAT!r} format mark); "
            "files for load are written by snnconv.save"
        )
    if metadata.get("version") not in READS:
        raise ConversionError(
            f"{path}: format version {metadata.get('version')}, this release reads version {VERSION}; "
            "upgrade snnconv-plugin, or convert the network again"
        )
    with _damage(path):
        header = {key: _decode(value) for key, value in json.loads(metadata["network"]).items()}
        _known(header["method"]["name"])
        missing = [name for name in header["tensors"] if name not in tensors]
        if missing:
            raise ConversionError(f"tensor {missing[0]!r} is missing")
        groups = _groups(header["tensors"], tensors)
        sites = _sites(header["sites"], groups["trained"])
        held = groups["thresholds" if metadata["version"] == "1" else "neurons"]
        absent = [name for name in sites if name not in held]
        if absent:
            raise ConversionError(f"site {absent[0]!r} has no threshold")
        method = Method.from_dict(header["method"])
        report = None if header["report"] is None else ConversionReport.from_dict(header["report"])
    if header["path"] == "graph":
        with _damage(path):
            source = _source(header["nodes"], groups["weights"], sites, header["notes"])
            program: Program = GraphProgram(source, header["coding"], header["max_pool"])
    else:
        program = _tree(path, header, model, sites, groups)
    with _damage(path):
        network = SpikingNetwork(
            program,
            method,
            {name: held[name] for name in sites},
            header["framework"],
            report,
            header["delay"],
            header["input_spec"],
        )
        if metadata["version"] != "1":  # not θ, which the neurons of some methods divide
            for name in sites:
                network.neurons[name].v_threshold = held[name]
        network.memory_budget = header["memory_budget"]
    with _damage(path):
        try:
            network.precision = header.get("precision", "float32")
        except RuntimeError as error:
            warnings.warn(f"{path} was saved with 8-bit layers; they run in float32: {error}", stacklevel=4)
    return network


# --- files -------------------------------------------------------------------------------------------------


def _write(path: Path, tensors: dict[str, Tensor], network: str) -> None:
    from safetensors.torch import save as serialise

    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: the folder {folder} does not exist; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it")
    # clones: tensors that share memory (tied weights) are written one by one
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    content = serialise(plain, {"format": FORMAT, "version": str(VERSION), "network": network})
    try:
        write_whole(path, content)
    except OSError as error:
        raise type(error)(error.errno, f"cannot write {path}: {error.strerror or error}") from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the file that snnconv.save wrote")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with safe_open(str(path), framework="pt") as file:
            # a clone: what safetensors gives is a view of the file, which another save may replace
            return dict(file.metadata() or {}), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ConversionError(
            f"{path}: not a readable safetensors file ({error}); it is truncated, damaged or something else; "
            "save the network again"
        ) from error


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Whatever a header makes go wrong means that the file is damaged: say so, and which file."""
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error
    except KeyError as error:
        raise ConversionError(f"{path}: damaged header: {error} is missing") from error
    except (ValueError, TypeError, AttributeError, IndexError, RuntimeError, RecursionError) as error:
        raise ConversionError(f"{path}: damaged header: {error}") from error


def _known(name: str) -> None:
    """Refuse a method that is not registered here, or its neuron: the file is whole, a module is missing."""
    try:
        neuron.get(methods.get(name).neuron)
    except ValueError as error:
        raise ConversionError(str(error)) from None


def _groups(names: list[str], tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by kind, in the order in which the saved network held them."""
    groups: dict[str, dict[str, Tensor]] = {
        group: {} for group in ("weights", "thresholds", "neurons", "trained", "biases")
    }
    for name in names:
        group, _, leaf = name.partition("/")
        groups[group][leaf] = tensors[name]
    return groups


# --- sites -------------------------------------------------------------------------------------------------


def _site_values(site: Site) -> dict[str, Any]:
    return {"name": site.name, "kind": site.kind, "cap": site.cap, "axis": site.axis, "levels": site.levels}


def _sites(values: list[dict[str, Any]], trained: dict[str, Tensor]) -> dict[str, Site]:
    found = {v["name"]: Site(**v, threshold=trained.get(v["name"])) for v in values}
    for site in found.values():
        if site.kind not in ("relu", "quant", "rate_norm", "clip") or (site.kind != "relu" and site.threshold is None):
            raise ConversionError(f"site {site.name!r} is of unknown kind {site.kind!r}, or lacks its threshold")
    return found


# --- graphs ------------------------------------------------------------------------------------------------


def _refuse_modules(source: SourceGraph) -> None:
    if source.modules:
        names = ", ".join(f"{path} ({type(module).__name__})" for path, module in source.modules.items())
        raise ConversionError(
            f"cannot save {names}: kept as Python code, because its forward is no list of operators; "
            "write it with torch.nn.functional operators, or keep the source network and convert it again"
        )


def _where(node: fx.Node) -> str:
    return f"node {node.name!r} in {node.meta.get('path') or 'the network'}"


def _node_values(node: fx.Node) -> dict[str, Any]:
    """One operator as plain values."""
    target = str(node.target)
    if node.op == "call_function":
        name = SITE if node.target is activation_site else qualified_name(node.target)
        if name is None:
            raise ConversionError(
                f"{_where(node)}: operator {getattr(node.target, '__name__', target)!r} is Python code that "
                "cannot be written to a file; use a torch or torch.nn.functional operator instead"
            )
        if node.target is getattr:
            _check_attribute(node.args, _where(node))
        target = name
    elif node.op == "call_method" and target not in METHODS:
        raise ConversionError(
            f"{_where(node)}: tensor method {target!r} is not one that a saved network may use; use the torch function"
        )
    return {
        "op": node.op,
        "name": node.name,
        "target": target,
        "args": node.args,
        "kwargs": dict(node.kwargs),
        "meta": {k: node.meta[k] for k in _META if k in node.meta},
    }


def _check_attribute(args: tuple[Any, ...], where: str) -> None:
    if len(args) < 2 or args[1] not in _ATTRIBUTES:
        raise ConversionError(f"{where}: attribute {args[1:2]} is not one that a saved network may use")


def _source(
    nodes: list[dict[str, Any]], tensors: dict[str, Tensor], sites: dict[str, Site], notes: list[str]
) -> SourceGraph:
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}

    def link(value: Any) -> Any:
        if isinstance(value, _Reference):
            if value.name not in known:
                raise ConversionError(f"damaged header: node {value.name!r} is read before it is computed")
            return known[value.name]
        return _mapped(value, link)

    for values in nodes:
        op, name, target = values["op"], values["name"], values["target"]
        where = f"node {name!r}"
        args, kwargs = link(values["args"]), link(values["kwargs"])
        function: str | Callable[..., Any] = target
        if op == "call_function":
            if target == SITE:
                function = activation_site
                if kwargs.get("site") not in sites:
                    raise ConversionError(f"{where}: unknown site {kwargs.get('site')!r}")
            else:
                function = resolve(target)
                if function is getattr:
                    _check_attribute(args, where)
        elif op == "call_method":
            if target not in METHODS:
                raise ConversionError(f"{where}: method {target!r} is not one that a saved network may use")
        elif op == "get_attr":
            if target not in tensors:
                raise ConversionError(f"{where}: weight {target!r} is missing")
        elif op not in ("placeholder", "output"):
            raise ConversionError(f"{where}: unknown kind of node {op!r}")
        node = graph.create_node(op, function, args, kwargs, name=name)
        node.meta.update(values["meta"])
        known[name] = node
    if not any(n.op == "output" for n in graph.nodes):
        raise ConversionError("damaged header: the network has no output")
    graph.lint()
    return SourceGraph(graph, tensors, sites, notes=list(notes))


# --- module trees ------------------------------------------------------------------------------------------


def _tree(
    path: Path,
    header: dict[str, Any],
    model: nn.Module | None,
    sites: dict[str, Site],
    groups: dict[str, dict[str, Tensor]],
) -> TreeProgram:
    with _damage(path):
        name, analog, synapses = header["class"], dict(header["analog"]), list(header["synapses"])
    if model is None:
        raise ConversionError(
            f"{path}: this network does not trace, so the file holds its weights but not its forward; "
            f"give the architecture it was converted from: load(path, model={name}(...))"
        )
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    program = TreeProgram(model, None, header["coding"], header["max_pool"], sites=sites)
    program.notes, program.analog, program.synapses = list(header["notes"]), analog, synapses
    program.biases = Store(groups["biases"])
    weights, own = groups["weights"], program.model.state_dict()
    problems = [f"{k} is not in the file" for k in own if k not in weights]
    problems += [f"{k} is only in the file" for k in weights if k not in own]
    problems += [
        f"{k} has shape {tuple(own[k].shape)}, in the file {tuple(v.shape)}"
        for k, v in weights.items()
        if k in own and own[k].shape != v.shape
    ]
    problems += program.misplaced()
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ConversionError(
            f"{path}: the given model ({type(model).__name__}) is not the architecture that was saved "
            f"({name}): {'; '.join(problems[:3])}{more}"
        )
    program.load_weights(weights)
    return program


# --- values as JSON ----------------------------------------------------------------------------------------


class _Reference:
    """Stands for a node by its name until the node exists."""

    def __init__(self, name: str) -> None:
        self.name = name


def _mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply ``function`` to the members of a container; other values as they are."""
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, tuple):
        return tuple(function(v) for v in value)
    if isinstance(value, list):
        return [function(v) for v in value]
    if isinstance(value, dict):
        return {k: function(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(function(value.start), function(value.stop), function(value.step))
    return value


def _encode(value: Any, where: str) -> Any:
    """A value as JSON: what JSON lacks becomes an object with one key that names its type.

    >>> _encode((1, float("inf"), torch.int8), "here")
    {'tuple': [1, {'float': 'inf'}, {'dtype': 'int8'}]}
    """
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, torch.Size):
        return {"size": [int(v) for v in value]}
    if type(value) is tuple:
        return {"tuple": [_encode(v, where) for v in value]}
    if isinstance(value, list):
        return [_encode(v, where) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        if "op" in value and "args" in value:
            where = f"node {value['name']!r} in {value['meta'].get('path') or 'the network'}"
        return {"dict": [[k, _encode(v, where)] for k, v in value.items()]}
    if isinstance(value, slice):
        return {"slice": [_encode(v, where) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, torch.memory_format):
        return {"memory_format": str(value).removeprefix("torch.")}
    if value is ...:
        return {"ellipsis": True}
    raise ConversionError(
        f"{where}: a {type(value).__name__} ({value!r:.80}) as an argument cannot be written to a file; "
        "pass a number, a string, a tuple or a registered tensor instead"
    )


def _decode(value: Any) -> Any:
    """Inverse of :func:`_encode`.

    >>> _decode({"slice": [None, 3, None]})
    slice(None, 3, None)
    """
    if isinstance(value, list):
        return [_decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ConversionError(f"damaged header: {list(value)[:3]} is no encoded value")
    kind, content = next(iter(value.items()))
    match kind:
        case "node":
            return _Reference(content)
        case "tuple":
            return tuple(_decode(v) for v in content)
        case "dict":
            return {str(k): _decode(v) for k, v in content}
        case "float":
            return float(content)
        case "slice":
            return slice(*(_decode(v) for v in content))
        case "size":
            return torch.Size(content)
        case "dtype":
            return _DTYPES[content]
        case "device":
            return torch.device(content)
        case "memory_format":
            return _FORMATS[content]
        case "ellipsis":
            return ...
    raise ConversionError(f"damaged header: unknown type of value {kind!r}")
