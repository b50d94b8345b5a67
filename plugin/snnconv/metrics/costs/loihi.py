"""A chip's published constants: Loihi."""

from __future__ import annotations

from snnconv.metrics.costs.model import Classes, CostModel, register
from snnconv.metrics.counts import Counts

__all__ = ["ACTIVE_UPDATE", "INACTIVE_UPDATE", "LOIHI", "SPIKE", "SYNAPTIC_EVENT"]

SYNAPTIC_EVENT = 23.6e-12
"""Joules of a synaptic operation, the least one."""
ACTIVE_UPDATE = 81e-12
"""Joules of the update of a neuron that spikes."""
INACTIVE_UPDATE = 52e-12
"""Joules of the update of a neuron that stays silent."""
SPIKE = 1.7e-12
"""Joules of a spike sent within a tile."""


def _snn(counts: Counts) -> Classes | None:
    if counts.sops is None or counts.products or counts.evaluated or counts.comparisons or counts.functions:
        return None
    active = counts.spikes
    updates = float(sum(site.neurons * site.steps for site in counts.sites))
    inactive = max(updates - active, 0.0)
    return {
        "synaptic events": (counts.sops, SYNAPTIC_EVENT * counts.sops),
        "neuron updates": (updates, ACTIVE_UPDATE * active + INACTIVE_UPDATE * inactive),
        "spikes": (active, SPIKE * active),
    }


LOIHI = register(
    CostModel(
        "loihi",
        "M. Davies et al., Loihi: a neuromorphic manycore processor with on-chip learning, IEEE Micro 38(1), 2018, "
        "table 2 (14 nm): 23.6 pJ a synaptic operation, 81 or 52 pJ a neuron update, 1.7 pJ a spike within a tile",
        includes="synaptic operations, an update of every neuron at every step, spikes within a tile",
        excludes="layers that read the input or analog values (the chip has no multiply-accumulates: they run before "
        "it), hops between tiles, axons, barriers, idle power; ordinary networks",
        snn=_snn,
    )
)
"""Energy a synaptic event, a neuron update and a spike."""
