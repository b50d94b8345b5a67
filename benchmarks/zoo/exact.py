"""Whether a converted network is, layer by layer, the source network whose values are rounded at its neurons."""

from __future__ import annotations

import time
import warnings
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map_only

import snnconv
from benchmarks.zoo.networks import NETWORKS
from snnconv.graph.source import broadcast
from snnconv.metrics.auditing import Audit
from snnconv.runtime.executor import Executor
from snnconv.runtime.program import GraphProgram

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest relative difference of a site's values that is rounding."""
BORDER = 1e-3
"""Steps from the border of two codes, within which float32 decides to which of them a value falls."""


def tried(name: str, timesteps: int) -> dict[str, Any]:
    """What came of one network: ``double`` and ``single``, the largest relative differences of a site, or ``refused``.

    Returns:
        besides ``sites``, ``encoders``, ``way`` (of capture), ``output`` (relative difference in float64), ``audit``
        and ``removed`` (what the audit says of the network, and of it without one encoder), ``seconds``. ``skipped``: a
        package that is not there.
    """
    begin = time.perf_counter()
    line: dict[str, Any] = {"name": name, "T": timesteps}
    try:
        model, x = NETWORKS[name].build()
    except ImportError as error:
        return line | {"skipped": f"{type(error).__name__}: {str(error)[:200]}"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            line["single"] = single(converted(model, x, timesteps), x)
            model, x = model.double(), tree_map_only(Tensor, lambda v: v.double() if v.is_floating_point() else v, x)
            snn = converted(model, x, timesteps)
            line["double"], coarse, line["output"] = double(snn, x)
            line["single"] = max(line["single"], coarse)
            line |= {"sites": len(snn.neurons), "encoders": len(encoders(snn)), "way": snn.report.capture}
            line["audit"] = "; ".join(snnconv.audit(snn, x).failures) or "passed"
            line["removed"] = "; ".join(audit_without(snn, x).failures)[:200] or "passed"
    except snnconv.ConversionError as error:
        line["refused"] = str(error)[:600]
    return line | {"seconds": round(time.perf_counter() - begin, 1)}


def holds(line: dict[str, Any]) -> bool:
    """Whether a line says that the network is what it should be."""
    return (
        "refused" not in line
        and max(line["double"], line["output"]) <= TOLERANCE[torch.float64]
        and line["single"] <= TOLERANCE[torch.float32]
        and line["audit"] == "passed"
        and line["removed"] != "passed"
    )


def table_of(lines: list[dict[str, Any]]) -> str:
    """A row a network: its sites, and for each T the largest differences in float64 and float32, or why there are none.

    Of several lines of one network and T the last counts.
    """
    by = {(line["name"], line["T"]): line for line in lines}
    steps = sorted({t for _, t in by})
    good = [line for line in by.values() if line.get("holds")]
    rows = [
        f"{len({line['name'] for line in good})} networks, {len(good)} of {len(by)} runs equal at every site; the "
        "audit passes on them and fails with one encoder removed.",
        "",
        f"| network | captured by | sites | encoders |{''.join(f' T = {t}: float64, float32 |' for t in steps)}",
        f"| --- | --- | --- | --- |{' --- |' * len(steps)}",
    ]
    for name in dict.fromkeys(name for name, _ in by):
        known = next((by[name, t] for t in steps if "sites" in by.get((name, t), {})), {})
        head = " | ".join(str(known.get(key, "")) for key in ("way", "sites", "encoders"))
        cells = " | ".join(_cell(by.get((name, t))) for t in steps)
        rows.append(f"| {name} | {head} | {cells} |")
    return "\n".join(rows)


def _cell(line: dict[str, Any] | None) -> str:
    if line is None:
        return "not run"
    if "double" in line:
        differs = "" if line["holds"] else f" (does not hold; audit: {line['audit']})"
        return f"{max(line['double'], line['output']):.0e}, {line['single']:.0e}{differs}"
    return str(line.get("refused") or line.get("skipped"))


def converted(model: nn.Module, x: Any, timesteps: int) -> snnconv.SpikingNetwork:
    """Everything covered, or a refusal."""
    method = snnconv.methods.ShiftedThreshold(timesteps, correction="none")
    return snnconv.convert(model, method, x, cover="synapses", strict=True, progress=False)


def rounded(snn: snnconv.SpikingNetwork, name: str, z: Tensor) -> Tensor:
    """clip(⌊f(z)/q + 1/2⌋, −L or 0, L)·q, in double precision."""
    site = snn.program.sites[name]
    y = site.function(z.double(), site.axis)
    q = broadcast(snn.thresholds[name].double(), y.dim(), site.axis) / snn.method.levels
    low = -snn.method.levels if site.function.signed else 0
    return torch.floor(y / q + 0.5).clamp(low, snn.method.levels) * q


def double(snn: snnconv.SpikingNetwork, x: Any) -> tuple[float, float, float]:
    """Differences of the sites' spikes, added up, and of the outputs, from the rounded network on its own values.

    Of the sites apart those whose values the network itself keeps in float32, whatever its weights are in.
    """
    said: dict[str, Tensor] = {}

    def neuron(name: str, z: Tensor) -> Tensor:
        said[name] = rounded(snn, name, z).to(z)
        return said[name]

    with torch.no_grad():
        wanted = snn.program.static(snn.given(x), neuron)
        got = snn.rates(x)
        output = snn(x)
    assert list(got) == list(said)
    pairs = [(a, b) for a, b in zip(tree_leaves(output), tree_leaves(wanted), strict=True) if isinstance(a, Tensor)]
    fine, coarse = [0.0], [0.0]
    for name, value in said.items():
        (fine if value.dtype == torch.float64 else coarse).append(_difference(got[name], value))
    return max(fine), max(coarse), max(_difference(a, b) for a, b in pairs)


def single(snn: snnconv.SpikingNetwork, x: Any) -> float:
    """Largest difference of a site's spikes from the rounded values of what it is given, but at borders of codes."""
    off = [0.0]

    def neuron(name: str, z: Tensor) -> Tensor:
        said = snn.population.fire_total(name, z)
        said = said if isinstance(said, Tensor) else said.floats()
        site = snn.program.sites[name]
        q = broadcast(snn.thresholds[name].double(), z.dim(), site.axis) / snn.method.levels
        codes = site.function(z.double(), site.axis) / q + 0.5
        decided = (codes - codes.round()).abs() > BORDER
        off.append(_difference(said.double().where(decided, 0), rounded(snn, name, z).where(decided, 0)))
        return said

    with torch.no_grad():
        snn.program.static(snn.given(x), neuron)
    return max(off)


def _difference(a: Tensor, b: Tensor) -> float:
    """‖a − b‖∞ / ‖b‖∞."""
    if not a.is_floating_point() or not a.numel():
        return 0.0 if torch.equal(a, b) else float("inf")
    scale = float(b.abs().max()) or 1.0
    return float((a.double() - b.double()).abs().max()) / scale


def encoders(snn: snnconv.SpikingNetwork) -> list[fx.Node]:
    """The encoders of a network, in the order in which they run."""
    assert isinstance(snn.program, GraphProgram)
    source = snn.program.source
    return [node for node in source.site_nodes() if source.sites[str(node.kwargs["site"])].function.encodes]


def audit_without(snn: snnconv.SpikingNetwork, x: Any) -> Audit:
    """The audit of a network one of whose encoders (of one without any: one of whose populations) is taken out."""
    program = snn.program
    assert isinstance(program, GraphProgram)
    there = encoders(snn) or program.source.site_nodes()[:-1]
    node = there[len(there) // 2]
    node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
    program.source.graph.erase_node(node)
    program.executor = Executor(program.source, program.executor.neuron, program.coding, program.max_pool)
    return snnconv.audit(snn, x)
