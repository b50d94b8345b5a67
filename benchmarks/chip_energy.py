"""``python -m benchmarks.chip_energy``: the digits MLP on SANA-FE's Loihi, beside the cost model ``loihi``.

SANA-FE (J. A. Boyle et al., TCAD 2025, doi 10.1109/TCAD.2025.3537971) simulates a chip spike by spike and prices what
its units did. It is under the GPL and no dependency: ``pip install sanafe==2.2.9``, best in an environment of its own,
then run this command there. The network is trained here, in seconds, and converted with integrate-and-fire neurons;
both count the same pictures, so what differs is what an event costs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import snnconv
from snnbench import results
from snnbench.networks.digits import digits_mlp
from snnconv import methods
from snnconv.export.chain import Flatten, Layer, Neurons, links
from snnconv.runtime.program import GraphProgram

from .data import DataError
from .digits import load_digits, train_network
from .main import exit_with

__all__ = ["FACTOR", "PRICES", "Events", "Group", "events_of", "groups_of", "priced", "simulate", "spikes_of"]

OUT = Path("benchmarks/exchange/sanafe.json")
FACTOR = 2.0
"""Within which SANA-FE's energy and that of the cost model lie."""
SCALE = 2.0**16
"""SANA-FE keeps membranes in 64ths, as the chip does: weights and thresholds times this, so that no spike moves."""
SILENT = 2.0**9
"""A threshold that no membrane here reaches; times the scale it fits the chip's 32 bits."""
PRICES = {
    "synaptic event": 35.5e-12,
    "neuron access": 51.2e-12,
    "neuron update": 21.6e-12,
    "spike": 69.3e-12,
    "packet": 111.0e-12,
}
"""Joules of SANA-FE's description of Loihi (``loihi.yaml``, from circuit simulations in Davies et al. 2018): synapses
stored densely, each neuron updated at each step, one packet a spike and core that it is sent to."""


@dataclass(frozen=True)
class Group:
    """Neurons of one layer as a chip holds them: a spike is 1.

    Attributes:
        name: of the site; of the last one, which sums what the answer is read from, ``answer``.
        bias: added at each step, ``[N]``.
        start: of the membrane.
        threshold: infinite for the last group, which never spikes.
        weight: from the group before, ``[N, before]``; None of the first, whose input is constant and in its bias.
    """

    name: str
    bias: Tensor
    start: float
    threshold: float
    weight: Tensor | None = None


def groups_of(snn: snnconv.SpikingNetwork, x: Tensor) -> list[Group]:
    """A chain of linear layers for one input ``x [1, ...]``: the first layer's current is constant.

    Raises:
        ConversionError: another layer than a linear one, or another neuron than integrate-and-fire; names it.
    """
    chain = links(snn, "SANA-FE")
    assert isinstance(snn.program, GraphProgram)
    source = snn.program.source
    groups: list[Group] = []
    current: Layer | None = None

    def tensors(layer: Layer) -> tuple[Tensor, Tensor]:
        weight = source.tensors[layer.tensor].detach() * layer.worth
        bias = source.tensors[layer.bias].detach() if layer.bias else torch.zeros(len(weight))
        return weight, bias

    def group(name: str, start: float, threshold: float) -> None:
        assert current is not None
        weight, bias = tensors(current)
        if groups:
            groups.append(Group(name, bias, start, threshold, weight))
        else:
            groups.append(Group(name, weight @ x.flatten() + bias, start, threshold))

    for link in chain:
        if isinstance(link, Layer) and link.settings is None:
            current = link
        elif isinstance(link, Neurons) and current is not None:
            theta = float(link.threshold)
            group(link.name, theta / 2 if link.half else 0.0, theta)
        elif not isinstance(link, Flatten):
            raise snnconv.ConversionError(f"{link.name}: only linear layers are put on the chip here")
    group("answer", 0.0, float("inf"))
    return groups


def spikes_of(snn: snnconv.SpikingNetwork, x: Tensor) -> dict[str, float]:
    """Spikes of each site for ``x``, over all steps."""
    found: dict[str, float] = {}

    def count(site: str, out: Tensor) -> None:
        found[site] = float((out != 0).sum())

    snn.run(x, "steps", count)
    return found


@dataclass(frozen=True)
class Events:
    """What a chip does for an input, or the mean over several.

    Attributes:
        synaptic: synapses that spikes reach.
        accesses: neurons read from memory: each one at each step that the chip runs.
        updates: those of them that were written: a neuron with a membrane, bias or input that is not zero.
        spikes: sent, and packets: one to each core with synapses of it.
    """

    synaptic: float
    accesses: float
    updates: float
    spikes: float
    packets: float


def events_of(groups: Sequence[Group], spikes: Mapping[str, float], timesteps: int) -> Events:
    """What a chip does for so many spikes of each group in T steps, and one more for each layer behind the first.

    A spike reaches the next group a step later, so the last group has its last input T + L steps after the start.
    """
    steps = timesteps + len(groups) - 1
    neurons = sum(len(group.bias) for group in groups)
    sent = sum(spikes.values())
    reached = sum(spikes[a.name] * len(b.bias) for a, b in pairwise(groups))
    return Events(reached, float(neurons * steps), float(neurons * steps), sent, sent)


def priced(events: Events) -> dict[str, float]:
    """Joules of each unit at SANA-FE's prices."""
    return {
        "synapse": PRICES["synaptic event"] * events.synaptic,
        "soma": PRICES["neuron access"] * events.accesses
        + PRICES["neuron update"] * events.updates
        + PRICES["spike"] * events.spikes,
        "network": PRICES["packet"] * events.packets,
    }


