"""From a finished test pass to result files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from snnconv import results
from snnconv.openmm.test_loop import ANN, SNNTestLoop
from snnconv.openmm.variants import Variant

__all__ = ["write_results"]


def write_results(
    folder: Path,
    config: Config,
    rows: list[dict[str, Any]],
    loop: SNNTestLoop,
    model: nn.Module,
    training: dict[str, Any] | None,
    limit: int | None,
) -> list[Path]:
    """One file a row: every number of steps and every readout window is a point.

    Args:
        folder: where the files go.
        config: the benchmark config.
        rows: the method rows that were run.
        loop: the test loop, after its pass.
        model: the source model.
        training: epochs, iterations and seconds of a training run here.
        limit: samples tested, where not all were.
    """
    bench = config.bench
    scale = float(bench.get("scale", 1.0))
    samples = len(loop.dataloader.dataset)
    seed = int((config.get("randomness") or {}).get("seed") or 0)
    weights = results.digest(model)
    written = []
    for row in rows:
        label = str(row.get("label", row["type"]))
        variants = [v for v in loop.variants if v.label == label]
        if not variants:
            continue
        costs = next((r.costs for v in variants for r in v.readings if r.costs), {})
        settings = {k: v for k, v in row.items() if k not in ("label", "timesteps", "windows")}
        first = variants[0]
        fields = {k: v for k, v in first.method["fields"].items() if k != "timesteps"}
        header = {
            "task": bench.task,
            "dataset": bench.dataset,
            "split": bench.get("split", "test"),
            "samples": samples,
            "architecture": bench.architecture,
            "label": label,
            "method": {"name": first.method["name"], "fields": results.plain(fields)},
            "metric": bench.metric,
            "higher_is_better": bool(bench.get("higher_is_better", True)),
            "ann": {
                "metrics": _scaled(loop.results[ANN, (0, 0)], scale),
                "seconds": loop.seconds.get(ANN),
                "macs": costs.get("ann_macs"),
                "energy_joule": costs.get("ann_energy_joule"),
            },
            "sites": first.sites or None,
            "training": training,
            "config": {
                "dataset": bench.dataset,
                "architecture": bench.architecture,
                "weights": weights,
                "settings": results.plain(settings),
                "scope": bench.get("scope", "dense"),
                "test_samples": samples,
                "calibration": {k: v for k, v in dict(bench.get("calibration") or {}).items() if _is_plain(v)},
                "seed": seed,
                "limit": limit,
            },
            "weights": weights,
            **results.provenance(seed),
        }
        path = results.path_of(folder, label)
        record = results.begin(path, header)
        for variant in variants:
            for item in _points(variant, loop, scale):
                record = results.with_point(record, item, variant.notes)
        results.write(path, record)
        written.append(path)
    return written


def _points(variant: Variant, loop: SNNTestLoop, scale: float) -> list[dict[str, Any]]:
    names = ("pipelined_latency", "spikes", "spikes_per_neuron", "sops", "macs", "energy_joule", "energy_ratio")
    found = []
    for reading in variant.readings:
        found.append(
            results.point(
                reading.timesteps,
                _scaled(loop.results[variant.name, reading.window], scale),
                {"convert": round(variant.seconds, 3), "evaluate": round(loop.seconds.get(variant.name, 0.0), 3)},
                pre_timesteps=variant.pre_timesteps,
                window=reading.window,
                memory_mib=results.peak_memory(),
                **{name: reading.costs.get(name) for name in names},
            )
        )
    return found


def _scaled(metrics: dict[str, float], scale: float) -> dict[str, float]:
    return {name: value * scale for name, value in metrics.items()}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
