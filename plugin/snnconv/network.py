"""The converted network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from snnconv import dynamics
from snnconv.files.fingerprint import digest
from snnconv.graph.source import ConversionError
from snnconv.graph.store import Store
from snnconv.graph.unwrap import unwrap
from snnconv.methods.base import Method
from snnconv.runtime.batch import Batch, entries
from snnconv.runtime.captured import captured
from snnconv.runtime.early_exit import EarlyExit, run_until_settled
from snnconv.runtime.finite import NonFinite
from snnconv.runtime.int8 import Int8, supported
from snnconv.runtime.parallel import Turns, run_parts
from snnconv.runtime.pieces import piece_lengths, run_in_pieces
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.readout import Readout, StepReadout, join_batches, step_of
from snnconv.runtime.run import RunState
from snnconv.runtime.signature import Signature
from snnconv.runtime.thresholds import Thresholds
from snnconv.runtime.values import Spikes, Versions, channels_last

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
            self.neurons[name] = method.node(thresholds[name], site.axis, site.function, framework)
        self.readout = Readout(method.coding, method.timesteps, delay)
        self._gradient_asked = False
        self.requires_grad_(False)
        self.eval()

    # ------------------------------------------------------------------ settings

    @property
    def thresholds(self) -> Thresholds:
        """θ of each site, in units of the source network's activations."""
        return Thresholds(self)

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
        if name not in ("float32", "int8"):
            raise ValueError(f"unknown precision {name!r}: choose 'float32' or 'int8'")
        if name == "int8":
            if supported():
                raise RuntimeError(f"precision 'int8' does not run here: {supported()}")
            if not isinstance(self.program, GraphProgram):
                raise ConversionError("precision 'int8' needs a network that traces; this one runs call by call")
            if self.method.coding == "sum" and self.timesteps > 8:
                raise ConversionError(f"precision 'int8' holds 8 bits, and T = {self.timesteps}: take T of 8 or less")
            if self.method.record.amplitudes is not None:
                raise ConversionError(
                    f"precision 'int8' takes spikes of one size; those of {self.method.neuron!r} neurons have several"
                )
        if isinstance(self.program, GraphProgram):
            self.program.executor.int8 = self._make_int8(self.program) if name == "int8" else None
        self._precision = name

    def _int8(self, look: bool = True) -> Int8 | None:
        """The layers that run in 8 bits; ``look``: made where they are not there yet, or of what has changed since."""
        if self._precision == "float32":
            return None
        assert isinstance(self.program, GraphProgram)
        executor = self.program.executor
        if executor.int8 is None or (look and not self._int8_made_of.unchanged(self._int8_sources(self.program))):
            executor.int8 = self._make_int8(self.program)
        return executor.int8

    def _int8_sources(self, program: GraphProgram) -> list[Tensor]:
        return [*(self.neurons[name].v_threshold for name in self.neurons), *program.source.tensors.values()]

    def _make_int8(self, program: GraphProgram) -> Int8:
        if any(tensor.device.type != "cpu" for tensor in self.buffers()):
            raise ConversionError("precision 'int8' runs on the CPU: move the network there with .cpu()")
        self._int8_made_of = Versions(self._int8_sources(program))
        amplitudes = {}
        for name in self.neurons:
            scan = self.method.scan_arguments(self.neurons[name])
            worth = self.thresholds[name] if scan is None else torch.as_tensor(scan["v_threshold"])
            amplitudes[name] = worth if scan is None or scan["scaled"] else torch.ones_like(worth)
        return Int8(program.source, amplitudes, self.method.record.signed)

    @property
    def float_layers(self) -> dict[str, str]:
        """With ``precision="int8"``: the layers that stay float32, each with the reason.

        >>> import snnconv
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=4), calibration=torch.randn(64, 4))
        >>> snn.precision, snn.float_layers
        ('float32', {})
        """
        int8 = self._int8()
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
    def timesteps(self) -> int:
        """T: steps that are read out (``method.latency`` counts every step that runs)."""
        return self.method.timesteps

    def reset(self) -> None:
        """Forget every neuron's state (done by each call)."""
        with self._turns:
            for name in self.neurons:
                self.neurons[name].reset()

    def _scan(self, node: Any) -> dict[str, Any] | None:
        """Arguments of a kernel that stands in for a neuron; ``None`` where its own equation has to run."""
        return None if node.watched or captured() else self.method.scan_arguments(node)

    def fire(self, site: str, x_seq: Tensor) -> Any:
        """Neurons of one site on currents ``[T, B, ...]``, going on from their state: their outputs, scaled."""
        node = self.neurons[site]
        record = getattr(node, "neuron", self.method.record)
        scan = self._scan(node) if record.resumable else None
        if scan is None:
            out: Tensor = node.run(x_seq)
            return out
        before = node.get_states()  # the membrane first, under the framework's name
        membrane, *others = before.values()
        if any(isinstance(v, float) for v in before.values()):  # set by hand
            return node.run(x_seq)
        fresh = not isinstance(membrane, Tensor) or membrane.shape != x_seq.shape[1:] or any(v is None for v in others)
        memory = {} if fresh else {site: record.state_of(before.values())}
        out = self._fire_from(memory, site, x_seq)
        node.set_states(dict(zip(before, record.remembered(memory[site]), strict=True)))
        return out

    def _fire_from(self, memory: dict[str, Any], site: str, x_seq: Tensor, in_place: bool = False) -> Any:
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

    def _remembers_outside(self, phases: bool = False) -> bool:
        """Whether `_fire_from` runs every neuron; ``phases``: or one of its two phases."""
        record = self.method.record
        if not record.resumable and not (phases and record.pre_phase is not None):
            return False
        nodes = [self.neurons[name] for name in self.neurons]
        kernels = not any(self._scan(node) is None for node in nodes)
        return kernels and isinstance(self.program, GraphProgram)

    def _int8_spikes(self, site: str, scan: dict[str, Any], total: bool = False) -> Callable[[Tensor], Any]:
        """Make a kernel's arguments ask for whole numbers where 8-bit layers read the site; what to make of them."""
        int8 = self._int8(look=False)
        if int8 is None or site not in int8.sites:
            return _same
        scan |= {"scaled": False, "dtype": torch.uint8 if total else torch.int8}
        return lambda out: Spikes(out, int8.amplitudes[site], self.program.sites[site].axis)

    def fire_all(self, site: str, x_seq: Tensor) -> Any:
        """Neurons of one site on a whole sequence from a fresh state, by the fastest kernel of the same bits."""
        node = self.neurons[site]
        scan = self._scan(node)
        if scan is None:
            return self.fire(site, x_seq)
        # weighted spikes differ in what they are worth
        spikes = self._int8_spikes(site, scan) if node.neuron.weight is None else _same
        return spikes(dynamics.scan(x_seq=x_seq, backend=self.backend, **scan))

    def _fire_total(self, site: str, z: Tensor) -> Any:
        """Sum of the weighted spikes of sum-coded neurons, without the spikes."""
        node = self.neurons[site]
        scan = self._scan(node)
        if scan is None or not scan["scaled"]:
            return self.fire_all(site, z.unsqueeze(0)).sum(0)
        spikes = self._int8_spikes(site, scan, total=True)
        return spikes(dynamics.total(x_seq=z.unsqueeze(0), backend=self.backend, **scan))

    def _fire_phase(self, site: str, x_seq: Tensor, masks: dict[str, Tensor]) -> Any:
        """Neurons of one site on one phase of two; ``masks`` holds what the first phase left."""
        node = self.neurons[site]
        scan = self._scan(node)
        if scan is None or self.method.record.pre_phase is None:
            return self.fire(site, x_seq)
        spikes = self._int8_spikes(site, scan)
        out, masks[site] = dynamics.two_phases(x_seq=x_seq, mask=masks.get(site), backend=self.backend, **scan)
        return spikes(out)

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
        if self.precision == "int8" and captured():
            raise ConversionError("8-bit layers cannot be exported: set snn.precision = 'float32' first")
        if torch.compiler.is_dynamo_compiling() and torch.compiler.is_exporting():
            raise ConversionError("a converted network runs operator by operator: export it with strict=False")
        given = self.signature.bind(() if x is MISSING else (x, *more), named)
        self._no_gradient(given)
        threads = self._threads()
        parts = self._parts(given, threads)
        if len(parts) > 1 and threads > 1:
            return join_batches(run_parts(self._read_alone, parts, threads))
        return join_batches([self.readout.part(self.run(part)) for part in parts])

    def requires_grad_(self, requires_grad: bool = True) -> SpikingNetwork:
        """Ask for gradients, which a call then refuses: :func:`snnconv.trainable` has them."""
        self._gradient_asked = requires_grad
        return super().requires_grad_(requires_grad)

    def _no_gradient(self, x: Any) -> None:
        """Refuse a call whose gradient somebody waits for."""
        if not torch.is_grad_enabled() or captured():
            return
        wanted = isinstance(x, (Tensor, Batch)) and any(v.requires_grad for v in entries(x).values())
        if wanted or self._gradient_asked:
            raise ConversionError(
                "a converted network gives no gradient: train snnconv.trainable(snn), which does, also for its input; "
                "for outputs alone call it under torch.no_grad()"
            )

    def _threads(self) -> int:
        """How many parts of a batch may run side by side: on the CPU, where no neuron keeps a state of its own."""
        if captured():
            return 1
        threads = torch.get_num_threads()
        nodes = [self.neurons[name] for name in self.neurons]
        if threads == 1 or self.backend == "inductor" or not isinstance(self.program, GraphProgram):
            return 1
        if self.program.executor.observers or torch.is_autocast_enabled("cpu"):
            return 1
        if any(tensor.device.type != "cpu" for tensor in self.buffers()):
            return 1
        alone = not any(node.watched or self.method.scan_arguments(node) is None for node in nodes)
        return threads if alone else 1

    def _read_alone(self, x: Any) -> Any:
        """Readout of one part."""
        return self.readout.part(self.run(x))

    def rates(self, *inputs: Any, **named: Any) -> dict[str, Tensor]:
        """What each site says ``[B, ...]``, in units of the source's activation: the readout of its own outputs."""
        found: dict[str, Tensor] = {}

        def note(site: str, out: Tensor) -> None:
            if out.shape[0] == self.timesteps:  # the read-out phase comes last
                found[site] = self.readout.final(out)

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
        self._int8()
        x = channels_last(self.signature.bind((x,), {}))
        method = self.method
        steps = timesteps or method.timesteps
        masks: dict[str, Tensor] = {}
        watched = observe is not None or inputs is not None or operators is not None

        def fired(site: str, x_seq: Tensor) -> Tensor:
            if inputs is not None:
                inputs(site, x_seq)
            out = self._fire_phase(site, x_seq, masks) if method.pre_timesteps_ else self.fire_all(site, x_seq)
            if observe is not None:
                observe(site, _over_time(out))
            return out

        def summed(site: str, z: Tensor) -> Tensor:
            return fired(site, z.unsqueeze(0)).sum(0) if watched else self._fire_total(site, z)

        with self._turn(needed=any(self._scan(self.neurons[name]) is None for name in self.neurons)):
            self.reset()
            state = self._state(whole=not captured(), observers=() if operators is None else (operators,))
            state.may_overwrite = state.may_overwrite and not watched
            if method.coding == "sum" and synapses == "auto":
                result = self.program.totals(x, summed, state)
            elif not watched and len(pieces := piece_lengths(self, x, steps)) > 1:
                result = run_in_pieces(self, x, pieces)
            else:
                if method.pre_timesteps_:
                    self.program.steps(x, method.pre_timesteps_, fired, state)
                    state.restart()
                result = self.program.steps(x, steps, fired, state)
            self.reset()
        return NonFinite(x).mark(result, 1)

    def _state(self, **given: Any) -> RunState:
        """What a run holds at its start; sums may be written over what neurons put out, where nobody looks at it."""
        unwatched = not any(self.neurons[name].watched for name in self.neurons)
        return RunState(backend=self.backend, **{"may_overwrite": unwatched, **given})

    @contextmanager
    def _turn(self, needed: bool = True) -> Iterator[None]:
        """Without gradient; where neurons remember by themselves, one run after the other."""
        with self._turns if needed else nullcontext(), torch.no_grad():
            yield

    def stream(self, *inputs: Any, **named: Any) -> Iterator[tuple[int, Any]]:
        """Yield ``(t, readout)`` for t = 1 … T; steps are computed as they are asked for.

        For shifted-threshold IF, step t adds the t-th most significant bit of the last spiking layer.

        >>> import snnconv
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=4), calibration=torch.randn(64, 4))
        >>> [t for t, y in snn.stream(torch.randn(3, 4))]
        [1, 2, 3, 4]
        """
        x = channels_last(self.given(*inputs, **named))
        self._int8()
        method = self.method
        readout = StepReadout(method.coding, self.delay)
        if method.coding == "sum":
            out = self.run(x, "steps")
            for t in range(1, method.timesteps + 1):
                yield t, readout.after(step_of(out, t - 1))
            return
        states, wrong = self._fresh_states(), NonFinite(x)
        state = self._state()
        for t in range(1 - method.pre_timesteps_, method.timesteps + 1):
            if t == 1:
                state.restart()
            with self._turn():  # not across the yield: others have theirs, and the caller's own gradients go on
                self._restore(states)
                step = self.program.steps(x, 1, self.fire, state)
                states = self._remember()
            if t >= 1:
                yield t, readout.after(wrong.mark(step, 1))

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
        x = self.given(*inputs, **named)
        return run_until_settled(self, x, margin=margin, confidence=confidence, every=every, at_least=at_least)

    def _fresh_states(self) -> dict[str, Any]:
        with self._turns:
            self.reset()
            return self._remember()

    def _remember(self) -> dict[str, Any]:
        """Take every neuron's state out of it, so that calls and streams do not disturb each other."""
        states = {name: self.neurons[name].get_states() for name in self.neurons}
        self.reset()
        return states

    def _restore(self, states: dict[str, Any]) -> None:
        for name, memories in states.items():
            self.neurons[name].set_states(memories)

    # ------------------------------------------------------------------ input

    def given(self, *inputs: Any, **named: Any) -> Any:
        """Inputs as one value that `run` takes and that can be counted and cut: a tensor, or a `Batch` of several.

        Raises:
            ConversionError: as for a call.
        """
        x = self.signature.bind(inputs, named)
        self._check(x)
        return x

    def _parts(self, x: Any, threads: int = 1, most: int | None = None) -> list[Any]:
        x = self.given(x)
        self._int8()  # before threads look for it
        size = self._batch_size(x) if most is None else most
        # a cut would fix the batch of an exported network for good, and part inputs that have to do with one another
        if captured() or not isinstance(x, (Tensor, Batch)) or self.input_spec.get("whole_batch"):
            return [x]
        if threads > 1 and size and len(x) > 1:
            size = min(size, -(-len(x) // threads))
        return [x] if size == 0 or len(x) <= size else list(x.split(size))

    def _batch_size(self, x: Any, steps: int | None = None) -> int:
        """Images that one pass of ``steps`` (else: as many as a plain call takes) can take within the memory budget."""
        if steps is None:
            steps = 1 if self.method.coding == "sum" else max(self.method.timesteps, self.method.pre_timesteps_)
        widest = int(self.input_spec.get("widest", 0))
        step = int(self.input_spec.get("step_bytes", 3 * 4 * widest))  # files of before say the widest layer only
        held = int(self.input_spec.get("constant_bytes", 0)) + steps * step
        if self.method.pre_timesteps_:  # a mask at every neuron from one phase to the next, and the one in the making
            held += int(self.input_spec.get("neurons", 0)) + widest
        held = int(held * self.signature.growth(x))
        return max(1, self.memory_budget // held) if held else 0

    def _check(self, x: Any) -> None:
        """Refuse what the network cannot take; a length that calibration did not have is tried once."""
        new = self.signature.check(x, next(itertools.chain(self.buffers(), self.parameters()), None))
        shapes = tuple(v.shape[1:] for v in entries(x).values()) if new else ()
        if not new or shapes in self._tried:
            return

        def fire(site: str, z: Tensor) -> Tensor:
            here, axis = self.program.sites[site], self.program.sites[site].axis
            count = self.thresholds[site].numel()
            if count > 1 and count != z.shape[axis]:
                raise ConversionError(f"{site} has the thresholds of {count} channels, and here {z.shape[axis]}")
            return here.activation(z)

        try:
            with torch.no_grad():
                self.program.static(channels_last(x[:1]), fire)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ConversionError(f"{new[0]}, as in the calibration data: {error}") from error
        self._tried.add(shapes)

    def _apply(self, fn: Any, recurse: bool = True) -> SpikingNetwork:
        super()._apply(fn, recurse)
        self.program.moved(fn)
        if isinstance(self.program, GraphProgram):
            self.program.executor.int8 = None
        return self

    def extra_repr(self) -> str:
        return f"{self.method}, sites={len(self.neurons)}, framework={self.framework}"


def _same(out: Tensor) -> Tensor:
    return out


def _over_time(out: Any) -> Tensor:
    """What neurons put out ``[T, B, ...]`` as numbers."""
    if isinstance(out, Spikes):
        return Spikes(out.int8_spikes, out.amplitude, out.axis if out.axis < 0 else out.axis + 1).floats()
    result: Tensor = out
    return result