def simulate(groups: Sequence[Group], timesteps: int) -> tuple[Events, dict[str, float]]:
    """What SANA-FE's Loihi did for one input, and the joules of each of its units.

    Layer ``d`` gets its first spikes after d steps, in which it adds its bias all the same: its membrane starts that
    much lower. Behind T steps of its own it is kept from spiking, and the chip stops when the last layer has had T.

    Raises:
        DataError: SANA-FE is not installed.
    """
    sanafe = _sanafe()
    arch, net = sanafe.load_loihi(), sanafe.Network()
    core = arch.tiles[0].cores[0]
    made: list[Any] = []
    for depth, group in enumerate(groups):
        attributes = {"threshold": min(group.threshold, SILENT) * SCALE, "leak_decay": 1.0, "reset_mode": "soft"}
        population = net.create_neuron_group(group.name, len(group.bias), model_attributes=attributes)
        for neuron, bias in zip(population, group.bias.tolist(), strict=True):
            neuron.set_attributes(
                soma_hw_name="loihi_lif",
                default_synapse_hw_name="loihi_dense_synapse",
                dendrite_hw_name="loihi_dendrites",
                model_attributes={
                    "bias": bias * SCALE,
                    "potential": (group.start - depth * bias) * SCALE,
                    "force_update": True,
                },
            )
        if group.weight is not None:
            made[-1].connect_neurons_dense(population, {"weight": (group.weight.T.flatten() * SCALE).tolist()})
        made.append(population)
    for population in made:
        for neuron in population:
            neuron.map_to_core(core)
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    runs = [chip.sim(timesteps)]
    for group in groups[:-1]:
        for neuron in chip.mapped_neuron_groups[group.name]:
            neuron.set_attributes(model_attributes={"threshold": SILENT * SCALE})
        runs.append(chip.sim(1))
    steps = timesteps + len(groups) - 1

    def total(name: str) -> float:
        return float(sum(run[name] for run in runs))

    events = Events(
        total("spikes"),
        float(steps * sum(len(group.bias) for group in groups)),
        total("neurons_updated"),
        total("neurons_fired"),
        total("packets_sent"),
    )
    return events, {unit: sum(run["energy"][unit] for run in runs) for unit in ("total", "synapse", "soma", "network")}


def _sanafe() -> Any:
    try:
        import sanafe
    except ImportError as error:
        raise DataError(
            "SANA-FE is not installed: pip install sanafe==2.2.9 (GPL, so no dependency of this project), best in an "
            "environment of its own"
        ) from error
    return sanafe


def compared(snn: snnconv.SpikingNetwork, model: torch.nn.Module, x: Tensor) -> dict[str, Any]:
    """Means over the inputs ``x``: what SANA-FE counted and priced, and what ``profile`` did."""
    theirs: list[tuple[Events, dict[str, float]]] = []
    expected: list[Events] = []
    for i in range(len(x)):
        groups = groups_of(snn, x[i : i + 1])
        theirs.append(simulate(groups, snn.timesteps))
        expected.append(events_of(groups, spikes_of(snn, x[i : i + 1]), snn.timesteps))
    found = snnconv.profile(model, snn, x, cost="loihi")
    energy = {unit: sum(joules[unit] for _, joules in theirs) / len(x) for unit in theirs[0][1]}
    events, ours = _mean([e for e, _ in theirs]), _mean(expected)
    again = priced(ours)
    assert found.snn_energy is not None  # a chain of linear layers has what the model counts
    assert found.classes is not None
    return {
        "inputs": len(x),
        "timesteps": snn.timesteps,
        "sanafe": {"events": asdict(events), "joules": energy},
        "profile": {
            "events": {"synaptic": found.sops, "spikes": found.spikes},
            "joules": {"total": found.snn_energy, **{name: cost for name, (_, cost) in found.classes.items()}},
        },
        "expected events": asdict(ours),
        "expected events at SANA-FE's prices": {"total": sum(again.values()), **again},
        "ratio": energy["total"] / found.snn_energy,
    }


def _mean(events: Sequence[Events]) -> Events:
    return Events(*(sum(column) / len(events) for column in zip(*map(astuple, events), strict=True)))


def run(arguments: Sequence[str] | None = None) -> int:
    """The command. The exit status is 1 where the two lie further apart than the stated factor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10, help="test pictures")
    parser.add_argument("--timesteps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    results.check_out(options.out)
    _sanafe()
    digits = load_digits(options.seed)
    model = train_network(digits, digits_mlp, seed=options.seed)
    snn = snnconv.convert(
        model, methods.IF(options.timesteps, per_channel=False), digits.x_train[:1000], progress=False
    )
    found = compared(snn, model, digits.x_test[: options.images])
    record = {
        "network": "digits MLP",
        "method": results.describe(snn.method),
        "sanafe version": metadata.version("sanafe"),
        "factor": FACTOR,
        **found,
        **results.provenance(options.seed),
    }
    results.write_whole(options.out, (json.dumps(record, indent=1) + "\n").encode())
    print(json.dumps(found, indent=1))
    within = 1 / FACTOR <= found["ratio"] <= FACTOR
    print(f"SANA-FE {'is' if within else 'IS NOT'} within a factor of {FACTOR:g}: {found['ratio']:.3f}")
    return 0 if within else 1


if __name__ == "__main__":
    exit_with(run)
