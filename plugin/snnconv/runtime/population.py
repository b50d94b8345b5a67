"""The neurons at the sites of a network, as one run has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from snnconv import dynamics
from snnconv.dynamics.captured import captured
from snnconv.graph.source import Site, broadcast
from snnconv.graph.store import Store
from snnconv.methods.base import Method
from snnconv.runtime.int8 import Int8
from snnconv.runtime.parallel import Turns
from snnconv.runtime.values import Fired, Spikes

__all__ = ["Population", "over_time"]


@dataclass(frozen=True)
class Population:
    """Neurons at the sites of a network: they fire by a kernel, or where none stands in for them by their own equation.

    Attributes:
        neurons: the neuron of each site, a module of ``framework``.
        method: says which neuron, and with which settings.
        sites: the places of the network where they stand.
        framework: whose modules they are.
        backend: what runs them.
        int8: layers that read their spikes in 8 bits, or None.
        turns: held by a run whose neurons remember by themselves.
        scans: what `scan` says of every site, where it was asked before a run.
    """

    neurons: Store
    method: Method
    sites: Mapping[str, Site]
    framework: str = "spikingjelly"
    backend: str = "auto"
    int8: Int8 | None = None
    turns: Turns = field(default_factory=Turns)
    scans: Mapping[str, dict[str, Any] | None] | None = None

    def for_run(self) -> Population:
        """The same for one run, in which nobody else sets anything of the neurons: each is looked at once."""
        recorded = captured()
        return replace(self, scans={name: None if recorded else self._scan(name) for name in self.neurons})

    # ------------------------------------------------------------------ thresholds

    def threshold(self, site: str) -> Tensor:
        """θ of one site, scalar or per channel, in units of the source network's activations; a copy.

        Raises:
            KeyError: no such site.
        """
        if site not in self.neurons:
            raise KeyError(site)
        return self.method.at(site).threshold(self.neurons[site]).detach().clone()

    def set_threshold(self, site: str, theta: Tensor) -> None:
        """Give the neurons of a site other thresholds.

        Raises:
            KeyError: no such site.
            ValueError: thresholds that are not positive and finite.
        """
        before, place = self.threshold(site), self.sites[site]
        node = self.method.at(site).node(theta.to(before), place.axis, place.function, self.framework)
        self.neurons[site].v_threshold = node.v_threshold

    # ------------------------------------------------------------------ who runs them

    def scan(self, site: str) -> dict[str, Any] | None:
        """Arguments of a kernel that stands in for the neurons of a site; None where their own equation has to run."""
        if self.scans is not None:
            found = self.scans[site]
            return None if found is None else dict(found)
        return None if captured() else self._scan(site)

    def _scan(self, site: str) -> dict[str, Any] | None:
        node = self.neurons[site]
        return None if node.watched else self.method.scan_arguments(node)

    @property
    def watched(self) -> bool:
        """Whether somebody looks at a neuron module, which then has to run itself."""
        return any(self.neurons[name].watched for name in self.neurons)

    @property
    def by_kernels(self) -> bool:
        """Whether kernels stand in for all neurons, so that none has a state of its own in a run."""
        scans = self.for_run().scans if self.scans is None else self.scans
        return scans is not None and None not in scans.values()

    def resumable(self, phases: bool = False) -> bool:
        """Whether `fire_from` runs every neuron; ``phases``: or one of its two phases."""
        record = self.method.record
        return (record.resumable or (phases and record.pre_phase is not None)) and self.by_kernels

    @contextmanager
    def turn(self, needed: bool = True) -> Iterator[None]:
        """Without gradient; where neurons remember by themselves, one run after the other."""
        with self.turns if needed else nullcontext(), torch.no_grad():
            yield

    # ------------------------------------------------------------------ what they remember

    def reset(self) -> None:
        """Forget every neuron's state."""
        with self.turns:
            for name in self.neurons:
                self.neurons[name].reset()

    def remember(self) -> dict[str, Any]:
        """Take every neuron's state out of it, so that calls and streams do not disturb each other."""
        states = {name: self.neurons[name].get_states() for name in self.neurons}
        self.reset()
        return states

    def restore(self, states: Mapping[str, Any]) -> None:
        """Give every neuron a state that `remember` took."""
        for name, memories in states.items():
            self.neurons[name].set_states(memories)

    # ------------------------------------------------------------------ firing

    def fire(self, site: str, x_seq: Tensor) -> Fired:
        """Neurons of one site on currents ``[T, B, ...]``, going on from their state: their outputs, scaled."""
        node = self.neurons[site]
        record = getattr(node, "neuron", self.method.record)
        scan = self.scan(site) if record.resumable else None
        before = node.get_states()  # the membrane first, under the framework's name
        membrane, *others = before.values()
        if scan is None or any(isinstance(v, float) for v in before.values()):  # a float is set by hand
            out: Tensor = node.run(x_seq)
            return out
        fresh = not isinstance(membrane, Tensor) or membrane.shape != x_seq.shape[1:] or any(v is None for v in others)
        memory = {} if fresh else {site: record.state_of(before.values())}
        fired = self.fire_from(memory, site, x_seq)
        node.set_states(dict(zip(before, record.remembered(memory[site]), strict=True)))
        return fired

    def fire_from(self, memory: dict[str, Any], site: str, x_seq: Tensor, in_place: bool = False) -> Fired:
        """`fire` with the states in ``memory``, by site; none yet: a fresh one."""
        scan = self.method.scan_arguments(self.neurons[site])
        assert scan is not None
        spikes = self._int8_spikes(site, scan)
        pre = self.method.record.pre_phase
        if pre is not None:  # who calls knows the phase
            settings = {option.name: scan.pop(option.name) for option in self.method.record.options}
            scan |= {"neuron": pre.neuron.name, **pre.options(settings)}
        out, memory[site] = dynamics.resume(
            x_seq=x_seq, state=memory.get(site), backend=self.backend, in_place=in_place, **scan
        )
        return spikes(out)

    def fire_all(self, site: str, x_seq: Tensor) -> Fired:
        """Neurons of one site on a whole sequence from a fresh state, by the fastest kernel of the same bits."""
        scan = self.scan(site)
        if scan is None:
            return self._in_slots(self.fire(site, x_seq))
        # weighted spikes differ in what they are worth
        spikes = self._int8_spikes(site, scan) if self.neurons[site].neuron.weight is None else _same
        return self._in_slots(spikes(dynamics.scan(x_seq=x_seq, backend=self.backend, **scan)))

    def _in_slots(self, out: Fired) -> Fired:
        """In sum coding, the bits of a layer with fewer steps than others: in the first slots, then nothing."""
        slots = self.method.timesteps
        if not self.method.layers or self.method.coding != "sum" or not isinstance(out, Tensor) or len(out) == slots:
            return out
        return torch.cat([out, out.new_zeros((slots - len(out), *out.shape[1:]))])

    def fire_total(self, site: str, z: Tensor) -> Fired:
        """Sum of the weighted spikes of sum-coded neurons on ``z`` ``[B, ...]``, without the spikes."""
        scan = self.scan(site)
        if scan is None or not scan["scaled"]:
            return over_time(self.fire_all(site, z.unsqueeze(0))).sum(0)
        spikes = self._int8_spikes(site, scan, total=True)
        return spikes(dynamics.total(x_seq=z.unsqueeze(0), backend=self.backend, **scan))

    def fire_phase(self, site: str, x_seq: Tensor, masks: dict[str, Tensor]) -> Fired:
        """Neurons of one site on one phase of two; ``masks`` holds what the first phase left."""
        scan = self.scan(site)
        if scan is None or self.method.record.pre_phase is None:
            return self.fire(site, x_seq)
        spikes = self._int8_spikes(site, scan)
        out, masks[site] = dynamics.two_phases(x_seq=x_seq, mask=masks.get(site), backend=self.backend, **scan)
        return spikes(out)

    def allowed(self, site: str, state: Any) -> Tensor:
        """Which neurons of a site may fire in the second phase, from their state after the first."""
        pre, node = self.method.record.pre_phase, self.neurons[site]
        assert pre is not None
        theta = broadcast(node.v_threshold, getattr(state, pre.neuron.membrane).dim(), node.channel_axis)
        return pre.allowed(state, theta, **self.method.at(site).neuron_options)

    def _int8_spikes(self, site: str, scan: dict[str, Any], total: bool = False) -> Callable[[Tensor], Fired]:
        """Make a kernel's arguments ask for whole numbers where 8-bit layers read the site; what to make of them."""
        int8 = self.int8
        if int8 is None or site not in int8.sites:
            return _same
        scan |= {"scaled": False, "dtype": torch.uint8 if total and not int8.lowest[site] else torch.int8}
        return lambda out: Spikes(out, int8.amplitudes[site], self.sites[site].axis)


def over_time(out: Fired) -> Tensor:
    """What neurons put out ``[T, B, ...]`` as numbers."""
    if isinstance(out, Spikes):
        return Spikes(out.int8_spikes, out.amplitude, out.axis if out.axis < 0 else out.axis + 1).floats()
    return out


def _same(out: Tensor) -> Tensor:
    return out
