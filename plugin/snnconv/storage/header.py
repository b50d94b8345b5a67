"""What the header of a saved network says, field by field, and what its fields must say of each other."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_type_hints

from torch import Tensor

from snnconv import limits
from snnconv.dynamics import neuron
from snnconv.dynamics.threshold import check_threshold
from snnconv.files.refusal import brief
from snnconv.graph import activation
from snnconv.graph.sizes import Sizes
from snnconv.graph.source import ConversionError, Site
from snnconv.methods.base import Method
from snnconv.neurons.frameworks import FRAMEWORKS
from snnconv.report import ConversionReport
from snnconv.runtime.sequence import INPUTS
from snnconv.runtime.signature import Entry
from snnconv.storage.graph_json import DTYPES, decode, encode, node_of
from snnconv.storage.typed import read

__all__ = ["FORMAT", "VERSION", "Header", "groups_of", "site_values"]

FORMAT = "snnconv"
VERSION = 2
"""The format that `save` writes: 2 holds the neurons' own thresholds (1: θ of each site, as ``thresholds/...``), the
release, the digest of the source network, and one of the file."""

GROUPS = ("neurons", "trained", "weights", "biases")
"""Kinds of tensors: the first part of their names."""


@dataclass(frozen=True)
class InputSpec:
    """``SpikingNetwork.input_spec``: the inputs, and what a run holds of them."""

    shape: list[int] | None = None
    dtype: str | None = None
    floating: bool | None = None
    whole_batch: bool = False
    inputs: list[Entry] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    constants: dict[str, bool | int | float | str | None] = field(default_factory=dict)
    widest: int = 0
    neurons: int = 0
    constant_bytes: int = 0
    step_bytes: int = 0
    input: str = "constant"


@dataclass(frozen=True)
class Header:
    """The header.

    Attributes:
        path: how the network runs: as a ``"graph"``, or call by call in its ``"module tree"``.
        method: :meth:`~snnconv.methods.Method.to_dict`.
        framework: whose neurons it has.
        delay: steps left out of the readout.
        input_spec: what is known of the input.
        memory_budget: bytes that a run may take.
        sites: the populations of neurons, in order.
        tensors: names of all tensors, in order.
        precision, report, notes: as in the network.
        source_digest: :func:`~snnconv.files.fingerprint.digest` of the network that was converted.
        nodes: of a graph.
        sizes: for inputs of which sizes a graph holds (:class:`~snnconv.graph.sizes.Sizes`), where not for all.
        architecture, analog, synapses: of a module tree: the class of the model, and what was noted of its calls.
    """

    path: Literal["graph", "module tree"]
    method: dict[str, Any]
    framework: str
    delay: int
    input_spec: dict[str, Any]
    memory_budget: int
    sites: list[dict[str, Any]]
    tensors: list[str]
    precision: Literal["float32", "int8"] = "float32"
    report: ConversionReport | None = None
    notes: list[str] = field(default_factory=list)
    source_digest: str | None = None
    nodes: list[Any] = field(default_factory=list)
    sizes: dict[str, Any] | None = None
    architecture: str = ""
    analog: dict[str, str] = field(default_factory=dict)
    synapses: list[str] = field(default_factory=list)

    # ------------------------------------------------------------------ text

    def text(self) -> str:
        """The header as JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["report"] = None if self.report is None else self.report.to_dict()
        encoded = {key: encode(value, key) for key, value in values.items()}
        return json.dumps(encoded, ensure_ascii=False, allow_nan=False)

    @classmethod
    def of(cls, text: str, version: int) -> Header:
        """Inverse of `text`.

        Raises:
            ConversionError: a text that is no header, fields that are missing, unknown or of another type.
        """
        values = decode(text)
        if version == 1:
            values = _from_version_1(values)
        header = read(cls, values, "header")
        return replace(header, nodes=[node_of(node, number) for number, node in enumerate(header.nodes)])

    # ------------------------------------------------------------------ what fits

    @functools.cached_property
    def method_(self) -> Method:
        """The method.

        Raises:
            ConversionError: an unknown one, or choices that it refuses.
        """
        try:
            method = Method.from_dict(self.method)
            neuron.get(method.neuron)
            return method
        except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
            raise ConversionError(f"method: {brief(error)}") from error

    def check(self, groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Site]:
        """The sites; refuses what contradicts the method, or the tensors.

        Args:
            groups: the tensors, by group and name.

        Raises:
            ConversionError: names the field.
        """
        method = self.method_
        if self.framework not in FRAMEWORKS:
            raise ConversionError(f"framework must be one of {', '.join(FRAMEWORKS)}, got {self.framework!r:.200}")
        self._check_delay(method)
        if self.memory_budget < 1:
            raise ConversionError(f"memory_budget is {self.memory_budget}: it is a number of bytes, 1 or more")
        _check_input_spec(self.input_spec)
        self.sizes_()
        if (self.path == "graph") != bool(self.nodes):
            raise ConversionError(f"path is {self.path!r:.200}, and there are {len(self.nodes)} nodes")
        if self.precision == "int8" and self.path != "graph":
            raise ConversionError("precision is 'int8', which a module tree does not have")
        if self.report is not None and self.report.path != self.path:
            raise ConversionError(f"path is {self.path!r:.200}, and report.path {self.report.path!r:.200}")
        return self._check_sites(method, groups)

    def sizes_(self) -> Sizes | None:
        """The sizes.

        Raises:
            ConversionError: what is no such thing.
        """
        return None if self.sizes is None else Sizes.from_dict(self.sizes)

    def _check_delay(self, method: Method) -> None:
        asked = method.delay_
        most = max(0, method.timesteps - 1)
        if not 0 <= self.delay <= most or (asked != "auto" and self.delay != (asked or 0)):
            wanted = f"0 … {most}" if asked == "auto" else str(asked or 0)
            raise ConversionError(f"delay is {self.delay}, and {method} has {wanted}")

    def _check_sites(self, method: Method, groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Site]:
        neurons, trained = groups["neurons"], groups["trained"]
        found: dict[str, Site] = {}
        for number, values in enumerate(self.sites):
            site = _site_of(values, f"sites[{number}]", trained)
            if site.name in found:
                raise ConversionError(f"there are two sites {site.name!r:.200}")
            if site.function.unit and method.coding != "rate":
                raise ConversionError(
                    f"site {site.name!r:.80} is a rate norm layer, which {method.name} does not convert"
                )
            if site.name not in neurons:
                raise ConversionError(f"site {site.name!r:.200} has no threshold")
            if site.axis == 0 and neurons[site.name].numel() > 1:
                raise ConversionError(f"site {site.name!r:.200}: axis 0 is no channel axis (0 is the batch)")
            for what, theta in (("threshold", neurons[site.name]), ("trained threshold", site.threshold)):
                if theta is not None:
                    _check_theta(site.name, what, theta)
            found[site.name] = site
        if not found:
            raise ConversionError("there is no site, so that nothing spikes")
        unknown = next((name for name in method.layers if name not in found), None)
        if unknown is not None:
            raise ConversionError(f"method: its layers name {unknown!r:.200}, which is no site")
        for group in ("neurons", "trained", "biases"):
            odd = next((name for name in groups[group] if name not in found), None)
            if odd is not None:
                raise ConversionError(f"tensor '{group}/{odd}' belongs to no site")
        if groups["biases"] and self.path == "graph":
            raise ConversionError("a graph has its biases among its weights, and this one has others")
        return found


