"""The converted network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from snnconv import dynamics
from snnconv.files.fingerprint import digest
from snnconv.graph.source import ConversionError
from snnconv.graph.store import Store
from snnconv.graph.unwrap import unwrap
from snnconv.methods.base import Method
from snnconv.runtime.batch import entries
from snnconv.runtime.early_exit import EarlyExit, run_until_settled
from snnconv.runtime.finite import NonFinite
from snnconv.runtime.gradient import check_exportable, check_no_gradient
from snnconv.runtime.parallel import Turns, run_slices
from snnconv.runtime.plan import Plan
from snnconv.runtime.population import Population, over_time
from snnconv.runtime.precision import check_precision, int8_layers
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.readout import Readout, join_batches
from snnconv.runtime.sequence import Observe, SequenceRun, run_sequence, stream, stream_sequence
from snnconv.runtime.signature import Signature
from snnconv.runtime.simulation import Observers, Simulation
from snnconv.runtime.thresholds import Thresholds

if TYPE_CHECKING:
    from snnconv.report import ConversionReport
    from snnconv.runtime.program import Program

__all__ = ["SpikingNetwork"]

DEFAULT_BUDGET = 16 * 2**20
MISSING = object()


class SpikingNetwork(nn.Module):
    """A spiking network made by :func:`snnconv.convert`.

    Call it like the source network: ``y = snn(x)`` runs all time steps from a fresh state and returns the readout in
    the shape and scale of ``model(x)``. It is stateless between calls. A sample with NaN or infinite values gives NaN.

    Attributes:
        method: the :class:`~snnconv.methods.Method` it was converted with.
        neurons: the neuron at each site, in the classes of ``framework``.
        thresholds: θ of each site, scalar or per channel, in units of the source network's activations: a view of
            the neurons, which an assignment sets (:class:`~snnconv.runtime.thresholds.Thresholds`).
        report: what was converted, what stayed analog, per-layer error; prints as a table.
        memory_budget: bytes that the values of a run may take, over all steps, on each thread; batches are cut to fit,
            down to a single input, and one that alone takes 16 times as much runs some steps at a time.
        precision: ``"float32"``, or ``"int8"``: layers that read spikes compute with 8-bit weights, on a CPU with
            VNNI; biases, currents and membranes stay float32. It follows weights and thresholds that change by
            assignment, in place or by ``load_state_dict``; after a change through ``.data``, set it again.
        source_digest: :func:`~snnconv.files.fingerprint.digest` of the network it was made from, if that is known.
        backend: what runs the neurons: ``"auto"``, ``"eager"``, ``"numba"``, ``"inductor"``, ``"triton"`` or one of
            your own (:func:`snnconv.dynamics.scan`); their spikes are the same.

    >>> import torch, snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=8), calibration=torch.randn(64, 4))
    >>> snn(torch.randn(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        program: Program,
        method: Method,
        thresholds: Mapping[str, Tensor],
        framework: str = "spikingjelly",
        report: ConversionReport | None = None,
        delay: int = 0,
        input_spec: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.method = method
        self.framework = framework
        self.report = report
        self.delay = delay
        self.input_spec = dict(input_spec or {})
        placeholders = program.source.placeholders() if isinstance(program, GraphProgram) else ()
        self.signature = Signature.from_spec(self.input_spec, placeholders)
        self._tried: set[tuple[Any, ...]] = set()
        self.source_digest: str | None = None
        self.memory_budget = DEFAULT_BUDGET
        self.backend = "auto"
        self._precision = "float32"
        self._turns = Turns()
        self.program = program
        self.weights = program.store()
        self.neurons = Store()
        for tensor in list(self.weights.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        for name, site in program.sites.items():
            self.neurons[name] = method.at(name).node(thresholds[name], site.axis, site.function, framework)
        self.readout = Readout(method.coding, method.timesteps, delay)
        self._gradient_asked = False
        self.requires_grad_(False)
        self.eval()

    # ------------------------------------------------------------------ settings

    @property
    def thresholds(self) -> Thresholds:
        """θ of each site, in units of the source network's activations."""
        return Thresholds(self.population)

    @property
    def backend(self) -> str:
        """What runs the neurons."""
        return self._backend

    @backend.setter
    def backend(self, name: str) -> None:
        dynamics.check_backend(name)
        self._backend = name

    @property
    def precision(self) -> str:
        """What layers that read spikes compute in."""
        return self._precision

    @precision.setter
    def precision(self, name: str) -> None:
        check_precision(name, self.program, self.method)
        if isinstance(self.program, GraphProgram):
            self.program.executor.int8 = None
        if name == "int8":
            int8_layers(self.program, self.population)
        self._precision = name

    @property
    def float_layers(self) -> dict[str, str]:
        """With ``precision="int8"``: the layers that stay float32, each with the reason.

        >>> import snnconv
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=4), calibration=torch.randn(64, 4))
        >>> snn.precision, snn.float_layers
        ('float32', {})
        """
        int8 = self.simulation().population.int8
        return {} if int8 is None else dict(int8.left)

    def made_from(self, model: nn.Module) -> bool | None:
        """Whether ``model`` is the network this one was converted from, to the last bit; ``None`` where it is unknown.

        >>> import snnconv
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=4), calibration=torch.randn(64, 4))
        >>> snn.made_from(model), snn.made_from(nn.Linear(4, 8))
        (True, False)
        """
        return None if self.source_digest is None else digest(unwrap(model).model) == self.source_digest

    @property
    def input(self) -> str:
        """What calls take: ``"constant"``, an input ``[B, ...]`` for all steps, or ``"sequence"``, ``[T, B, ...]``."""
        return str(self.input_spec.get("input", "constant"))

    @property
    def timesteps(self) -> int:
        """T: steps that are read out (``method.latency`` counts every step that runs)."""
        return self.method.timesteps

    # ------------------------------------------------------------------ neurons

    @property
    def population(self) -> Population:
        """The neurons with what runs them, as the settings are now."""
        return Population(
            self.neurons, self.method, self.program.sites, self.framework, self.backend, turns=self._turns
        )

    def simulation(self) -> Simulation:
        """What a call runs, with the settings as they are now: the network, its neurons, how it is cut."""
        population = self.population
        if self._precision == "int8":
            population = replace(population, int8=int8_layers(self.program, population))
        plan = Plan(self.method, self.input_spec, self.signature, self.memory_budget)
        return Simulation(self.program, population, plan, self.delay)

    def reset(self) -> None:
        """Forget every neuron's state (done by each call)."""
        self.population.reset()

    def fire(self, site: str, x_seq: Tensor) -> Tensor:
        """Neurons of one site on currents ``[T, B, ...]``, going on from their state: their outputs, scaled."""
        return over_time(self.population.fire(site, x_seq))

    def fire_all(self, site: str, x_seq: Tensor) -> Tensor:
        """Neurons of one site on a whole sequence from a fresh state, by the fastest kernel of the same bits."""
        return over_time(self.population.fire_all(site, x_seq))

    # ------------------------------------------------------------------ running

    def forward(self, x: Any = MISSING, /, *more: Any, **named: Any) -> Any:
        """Readout after all steps.

        Args:
            x, more, named: as the source network takes them, each ``[B, ...]``: constant currents at every step. Those
                that had no batch dimension in calibration have none here.

        Raises:
            ConversionError: inputs of another shape, dtype or device than the network's, missing or unknown ones;
                a gradient that is asked for.

        >>> import snnconv
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=4), calibration=torch.randn(64, 4))
        >>> snn(torch.zeros(1, 4), mask=torch.ones(1, 8))
        Traceback (most recent call last):
        snnconv.graph.error.ConversionError: this network has no input 'mask'; it takes input
        """
        check_exportable(self.precision)
        given = self.signature.bind(() if x is MISSING else (x, *more), named)
        check_no_gradient(given, self._gradient_asked)
        return self.run_sequence(given).final if self.input == "sequence" else self.of_constant(given)

    def of_constant(self, given: Any) -> Any:
        """Readout after all steps of an input that stands for all of them, as of a call."""
        self._check(given)
        simulation = self.simulation()
        threads = simulation.threads()
        slices = simulation.plan.slices(given, threads)

        def read(x: Any) -> Any:
            return self.readout.of_slice(simulation.outputs(x))

        if len(slices) > 1 and threads > 1:
            return join_batches(run_slices(read, slices, threads))
        return join_batches([read(x) for x in slices])

    def requires_grad_(self, requires_grad: bool = True) -> SpikingNetwork:
        """Ask for gradients, which a call then refuses: :func:`snnconv.trainable` has them."""
        self._gradient_asked = requires_grad
        return super().requires_grad_(requires_grad)

    def rates(self, *inputs: Any, **named: Any) -> dict[str, Tensor]:
        """What each site says ``[B, ...]``, in units of the source's activation: the readout of its own outputs."""
        found: dict[str, Tensor] = {}

        def note(site: str, out: Tensor) -> None:
            if out.shape[0] == self.timesteps:  # the read-out phase comes last
                found[site] = self.readout.of_site(out)

        x = self.given(*inputs, **named)
        self.run(x, observe=note)
        marked: dict[str, Tensor] = NonFinite(x).mark(found)
        return marked

    def run(
        self,
        x: Any,
        synapses: str = "auto",
        observe: Callable[[str, Tensor], None] | None = None,
        inputs: Callable[[str, Tensor], None] | None = None,
        timesteps: int | None = None,
        operators: Callable[[fx.Node, Any], None] | None = None,
    ) -> Any:
        """Outputs of all read-out steps, ``[T, B, ...]`` (``[1, B, ...]`` where steps need not run one by one).

        An output that is not the mean (the sum) of its steps, such as a constant, a class, or a softmax of the mean so
        far, is a :class:`~snnconv.runtime.readout.Held`.

        Args:
            x: input ``[B, ...]``; of several inputs a tuple, or a dictionary by name.
            observe: called with every site's outputs ``[T, B, ...]``, phase by phase.
            synapses: ``"steps"`` sends every spike through the layers with weights; ``"auto"`` sends, in sum coding,
                the weighted sum of a neuron's spikes, which is the same by linearity.
            inputs: called with every site's currents, in the same way.
            timesteps: in rate coding, stop the read-out phase after so many steps.
            operators: called with every operator of a graph and what it gives.
        """
        x = self.signature.bind((x,), {})
        return self.simulation().outputs(x, synapses, timesteps, Observers(observe, inputs, operators))

    def stream(self, *inputs: Any, **named: Any) -> Iterator[tuple[int, Any]]:
        """Yield ``(t, readout)`` for t = 1 … T; steps are computed as they are asked for.

        For shifted-threshold IF, step t adds the t-th most significant bit of the last spiking layer.

        >>> import snnconv
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=4), calibration=torch.randn(64, 4))
        >>> [t for t, y in snn.stream(torch.randn(3, 4))]
        [1, 2, 3, 4]
        """
        if self.input == "sequence":
            x_seq = self.signature.bind(inputs, named)
            yield from enumerate(stream_sequence(self, self.simulation(), x_seq), start=1)
        else:
            yield from stream(self.simulation(), self.given(*inputs, **named))

    def run_sequence(
        self, x_seq: Any, *, window: int | None = None, reset: bool = True, observe: Observe | None = None
    ) -> SequenceRun:
        """Run an input over time ``[T, B, ...]``, one step a frame: I[t] = W·x[t] + b changes, and states go on.

        Args:
            x_seq: of several inputs a tuple, or a dictionary by name. In sum coding each frame is coded anew.
            window: steps that the readout is the mean of; None: all since the start.
            reset: False goes on where the last sequence of this thread on this network ended.
            observe: called with every site's outputs ``[1, B, ...]``, step by step.

        Raises:
            ConversionError: SRP, or a delay: their phases are defined for a constant input; frames of another size than
                those it goes on from.

        >>> import snnconv
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=4), calibration=torch.randn(64, 4))
        >>> snn.run_sequence(torch.randn(20, 3, 4)).readouts.shape
        torch.Size([20, 3, 2])
        """
        return run_sequence(self, self.simulation(), self.signature.bind((x_seq,), {}), window, reset, observe)

    def early_exit(
        self,
        *inputs: Any,
        margin: float | None = None,
        confidence: float | None = None,
        every: int = 4,
        at_least: int = 4,
        **named: Any,
    ) -> EarlyExit:
        """Readouts of a classifier, each input running only until its class is settled.

        What is settled leaves the batch as soon as that saves more time than moving the others' states takes. The rest
        runs to T, as in a plain call.

        Args:
            inputs, named: as for a call.
            margin: settled when the largest output leads the second by so much, in units of the network's output.
            confidence: settled when the softmax of the readout gives one class so much.
            every: look after so many steps.
            at_least: steps before the first look.

        Raises:
            ConversionError: an output other than ``[B, classes]``, or shifted-threshold neurons, which say nothing
                before their last step.
            ValueError: neither ``margin`` nor ``confidence``, or both, or values out of range.

        >>> import snnconv
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=32), calibration=torch.randn(64, 4))
        >>> result = snn.early_exit(torch.randn(16, 4), margin=0.2)
        >>> result.output.shape, result.average_steps <= 32
        (torch.Size([16, 2]), True)
        """
        sequence = self.input == "sequence"
        x = self.signature.bind(inputs, named) if sequence else self.given(*inputs, **named)
        rule: dict[str, Any] = {"margin": margin, "confidence": confidence, "every": every, "at_least": at_least}
        return run_until_settled(self.simulation(), x, sequence=sequence, **rule)

    # ------------------------------------------------------------------ input

    def given(self, *inputs: Any, **named: Any) -> Any:
        """Inputs as one value that `run` takes and that can be counted and cut: a tensor, or a `Batch` of several.

        Raises:
            ConversionError: as for a call.
        """
        x = self.signature.bind(inputs, named)
        self._check(x)
        return x

    def slices(self, x: Any) -> list[Any]:
        """Slices of a batch, each as large as the memory budget has room for."""
        return self.simulation().plan.slices(self.given(x))

    def _check(self, x: Any) -> None:
        """Refuse what the network cannot take; a length that calibration did not have is tried once."""
        new = self.signature.check(x, next(itertools.chain(self.buffers(), self.parameters()), None))
        shapes = tuple(v.shape[1:] for v in entries(x).values()) if new else ()
        if not new or shapes in self._tried:
            return
        try:
            self.simulation().try_out(x[:1])
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ConversionError(f"{new[0]}, as in the calibration data: {error}") from error
        self._tried.add(shapes)

    def _apply(self, fn: Any, recurse: bool = True) -> SpikingNetwork:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.program.moved(fn)
        if isinstance(self.program, GraphProgram):
            self.program.executor.int8 = None
        return self

    def extra_repr(self) -> str:
        return f"{self.method}, sites={len(self.neurons)}, framework={self.framework}"
