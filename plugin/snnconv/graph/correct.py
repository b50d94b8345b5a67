"""Bias correction: what is left of each channel's mean error when the converted network feeds itself.

A converted layer's rate differs from the source activation because its input does, and because spikes come in an
order. The mean of that difference per channel is a constant current, so a constant current takes it away. One pass
over a batch corrects every layer in order, each on the already corrected output of those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from snnconv.graph.calibrate import channels_first
from snnconv.graph.source import broadcast
from snnconv.methods.base import Method
from snnconv.progress import ProgressFn
from snnconv.runtime.executor import RunState
from snnconv.runtime.program import Program

__all__ = ["bias_currents", "run_spiking"]

ITERATIONS = 3
STEP = 0.8
Fire = Callable[[str, Tensor], Tensor]


def run_spiking(program: Program, method: Method, x: Tensor, fire: Fire) -> Tensor:
    """All read-out steps ``[T, B, ...]`` (``[1, B, ...]`` in sum coding) with ``fire`` at the sites."""
    if method.coding == "sum":
        out = program.static(x, lambda site, z: fire(site, z.unsqueeze(0)).sum(0))
        return out.unsqueeze(0) if isinstance(out, Tensor) else out
    state = RunState()
    if method.pre_timesteps_:
        program.steps(x, method.pre_timesteps_, fire, state)
        state.restart()
    return program.steps(x, method.timesteps, fire, state)


def bias_currents(
    ann: Program,
    snn: Program,
    method: Method,
    batches: Sequence[Tensor],
    fire: Fire,
    reset: Callable[[str], None],
    progress: ProgressFn | None = None,
) -> dict[str, Tensor]:
    """Constant current per channel for every site.

    Args:
        ann: the source network.
        snn: the network that is being converted.
        method: its method.
        batches: calibration inputs; the currents are averaged over batches.
        fire: neurons of a site on ``[T, B, ...]``, without current.
        reset: forgets the state of a site's neurons, so that they can fire again.
        progress: called after each batch.

    Returns:
        current ``[C]`` by site, in units of the site's input.
    """
    current: dict[str, Tensor] = {}
    sites = snn.sites

    def shifted(site: str, x_seq: Tensor) -> Tensor:
        if site not in current:
            return x_seq
        return x_seq + broadcast(current[site], x_seq.dim() - 1, _inner(sites[site].axis, x_seq))

    for number, batch in enumerate(batches, start=1):
        targets: dict[str, Tensor] = {}

        def record(site: str, z: Tensor, targets: dict[str, Tensor] = targets) -> Tensor:
            targets[site] = ann.sites[site].activation(z)
            return targets[site]

        ann.static(batch, record)

        def corrected(site: str, x_seq: Tensor, number: int = number, targets: dict[str, Tensor] = targets) -> Tensor:
            axis = sites[site].axis
            wanted = channels_first(targets[site], axis, True)
            before = current.get(site, torch.zeros(wanted.shape[0], dtype=wanted.dtype, device=wanted.device))
            current[site] = before
            for _ in range(ITERATIONS):
                reset(site)
                out = fire(site, shifted(site, x_seq))
                rate = out.sum(0) if method.coding == "sum" else out[method.pre_timesteps_ :].mean(0)
                got = channels_first(rate, axis, True)
                active = ((wanted > 0) | (got > 0)).to(wanted).mean(1).clamp(min=0.1)
                current[site] = current[site] + STEP * (wanted - got).mean(1) / active
            current[site] = before + (current[site] - before) / number
            reset(site)
            return fire(site, shifted(site, x_seq))

        for site in sites:
            reset(site)
        if method.coding == "sum":
            run_spiking(snn, method, batch, corrected)
        else:  # both phases of a two-phase method in one sequence, so that a site can fire it again
            snn.steps(batch, method.latency, corrected, RunState())
        for site in sites:
            reset(site)
        if progress:
            progress("bias correction", number, len(batches))
    return current


def _inner(axis: int, x_seq: Tensor) -> int:
    return axis if axis >= 0 else x_seq.dim() - 1 + axis
