"""Conversion as a mmengine hook: before testing, the model's parts are converted by every method asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn

import snnconv
from snnbench.testing import twins
from snnbench.testing.calibration_data import CalibrationData
from snnbench.testing.model_parts import Part, Scope, find_parts
from snnbench.testing.readouts import CONVERSIONS, Reading, Variant, default_window, more_windows
from snnconv.files.refusal import first_line
from snnconv.graph.source import ConversionError
from snnconv.network import SpikingNetwork
from snnconv.runtime.readout import delay_steps
from snnconv.sequence import Continued

__all__ = ["ConvertHook", "bare_model"]

KEPT = (
    "membranes are kept from one environment step to the next and reset before each episode; spikes and operations "
    "were counted from a fresh state"
)
BY_LAYER = ("overrides", "exclude", "budget")
COVER = ("cover", "encode_input", "signed", "normalisation")
OWN = ("label", "type", "timesteps", "windows", "finetune", "keep_membrane", "precision", *BY_LAYER, *COVER)


def bare_model(model: nn.Module) -> nn.Module:
    """The model inside a distributed wrapper."""
    return model.module if is_model_wrapper(model) else model  # type: ignore[return-value]


@HOOKS.register_module()
class ConvertHook(Hook):
    """Converts the model before testing, by each method and number of steps, for :class:`SNNTestLoop`.

    Args:
        methods: rows, each ``dict(label=..., type="SignedIF", timesteps=[4, 8], ...)``: a class of
            :mod:`snnconv.methods` with its settings (one conversion for each number of steps), or a conversion
            registered in :data:`snnbench.testing.readouts.CONVERSIONS`. ``windows`` asks for further readouts;
            ``cover="synapses"``, ``encode_input``, ``signed`` and ``normalisation`` as for :func:`snnconv.convert`;
            ``precision="int8"`` for 8-bit weights (:attr:`snnconv.SpikingNetwork.precision`);
            ``keep_membrane=True`` lets a policy's neurons go on from one environment step to the next;
            ``finetune=dict(images=5000, epochs=1)`` for layer-wise fine-tuning (:func:`snnconv.finetune_layerwise`) on
            so many images of the calibration data set, with further arguments of that function.
        calibration: data set config, or ``dict(dataset=..., images=64, batch_size=8, pipeline=...)``.
        scope: ``"dense"`` or ``"backbone"``.
        input: ``"sequence"`` for models that take recordings: a network then reads a frame a step.
        strict: refuse activations that would stay analog.
        profile_images: images on which spikes and operations are counted; 0 for none.
        skip_failed: a row that cannot be converted is left out and named in ``failures`` instead of ending the run.
        twins: convert the quantised network of as many levels beside each (`snnbench.testing.twins`).
    """

    priority = "LOW"

    def __init__(
        self,
        methods: Sequence[dict[str, Any]],
        calibration: dict[str, Any],
        scope: Scope = "dense",
        strict: bool = False,
        profile_images: int = 2,
        skip_failed: bool = True,
        input: str = "constant",
        twins: bool = True,
    ) -> None:
        self.twins = twins
        self.rows = [dict(row) for row in methods]
        self.calibration = dict(calibration)
        self.scope: Scope = scope
        self.input = input
        self.strict = strict
        self.profile_images = profile_images
        self.skip_failed = skip_failed
        self.failures: dict[str, str] = {}
        for row in self.rows:
            self._check(row)

    @staticmethod
    def _check(row: dict[str, Any]) -> None:
        kind = row.get("type")
        known = [*_methods(), *CONVERSIONS]
        if kind not in known:
            raise ValueError(f"bench.methods: unknown type {kind!r}; known: {', '.join(known)}")
        steps = row.get("timesteps")
        if not steps:
            raise ValueError(f"bench.methods: {row.get('label', kind)} needs timesteps, for instance [4, 8, 16]")

    def before_test(self, runner: Any) -> None:
        """Convert; the networks are handed to the runner's test loop."""
        loop = runner.test_loop
        if not hasattr(loop, "variants"):
            raise TypeError("ConvertHook needs test_cfg=dict(type='SNNTestLoop')")
        model = bare_model(runner.model).eval()
        loop.parts = find_parts(model, self.scope, self.input)
        loop.variants = self.convert(model, loop.parts, runner.logger)
        loop.failures = self.failures

    def convert(self, model: nn.Module, parts: Sequence[Part], logger: Any = None) -> list[Variant]:
        """Every row at every number of steps, on the calibration data."""
        settings = dict(self.calibration)
        data = CalibrationData(**settings) if "dataset" in settings else CalibrationData(settings)
        inputs = self._inputs(model, parts, data)
        found: list[Variant] = []
        for row in self.rows:
            try:
                found += list(self._row(row, parts, inputs, logger))  # a row is whole or absent
            except (ConversionError, ValueError, RuntimeError, NotImplementedError) as error:
                if not self.skip_failed:
                    raise
                self.failures[str(row.get("label", row["type"]))] = first_line(error)
                if logger is not None:
                    logger.warning(f"{row.get('label', row['type'])}: not converted: {error}")
        return found

    def _inputs(self, model: nn.Module, parts: Sequence[Part], data: CalibrationData) -> dict[str, list[Tensor]]:
        """Calibration inputs of every part: the images, and what the source network feeds the later parts."""
        inputs: dict[str, list[Tensor]] = {part.name: [] for part in parts}
        later = [part for part in parts if not part.once]

        def note(name: str) -> Any:
            return lambda module, arguments: inputs[name].append(arguments[0].detach())

        handles = [part.module.register_forward_pre_hook(note(part.name)) for part in later]
        try:
            with torch.no_grad():
                for batch in data.batches(model):
                    for part in parts:
                        if part.once:
                            inputs[part.name].append(batch["inputs"])
                    if later:
                        model(**batch, mode="predict")
        finally:
            for handle in handles:
                handle.remove()
        for part in later:
            rows = torch.cat(inputs[part.name])
            inputs[part.name] = list(rows[:: max(1, len(rows) // part.samples)][: part.samples].split(64))
        return inputs

    def _row(
        self, row: dict[str, Any], parts: Sequence[Part], inputs: dict[str, list[Tensor]], logger: Any
    ) -> Iterable[Variant]:
        settings = {k: v for k, v in row.items() if k not in OWN}
        steps = row["timesteps"] if isinstance(row["timesteps"], (list, tuple)) else [row["timesteps"]]
        label = str(row.get("label", row["type"]))
        if row["type"] in CONVERSIONS:
            yield self._foreign(label, row["type"], settings, [int(t) for t in steps], parts, inputs)
            return
        methods = [_methods()[row["type"]](timesteps=int(t), **settings) for t in sorted(steps)]
        together = all(map(_free_of_steps, methods)) and not any(row.get(key) for key in ("finetune", *BY_LAYER))
        groups = [methods] if together else [[method] for method in methods]
        for group in groups:
            if logger is not None:
                logger.info(f"converting: {label} T={','.join(str(m.timesteps) for m in group)}")
            variant = self._own(label, group, row, parts, inputs)
            yield variant
            if self.twins and self.input == "constant" and not row.get("keep_membrane"):
                yield from twins.of(variant, parts, inputs, self._again(row))

    def _own(
        self,
        label: str,
        methods: list[Any],
        row: dict[str, Any],
        parts: Sequence[Part],
        inputs: dict[str, list[Tensor]],
    ) -> Variant:
        """Convert by the last of ``methods``; its first steps are those of the others, which differ in T only."""
        method = methods[-1]
        start = time.perf_counter()
        bars = None if is_main_process() else False
        by_layer = any(row.get(key) for key in BY_LAYER)
        networks = {part.name: self._again(row)(part, method, inputs[part.name]) for part in parts}
        if by_layer:  # steps of its own a layer: the method says the largest
            method = networks[parts[0].name].method
            methods = [method]
        notes = []
        if row.get("finetune"):
            networks, note = self._tuned(parts, networks, row["finetune"], bars)
            notes.append(note)
        if row.get("precision"):
            notes += [_set_precision(networks[part.name], row["precision"]) for part in parts]
        seconds = time.perf_counter() - start
        variant = Variant(
            label,
            {"name": type(method).__name__, "fields": {k: v for k, v in method.to_dict().items() if k != "name"}},
            networks,
            method.pre_timesteps_,
            [],
            seconds=seconds,
        )
        self._describe(variant, parts)
        variant.notes += notes
        images = inputs[parts[0].name][0][: self.profile_images]
        counted = self.profile_images > 0 and self.input == "constant"
        if not counted:
            why = "of recordings they are not" if self.profile_images else "bench.profile_images is 0"
            variant.notes.append(f"spikes and operations were not counted: {why}")
        for shorter in methods:
            network = _shortened(networks[parts[0].name], shorter)
            costs = self._costs(variant, parts, network, images) if counted else {}
            variant.readings.append(Reading(shorter.timesteps, default_window(network), costs, shorter))
        known = [reading.window for reading in variant.readings]
        for window in more_windows(row.get("windows"), method.timesteps, known):
            variant.readings.append(Reading(method.timesteps, window, variant.readings[-1].costs))
        if row.get("keep_membrane"):
            variant.networks = {name: Continued(network) for name, network in networks.items()}
            variant.notes.append(KEPT)
        return variant

    def _again(self, row: dict[str, Any]) -> Callable[[Part, Any, list[Tensor]], SpikingNetwork]:
        """The conversion that a row asks for, of a part by a method."""
        settings = {key: row[key] for key in BY_LAYER if row.get(key)} | {k: row[k] for k in COVER if k in row}
        if row.get("budget"):
            settings["timesteps"] = "auto"
        bars, ranks = None if is_main_process() else False, get_world_size() > 1

        def convert(part: Part, method: Any, inputs: list[Tensor]) -> SpikingNetwork:
            return snnconv.convert(
                part.module, method, inputs, strict=self.strict, progress=bars, distributed=ranks, input=part.input,
                **settings,
            )  # fmt: skip

        return convert

    def _tuned(
        self, parts: Sequence[Part], networks: dict[str, SpikingNetwork], finetune: dict[str, Any], bars: bool | None
    ) -> tuple[dict[str, SpikingNetwork], str]:
        """The network after layer-wise fine-tuning on labelled images, and what came of it; the same on every rank."""
        if len(parts) > 1:
            raise ConversionError("layer-wise fine-tuning takes networks of one part")
        settings = dict(finetune)
        source = self.calibration if "dataset" in self.calibration else {"dataset": self.calibration}
        data = CalibrationData(
            source["dataset"], settings.pop("images", 5000), 100, source.get("pipeline"), share=False
        )
        batches = [(b["inputs"], b["data_samples"]) for b in data.batches(parts[0].model)]
        name = parts[0].name
        tuned, report = snnconv.finetune_layerwise(parts[0].module, networks[name], batches, progress=bars, **settings)
        kept = [layer for layer in report.layers if layer.kept]
        last = kept[-1].score[1] if kept else report.layers[0].score[0]
        samples = sum(len(x) for x, _ in batches)
        return {name: tuned}, (
            f"layer-wise fine-tuning: {len(kept)} of {len(report.layers)} layers kept their new weights; "
            f"{report.measure} on its {samples:,} images went from {report.layers[0].score[0]:.2f} to {last:.2f}"
        )

    def _foreign(
        self,
        label: str,
        kind: str,
        settings: dict[str, Any],
        steps: list[int],
        parts: Sequence[Part],
        inputs: dict[str, list[Tensor]],
    ) -> Variant:
        start = time.perf_counter()
        networks = {
            part.name: CONVERSIONS[kind](part.module, inputs[part.name], timesteps=max(steps), **settings)
            for part in parts
        }
        return Variant(
            label,
            {"name": kind, "fields": settings},
            networks,
            0,
            [Reading(t, (1, t)) for t in sorted(steps)],
            notes=["spikes and operations are not counted"],
            seconds=time.perf_counter() - start,
        )

    @staticmethod
    def _describe(variant: Variant, parts: Sequence[Part]) -> None:
        """Sites of all parts."""
        spiking, analog = 0, []
        for part in parts:
            report = variant.networks[part.name].report
            spiking += len(report.spiking)
            prefix = "" if len(parts) == 1 else f"{part.name}: "
            analog += [{"name": f"{prefix}{a.name}", "operator": a.operator, "reason": a.reason} for a in report.analog]
            variant.notes += [f"{prefix}{note}" for note in report.notes]
        variant.sites = {"spiking": spiking, "analog": analog}

    @staticmethod
    def _costs(variant: Variant, parts: Sequence[Part], network: SpikingNetwork, images: Tensor) -> dict[str, Any]:
        """Cost per image of the first part."""
        costs = snnconv.profile(parts[0].module, network, images)
        notes = list(costs.notes)
        if len(parts) > 1:
            notes.append(f"operations are those of the {parts[0].name} part; the others run once a proposal")
        variant.notes += [note for note in notes if note not in variant.notes]
        return {
            "latency": costs.latency,
            "pipelined_latency": costs.network_latency,
            "spikes": costs.spikes,
            "spikes_per_neuron": costs.spikes_per_neuron,
            "sops": costs.sops,
            "macs": costs.snn_macs,
            "energy_joule": costs.snn_energy,
            "energy_ratio": costs.energy_ratio,
            "energies": {name: figures["snn"] for name, figures in costs.energies.items()},
            "ann_energies": {name: figures["ann"] for name, figures in costs.energies.items()},
            "pipeline": list(costs.pipeline) if costs.pipeline else None,
            "bits_per_step": costs.bits_per_step,
            "profile": costs,
            "ann_macs": costs.ann_macs,
            "ann_energy_joule": costs.ann_energy,
        }


def _free_of_steps(method: Any) -> bool:
    """Whether thresholds and weights do not depend on T, so that one run is read out at every T."""
    counted = method.coding == "sum" or method.pre_timesteps_ or method.thresholds == "mse"
    return not counted and method.correction == "none"


def _set_precision(network: SpikingNetwork, precision: str) -> str:
    network.precision = precision
    left = "; ".join(f"{layer} ({reason})" for layer, reason in network.float_layers.items())
    return f"precision {precision}" + (f", float32: {left}" if left else "")


def _shortened(network: SpikingNetwork, method: Any) -> SpikingNetwork:
    """The same network read out after fewer steps."""
    if method == network.method:
        return network
    estimate = network.delay if network.delay + 4 < network.timesteps else math.inf
    delay = delay_steps(method.delay_, min(estimate, 10**6), method.timesteps)
    shorter = SpikingNetwork(
        network.program, method, network.thresholds, network.framework, network.report, delay, network.input_spec
    )
    shorter.precision = network.precision
    return shorter


def _methods() -> dict[str, type[snnconv.methods.Method]]:
    """Conversion methods by the name of their class, those of one's own among them."""
    return {cls.__name__: cls for cls in snnconv.methods.METHODS.values()}
