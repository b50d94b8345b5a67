"""Saving and loading converted networks: safetensors with a JSON header, no pickle, no code."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.files.atomic import write_whole
from snnconv.files.refusal import brief
from snnconv.files.seal import UNSEALED, is_sealed, sealed
from snnconv.graph.capture.fx import check_finite
from snnconv.graph.records import NodeRecord, graph_of, records, where
from snnconv.graph.source import ConversionError, Site, SourceGraph
from snnconv.graph.store import Store
from snnconv.graph.unwrap import unwrap
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.tree import TreeProgram
from snnconv.storage.graph_json import check_nodes
from snnconv.storage.header import FORMAT, VERSION, Header, groups_of, site_values
from snnconv.storage.trial import try_out

__all__ = ["load", "save"]


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
    tensors |= {f"trained/{k}": v for k, s in program.sites.items() for v in s.function.tensors().values()}
    own: dict[str, Any]
    if isinstance(program, GraphProgram):
        _refuse_modules(program.source)
        own = {"path": "graph", "nodes": [_named(record) for record in records(program.source.graph)]}
        own["sizes"] = None if program.source.sizes is None else program.source.sizes.to_dict()
        tensors |= {f"weights/{k}": v for k, v in program.source.tensors.items()}
    elif isinstance(program, TreeProgram):
        own = {"path": "module tree", "analog": program.analog, "synapses": program.synapses}
        own["architecture"] = type(program.model).__name__
        tensors |= {f"weights/{k}": v for k, v in program.model.state_dict().items() if isinstance(v, Tensor)}
        tensors |= {f"biases/{k}": v for k, v in program.biases.items()}
    else:
        raise ConversionError(f"a network that runs as a {type(program).__name__} cannot be saved")
    header = Header(
        method=snn.method.to_dict(),
        framework=snn.framework,
        delay=snn.delay,
        input_spec=snn.input_spec,
        memory_budget=snn.memory_budget,
        precision=snn.precision,  # type: ignore[arg-type]
        report=snn.report,
        notes=list(program.notes),
        sites=[site_values(site) for site in program.sites.values()],
        tensors=list(tensors),
        source_digest=snn.source_digest,
        **own,
    )
    text = header.text()
    _check(Header.of(text, VERSION), tensors)  # what is written can be read
    _write(Path(path), tensors, text)


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
    if model is not None and not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    content, metadata, tensors = _read(path)
    with _damage(path, metadata):
        version = _version(metadata)
        if version > 1 and not is_sealed(content, metadata["digest"]):
            raise ConversionError(
                "the file is damaged: what it holds is not what was written to it; copy it or save the network again"
            )
        header = Header.of(metadata["network"], version)
        if version == 1:
            tensors = {_renamed(name): tensor for name, tensor in tensors.items()}
        sites, groups = _check(header, tensors)
        program = _graph(header, sites, groups) if header.path == "graph" else _tree(header, model, sites, groups)
        network = _network(header, program, groups["neurons"], version)
        try_out(network)
        if header.precision == "int8":
            try:
                network.precision = "int8"
            except RuntimeError as error:
                warnings.warn(f"{path} was saved with 8-bit layers; they run in float32: {brief(error)}", stacklevel=2)
    return network


def _network(header: Header, program: Program, thresholds: dict[str, Tensor], version: int) -> SpikingNetwork:
    network = SpikingNetwork(
        program,
        header.method_,
        {name: thresholds[name] for name in program.sites},
        header.framework,
        header.report,
        header.delay,
        header.input_spec,
    )
    if version > 1:  # not θ, which the neurons of some methods divide
        for name in program.sites:
            network.neurons[name].v_threshold = thresholds[name]
    network.memory_budget = header.memory_budget
    network.source_digest = header.source_digest
    return network


def _check(header: Header, tensors: dict[str, Tensor]) -> tuple[dict[str, Site], dict[str, dict[str, Tensor]]]:
    """Sites and tensors of a header that contradicts neither itself nor its tensors."""
    groups = groups_of(header.tensors, tensors)
    for group in ("weights", "biases"):
        for name, tensor in groups[group].items():
            check_finite(name, tensor)
    sites = header.check(groups)
    if header.path == "graph":
        check_nodes(header.nodes, groups["weights"], list(sites))
    return sites, groups


# --- files -------------------------------------------------------------------------------------------------


def _write(path: Path, tensors: dict[str, Tensor], network: str) -> None:
    from safetensors.torch import save as serialise

    from snnconv._version import __version__

    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: the folder {folder} does not exist; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it")
    # clones: tensors that share memory (tied weights) are written one by one
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    metadata = {"format": FORMAT, "version": str(VERSION), "release": __version__, "network": network}
    content = sealed(serialise(plain, metadata | {"digest": UNSEALED.decode()}))
    try:
        write_whole(path, content)
    except OSError as error:
        raise type(error)(error.errno, f"cannot write {path}: {error.strerror or error}") from error


def _read(path: Path) -> tuple[bytes, dict[str, str], dict[str, Tensor]]:
    """A file's bytes, its metadata and its tensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors_of

    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the file that snnconv.save wrote")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not path.is_file():
        raise ConversionError(f"{path} is a pipe, a socket or a device; give the file that snnconv.save wrote")
    content = path.read_bytes()
    try:
        tensors = tensors_of(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise ConversionError(
            f"{path}: not a readable safetensors file ({brief(error)}); it is truncated, damaged or something else; "
            "save the network again"
        ) from error
    return content, metadata, tensors


def _version(metadata: dict[str, str]) -> int:
    """The format of a file.

    Raises:
        ConversionError: something else than a converted network, or a later format.
    """
    from snnconv._version import __version__

    if metadata.get("format") != FORMAT:
        raise ConversionError(
            f"not a converted network (a safetensors file without the {FORMAT!r:.200} format mark); files for load are "
            "written by snnconv.save"
        )
    text = metadata.get("version", "")
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and int(text)):
        raise ConversionError(f"the file is damaged: {text!r:.200} is no format version")
    if int(text) > VERSION:
        raise ConversionError(
            f"format version {text}, written by snnconv {metadata.get('release', 'of a later release')}; this is "
            f"snnconv {__version__}, which reads versions up to {VERSION}: upgrade snnconv-plugin, or convert the "
            "network again"
        )
    wanted = {"format", "version", "network"} | ({"release", "digest"} if int(text) > 1 else set())
    if {*metadata} != wanted:
        odd = min({*metadata} ^ wanted)
        raise ConversionError(f"damaged header: {odd!r:.200} is {'unknown' if odd in metadata else 'missing'}")
    return int(text)