def site_values(site: Site) -> dict[str, Any]:
    """A site without its tensors."""
    return {"name": site.name, "axis": site.axis, "cap": None, "levels": None} | site.function.to_dict()


@functools.cache
def _parameters(kind: type[activation.Activation]) -> dict[str, Any]:
    """Types of what a kind of activation takes, by name."""
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _site_of(values: dict[str, Any], place: str, trained: Mapping[str, Tensor]) -> Site:
    for name in ("name", "kind", "axis"):
        if name not in values:
            raise ConversionError(f"{place}: {name!r:.200} is missing")
    name, axis = read(str, values["name"], f"{place}.name"), read(int, values["axis"], f"{place}.axis")
    kind = activation.get(read(str, values["kind"], f"{place}.kind"))
    if not -8 <= axis <= 8:
        raise ConversionError(f"site {name!r:.200}: axis {axis} is no channel axis")
    hints = _parameters(kind)
    parameters = {}
    for key, value in values.items():
        if key in hints:
            parameters[key] = read(hints[key], value, f"{place}.{key}") if value is not None else None
        elif key not in ("name", "axis", "kind") and value is not None:
            raise ConversionError(f"{place} has a field {key!r:.200}, which a {kind.name} does not have")
    own = next((key for key, hint in hints.items() if hint is Tensor), "threshold")  # a kind has one at most
    tensors = {own: trained[name]} if name in trained else {}
    try:
        given = {k: v for k, v in parameters.items() if v is not None} | {"kind": kind.name}
        site = Site(name, activation.Activation.from_dict(given, tensors), axis)
    except ConversionError as error:
        raise ConversionError(f"site {name!r:.200}: {error}") from error
    if site.cap is not None and not 0 < site.cap < float("inf"):
        raise ConversionError(f"site {name!r:.200}: cap is {site.cap}: it must be positive and finite")
    if site.levels is not None and site.levels < 1:
        raise ConversionError(f"site {name!r:.200}: it has {site.levels} levels: 1 or more")
    return site


