"""A result of one's own measurement: what a converted network and its figures say, in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from snnbench.results.provenance import describe, peak_memory, provenance
from snnbench.results.results import begin, counted, digest, path_of, plain, point, sites, slug, thresholds, with_point
from snnbench.results.results import write as write_result
from snnbench.results.validation import ResultError
from snnconv import SpikingNetwork
from snnconv.metrics import Evaluation, Profile

__all__ = ["record"]


def record(
    snn: SpikingNetwork,
    model: nn.Module,
    evaluation: Evaluation,
    profile: Profile | None = None,
    *,
    dataset: str,
    architecture: str,
    folder: str | os.PathLike[str] = "benchmarks/results",
    label: str | None = None,
    task: str = "classification",
    split: str = "test",
    seed: int = 0,
    seconds: float | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the result of one converted network at its number of steps; returns the file.

    A file that is there of the same network, data and settings gets the point beside its others; one of others is
    written anew.

    Args:
        snn: the converted network.
        model: its source network.
        evaluation: of :func:`snnconv.evaluate`, with ``model=``.
        profile: of :func:`snnconv.profile`; without it spikes, operations and energy are null.
        dataset, architecture: their names; the file's folders are made of them.
        folder: holds the results of all data sets.
        label: the row's name in tables; the method's by default.
        task: as in the layout of result files.
        split: the part of the data set.
        seed: of every draw.
        seconds: that the evaluation took, for all samples.
        notes: sentences.

    Raises:
        ResultError: an evaluation without the source network, or not of the last step; a file that cannot be written.

    >>> import tempfile, torch, snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    >>> x = torch.randn(64, 4)
    >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=8), calibration=x)
    >>> found = snnconv.evaluate(snn, (x, model(x).argmax(1)), model=model)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = record(snn, model, found, dataset="mine", architecture="MLP", folder=folder)
    ...     path.relative_to(folder).as_posix()
    'mine/mlp/signedif.json'
    """
    if evaluation.ann is None:
        raise ResultError("the source network's score is missing: snnconv.evaluate(snn, loader, model=model)")
    if snn.timesteps not in evaluation.curve:
        raise ResultError(f"the score after the last step, T = {snn.timesteps}, is missing: evaluate that step, too")
    metric, method = evaluation.metric, snn.method
    name = label or type(method).__name__
    config = {
        "dataset": dataset,
        "architecture": architecture,
        "weights": digest(model),
        "settings": describe(method),
        "test_samples": evaluation.samples,
        "calibration": {"images": snn.report.calibration_samples if snn.report else None},
        "seed": seed,
    }
    ann: dict[str, Any] = {
        "metrics": {metric.name: evaluation.ann},
        "seconds": None,
        "macs": None,
        "energy_joule": None,
    }
    if profile is not None:
        energies = {name: figures["ann"] for name, figures in profile.energies.items()}
        ann |= {"macs": profile.ann_macs, "energy_joule": profile.ann_energy, "energies": energies}
    header = {
        "task": task,
        "dataset": dataset,
        "split": split,
        "samples": evaluation.samples,
        "architecture": architecture,
        "label": name,
        "method": describe(method),
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "ann": ann,
        "sites": sites(snn.report) if snn.report else None,
        "training": None,
        "config": plain(config),
        "weights": config["weights"],
        **provenance(seed),
    }
    path = path_of(Path(folder) / slug(dataset) / slug(architecture), name)
    converting = sum(snn.report.seconds.values()) if snn.report else None
    measured = point(
        snn.timesteps,
        {metric.name: evaluation.curve[snn.timesteps]},
        {"convert": converting, "evaluate": seconds},
        pre_timesteps=evaluation.pre_timesteps,
        window=(snn.delay + 1, snn.timesteps),
        memory_mib=peak_memory(),
        thresholds=thresholds(snn.report) if snn.report else None,
        **(counted(profile) if profile is not None else {}),
    )
    left = {"seconds of the evaluation": seconds, "spikes, operations and energy": profile}
    unknown = [name for name, value in left.items() if value is None]
    said = [*notes, *([f"Not given: {', '.join(unknown)}."] if unknown else []), "The source network was not timed."]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_result(path, with_point(begin(path, header), measured, said))
    return path