@contextmanager
def _damage(path: Path, metadata: dict[str, str]) -> Iterator[None]:
    """Whatever the content of a file makes go wrong: say which file, and which release wrote it."""
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"{path}: {brief(error)}{_other_release(metadata)}") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError) as error:
        raise ConversionError(f"{path}: damaged header: {type(error).__name__}: {brief(error)}") from error


def _other_release(metadata: dict[str, str]) -> str:
    """A hint where another release wrote the file."""
    from snnconv._version import __version__

    release = metadata.get("release", __version__)
    return "" if release == __version__ else f" (written by snnconv {release}; this is snnconv {__version__})"


def _renamed(name: str) -> str:
    """Name of a tensor of format 1 in today's."""
    return f"neurons/{name.removeprefix('thresholds/')}" if name.startswith("thresholds/") else name


# --- programs ----------------------------------------------------------------------------------------------


def _refuse_modules(source: SourceGraph) -> None:
    if source.modules:
        names = ", ".join(f"{path} ({type(module).__name__})" for path, module in source.modules.items())
        raise ConversionError(
            f"cannot save {names}: kept as Python code, because its forward is no list of operators; "
            "write it with torch.nn.functional operators, or keep the source network and convert it again"
        )


def _named(record: NodeRecord) -> NodeRecord:
    """A record whose operator has a name in the table."""
    if not isinstance(record.target, str):
        name = getattr(record.target, "__name__", str(record.target))
        raise ConversionError(
            f"{where(record)}: operator {name!r:.200} is Python code that cannot be written to a file; use a torch or "
            "torch.nn.functional operator instead"
        )
    return record


def _graph(header: Header, sites: dict[str, Site], groups: dict[str, dict[str, Tensor]]) -> GraphProgram:
    method = header.method_
    source = SourceGraph(graph_of(header.nodes), groups["weights"], sites, notes=list(header.notes))
    source.sizes = header.sizes_()
    return GraphProgram(source, method.coding, method.max_pool)


def _tree(
    header: Header, model: nn.Module | None, sites: dict[str, Site], groups: dict[str, dict[str, Tensor]]
) -> TreeProgram:
    name = header.architecture
    if model is None:
        raise ConversionError(
            "this network does not trace, so the file holds its weights but not its forward; "
            f"give the architecture it was converted from: load(path, model={name}(...))"
        )
    method = header.method_
    program = TreeProgram(unwrap(model).model, None, method.coding, method.max_pool, sites=sites)
    program.notes, program.analog, program.synapses = list(header.notes), dict(header.analog), list(header.synapses)
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
            f"the given model ({type(model).__name__}) is not the architecture that was saved "
            f"({name}): {'; '.join(problems[:3])}{more}"
        )
    program.load_weights(weights)
    return program
