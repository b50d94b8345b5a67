"""From a finished test pass to result files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from snnbench.results import files, results
from snnbench.results.answers import ANN as ANN_WORD
from snnbench.results.answers import Answers, word_of
from snnbench.results.twins import put
from snnbench.testing.readouts import Reading, Variant, Window
from snnbench.testing.test_loop import ANN, SNNTestLoop
from snnbench.testing.twins import NO_TWIN
from snnconv.metrics import costs as cost_models

__all__ = ["Row", "add_twins", "write_results"]


@dataclass(frozen=True)
class Row:
    """A method row of a config and the file its result goes to.

    Attributes:
        settings: the row as the config has it.
        config: what decides its figures; a stored result of another config is not continued.
        path: the result file.
    """

    settings: dict[str, Any]
    config: dict[str, Any]
    path: Path

    @property
    def label(self) -> str:
        """Its name in tables."""
        return str(self.settings.get("label", self.settings["type"]))

    @classmethod
    def of(
        cls, settings: dict[str, Any], folder: Path, config: Config, weights: str, samples: int, limit: int | None
    ) -> Row:
        """The row ``settings`` of ``config`` on ``samples`` test samples, for the network with the hash ``weights``."""
        bench = config.bench
        calibration = dict(bench.get("calibration") or {})
        decides = {
            "dataset": bench.dataset,
            "architecture": bench.architecture,
            "weights": weights,
            "settings": {k: v for k, v in settings.items() if k not in ("label", "timesteps", "windows")},
            "scope": bench.get("scope", "dense"),
            "test_samples": samples,
            "calibration": {k: v for k, v in calibration.items() if _is_plain(v)},
            "seed": int((config.get("randomness") or {}).get("seed") or 0),
            "limit": limit,
        }
        if bench.task == "control":
            decides["first_seed"] = config.test_dataloader.dataset.get("seed")
        label = str(settings.get("label", settings["type"]))
        return cls(settings, results.plain(decides), results.path_of(folder, label))

    def lacks_twins(self) -> bool:
        """Whether there is a file with a point that has no quantised network beside it."""
        return self.path.exists() and any(not item.get("twin") for item in files.read(self.path)["points"])

    def is_finished(self) -> bool:
        """Whether the file holds every number of steps, measured with exactly this config."""
        if not self.path.exists():
            return False
        record = files.read(self.path)
        if self.settings.get("windows"):  # a grid is measured as a whole
            return False
        steps = self.settings["timesteps"]
        steps = steps if isinstance(steps, (list, tuple)) else [steps]
        before = int(self.settings.get("pre_timesteps", 0))
        return all(results.finished(record, self.config, int(t), before) is not None for t in steps)


def write_results(
    rows: list[Row], config: Config, loop: SNNTestLoop, training: dict[str, Any] | None, answers: bool = True
) -> list[Path]:
    """One file a row: every number of steps and every readout window is a point.

    Args:
        rows: the method rows that were run.
        config: the benchmark config.
        loop: the test loop, after its pass.
        training: epochs, iterations and seconds of a training run here.
        answers: keep the answers to every sample beside each file, where the metric is one whose samples are known.
    """
    scale = float(config.bench.get("scale", 1.0))
    written = []
    for row in rows:
        variants = [v for v in loop.variants if v.label == row.label]
        if not variants:
            continue
        record = results.begin(row.path, _header(row, variants, config, loop, training))
        keys: dict[str, tuple[str, Window]] = {ANN_WORD: (ANN, (0, 0))}
        for variant in variants:
            for reading in variant.readings:
                item = _point(variant, reading, loop, scale)
                record = results.with_point(record, item, [*variant.notes, *loop.notes])
                keys[word_of(item)] = variant.name, reading.window
        results.write(row.path, record, _answers(loop, keys) if answers else None)
        written.append(row.path)
    return written


def add_twins(rows: list[Row], config: Config, loop: SNNTestLoop) -> tuple[list[Path], list[str]]:
    """Put the quantised networks of a test pass beside stored points that have none; nothing else is written.

    Returns:
        The files that have more of them now; a sentence for each point or row that was left as it is.
    """
    scale = float(config.bench.get("scale", 1.0))
    written: list[Path] = []
    left: list[str] = []
    for row in rows:
        variants = [v for v in loop.variants if v.label == row.label]
        if not variants:
            continue
        measured = [_point(variant, reading, loop, scale) for variant in variants for reading in variant.readings]
        try:
            done, why = put(row.path, _header(row, variants, config, loop, None), measured)
        except results.ResultError as error:
            left.append(str(error))
            continue
        left += [f"{row.label}: {sentence}" for sentence in why]
        left += [f"{row.label}: {note}" for v in variants for note in v.notes if note.startswith(NO_TWIN)]
        written += [row.path] if done else []
    return written, left


def _header(
    row: Row, variants: list[Variant], config: Config, loop: SNNTestLoop, training: dict[str, Any] | None
) -> dict[str, Any]:
    """The fields of a row that its points have in common."""
    bench = config.bench
    scale = float(bench.get("scale", 1.0))
    costs = next((r.costs for v in variants for r in v.readings if r.costs), {})
    first = variants[0]
    fields = {k: v for k, v in first.method["fields"].items() if k != "timesteps"}
    return {
        "task": bench.task,
        "dataset": bench.dataset,
        "split": bench.get("split", "test"),
        "samples": len(loop.dataloader.dataset),
        "architecture": bench.architecture,
        "label": row.label,
        "method": {"name": first.method["name"], "fields": results.plain(fields)},
        "metric": bench.metric,
        "higher_is_better": bool(bench.get("higher_is_better", True)),
        "ann": {
            "metrics": _scaled(loop.results[ANN, (0, 0)], scale),
            "seconds": loop.seconds.get(ANN),
            "macs": costs.get("ann_macs"),
            "energy_joule": costs.get("ann_energy_joule"),
            "energies": costs.get("ann_energies"),
            **_errors(loop, (ANN, (0, 0)), scale),
        },
        "sites": first.sites or None,
        "training": training,
        "config": row.config,
        "weights": row.config["weights"],
        **results.provenance(row.config["seed"]),
    }


def _point(variant: Variant, reading: Reading, loop: SNNTestLoop, scale: float) -> dict[str, Any]:
    names = (
        "pipelined_latency",
        "pipeline",
        "spikes",
        "spikes_per_neuron",
        "sops",
        "macs",
        "energy_joule",
        "energy_ratio",
        "energies",
        "bits_per_step",
    )
    key = variant.name, reading.window
    return results.point(
        reading.timesteps,
        _scaled(loop.results[key], scale),
        {"convert": round(variant.seconds, 3), "evaluate": round(loop.seconds.get(variant.name, 0.0), 3)},
        pre_timesteps=variant.pre_timesteps,
        window=reading.window,
        memory_mib=results.peak_memory(),
        twin=_twin(key, reading, loop, scale),
        **_errors(loop, key, scale),
        **{name: reading.costs.get(name) for name in names},
    )


def _twin(key: tuple[str, Window], reading: Reading, loop: SNNTestLoop, scale: float) -> dict[str, Any] | None:
    """The quantised networks that were tested beside a readout; None where there are none."""
    found = {variant.weight_bits: variant for variant in loop.variants if variant.twin_of == key}
    if len(found) < 2:
        return None
    metrics = {bits: _scaled(loop.results[v.name, v.readings[0].window], scale) for bits, v in found.items()}
    whole, counts = found[32], reading.costs.get("profile")
    energies = None
    if counts is not None:
        energies = {name: model.of_twin(counts, whole.levels) for name, model in cost_models.COSTS.items()}
    return {
        "levels": whole.levels,
        "metrics": metrics[32],
        "metrics_int8": metrics[8],
        "agreement": loop.agreements.get(whole.name),
        "energies": energies,
    }


def _errors(loop: SNNTestLoop, key: tuple[str, Window], scale: float) -> dict[str, dict[str, float]]:
    found = loop.errors.get(key)
    return {"errors": _scaled(found, scale)} if found else {}


def _answers(loop: SNNTestLoop, keys: dict[str, tuple[str, Window]]) -> Answers | None:
    """What each network answered, where the metric is one whose samples are known."""
    found = {word: loop.samples[key] for word, key in keys.items() if key in loop.samples}
    if len(found) < len(keys):
        return None
    source = found[ANN_WORD]
    return Answers(source.kind, source.truth, {word: own.arrays for word, own in found.items()})


def _scaled(metrics: dict[str, float], scale: float) -> dict[str, float]:
    return {name: value * scale for name, value in metrics.items()}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