def _check_theta(site: str, what: str, theta: Tensor) -> None:
    if not theta.is_floating_point() or theta.dim() > 1 or not theta.numel():
        raise ConversionError(
            f"site {site!r:.200}: its {what} is a tensor {tuple(theta.shape)} of {theta.dtype}: it must be one number, "
            "or one a channel"
        )
    try:
        check_threshold(theta, f"site {site!r:.200}: its {what}")
    except ValueError as error:
        raise ConversionError(str(error)) from error


def _check_input_spec(spec: dict[str, Any]) -> None:
    found = read(InputSpec, spec, "input_spec")
    entries = [*found.inputs]
    if found.shape is not None:
        if found.dtype is None or found.floating is None:
            raise ConversionError("input_spec has a shape, and no dtype or floating")
        first = next((entry for entry in entries if entry.batch), next(iter(entries), None))
        entries.append(Entry("shape", tuple(found.shape), found.dtype, found.floating))
        if first is not None and replace(first, name="shape", batch=True) != entries[-1]:
            raise ConversionError(f"input_spec: shape, dtype and floating are not those of input {first.name!r:.200}")
    for entry in entries:
        if any(not 0 <= size <= limits.SIZE for size in entry.shape):
            raise ConversionError(f"input_spec: {entry.name} has the shape {list(entry.shape)}")
        if entry.dtype not in DTYPES or DTYPES[entry.dtype].is_floating_point != entry.floating:
            raise ConversionError(
                f"input_spec: {entry.name} has dtype {entry.dtype!r:.80}, which is unknown, or "
                f"floating={entry.floating} "
                "contradicts it"
            )
    if found.input not in INPUTS:
        raise ConversionError(f"input_spec.input is {found.input!r:.200}: it is one of {INPUTS}")
    known = [name.removeprefix("*") for name in found.parameters]
    given = [*(entry.name.partition("[")[0] for entry in found.inputs), *found.constants]
    odd = [name for name in given if known and name not in known]
    if odd or len({*known}) != len(known):
        raise ConversionError(f"input_spec: input {(odd or known)[0]!r:.200} is not one of the parameters, each once")
    for name in ("widest", "neurons", "constant_bytes", "step_bytes"):
        if getattr(found, name) < 0:
            raise ConversionError(f"input_spec.{name} is {getattr(found, name)}: it is 0 or more")


def _from_version_1(values: dict[str, Any]) -> dict[str, Any]:
    """Fields of format 1 under today's names; ``coding`` and ``max_pool`` are the method's."""
    values = dict(values)
    try:
        method = Method.from_dict(values["method"])
    except KeyError as error:
        raise ConversionError(f"damaged header: {brief(error)} is missing") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ConversionError(f"method: {brief(error)}") from error
    for name in ("coding", "max_pool"):
        if name in values and values.pop(name) != getattr(method, name):
            raise ConversionError(f"{name} is not that of {method}, which is {getattr(method, name)!r:.200}")
    if "class" in values:
        values["architecture"] = values.pop("class")
    if isinstance(values.get("tensors"), list):
        values["tensors"] = [
            f"neurons/{name.removeprefix('thresholds/')}"
            if isinstance(name, str) and name.startswith("thresholds/")
            else name
            for name in values["tensors"]
        ]
    return values


# --- tensors -----------------------------------------------------------------------------------------------


def groups_of(names: list[str], tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by kind, in the order in which the saved network held them.

    Raises:
        ConversionError: a tensor that is missing, listed twice, or not listed.
    """
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
    for name in names:
        group, _, leaf = name.partition("/")
        if group not in groups:
            raise ConversionError(f"tensor {name!r:.200} is of unknown kind; known: {', '.join(GROUPS)}")
        if name not in tensors:
            raise ConversionError(f"tensor {name!r:.200} is missing")
        if leaf in groups[group]:
            raise ConversionError(f"tensor {name!r:.200} is listed twice")
        groups[group][leaf] = tensors[name]
    spare = {*tensors} - {*names}
    if spare:
        raise ConversionError(f"tensor {min(spare)!r:.200} is in the file and not in its list")
    return groups
