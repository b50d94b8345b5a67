"""What the report and the converted network say of a conversion: what spikes, what stays analog, what a run holds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor

from snnconv.conversion.bias import affordable_samples
from snnconv.conversion.checks import mixes_batch
from snnconv.graph.encoders import uncovered
from snnconv.graph.flow import Flow
from snnconv.graph.origin import analog, product_reads, reads, scaled
from snnconv.graph.source import ConversionError, SourceGraph
from snnconv.metrics.ladders import row_ladders
from snnconv.network import SpikingNetwork
from snnconv.report import AnalogSite, ConversionReport, SpikingSite
from snnconv.runtime.batch import entries
from snnconv.runtime.footprint import Footprint, footprint
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.signature import Signature
from snnconv.runtime.tree import TreeProgram

__all__ = ["describe", "input_spec", "list_analog"]

ERROR_SAMPLES = 32
EXCLUDED = "excluded: acts on the running mean of its input"


def list_analog(
    source: SourceGraph | None,
    snn: Program,
    report: ConversionReport,
    strict: bool,
    seen: Sequence[Any],
    excluded: Sequence[str] = (),
) -> None:
    """List in the report what has no spiking equivalent, and what layers with weights read.

    Raises:
        ConversionError: with ``strict``, a layer or a product that reads no spikes where all should; else an activation
            that stays analog, or anything between a neuron and its reader.
    """
    report.notes += [n for n in snn.notes if n not in report.notes]
    refused: list[str] = []
    if isinstance(snn, GraphProgram) and source is not None:
        flow = Flow(snn.source.graph)
        found = analog(snn.source, flow)
        report.analog = [
            AnalogSite(a.name, a.operator, EXCLUDED if a.name in excluded else a.reason, a.activation) for a in found
        ]
        report.normalisations = row_ladders(snn.source)
        report.reads, report.scaled, report.products = reads(flow), scaled(flow), product_reads(flow)
        if report.cover == "synapses":
            refused = uncovered(snn.source, flow, report.encode_input)
        else:
            refused = [
                f"{a.name} ({a.operator})" for a in found if (a.activation or a.between) and a.name not in excluded
            ]
        if seen and any(origin in ("currents", "analog") for origin in report.reads.values()):
            from snnconv.metrics.synapses import multiplications

            with suppress(ConversionError):  # operators that cannot run on counts: the share stays unknown
                report.macs = multiplications(snn.source, seen[0][:1])
    elif isinstance(snn, TreeProgram):
        report.analog = list(snn.analog_sites)
        refused = [f"{a.name} ({a.operator})" for a in report.analog if a.activation]
    if strict and refused and report.cover == "synapses":
        raise ConversionError(f"strict=True, and not every layer and product reads spikes: {'; '.join(refused[:8])}")
    if strict and refused:
        names = ", ".join(refused[:8]) + (" ..." if len(refused) > 8 else "")
        raise ConversionError(f"strict=True, and these have no spiking equivalent: {names}")


def input_spec(ann: Program, batches: Sequence[Any], signature: Signature, report: ConversionReport) -> dict[str, Any]:
    """Shape and dtype of the inputs, neurons in all and in the widest layer, bytes that are held, from one sample."""
    if not batches:
        return {}
    x = batches[0][:1]
    widest = neurons = 0

    def measure(site: str, z: Tensor) -> Tensor:
        nonlocal widest, neurons
        widest = max(widest, z[:1].numel())
        neurons += z[:1].numel()
        return ann.sites[site].activation(z)

    if isinstance(ann, GraphProgram):
        ann.executor.neuron = measure
        held = footprint(ann.executor, x)
    else:  # the input of a layer, its output, a shortcut
        ann.static(x, measure)
        held = Footprint(0, 3 * widest * next(iter(entries(x).values())).element_size())
    mixes = len(batches[0]) > 1 and mixes_batch(ann, batches[0][:2])
    if mixes:
        report.notes.append("the inputs of a batch have to do with one another, so that a batch is never cut")
    return {
        **signature.described(x),
        **({"whole_batch": True} if mixes else {}),
        "widest": widest,
        "neurons": neurons,
        "constant_bytes": held.constant,
        "step_bytes": held.step,
    }


def describe(network: SpikingNetwork, ann: Program, batches: Sequence[Any]) -> None:
    """List the sites in the report, with their errors on a few calibration inputs."""
    from snnconv.metrics.comparing import compare_programs

    samples = min(ERROR_SAMPLES, affordable_samples(network.input_spec, network.method))
    slices = network.slices(batches[0][:samples]) if batches else []
    errors = {row.name: row.error for row in compare_programs(ann, network, slices).rows} if slices else {}
    assert network.report is not None
    if network.method.coding == "sum" and network.method.layers and isinstance(network.program, GraphProgram):
        steps = network.program.source.longest_path(lambda site: network.method.at(site).timesteps)
        network.report.path_steps, network.report.period = steps, network.method.timesteps
    for name in network.program.sites:
        theta = network.thresholds[name]
        network.report.spiking.append(
            SpikingSite(
                name,
                type(network.neurons[name]).__name__,
                theta.numel(),
                float(theta.min()),
                float(theta.mean()),
                float(theta.max()),
                errors.get(name),
                network.method.at(name).timesteps if network.method.layers else None,
            )
        )
