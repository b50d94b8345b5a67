"""Running a benchmark config: train where there are no weights, convert, test, write result files."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from snnbench import results
from snnbench.config import BenchError, default_work_dir, load_config
from snnbench.config_types import nothing_imported
from snnbench.data.limited import first
from snnbench.processes import LAUNCHERS, for_processor, start_processes
from snnbench.results.rows import Row, add_twins, write_results
from snnbench.seeds import folders
from snnbench.testing.convert_hook import ConvertHook, bare_model
from snnbench.testing.episode_video import EpisodeVideos
from snnbench.testing.picture import SideBySide
from snnbench.testing.test_loop import SNNTestLoop
from snnbench.train import trained_weights, what_trains
from snnbench.work_folder import naming
from snnconv.files.untrusted import load_weights, refused_as

__all__ = ["run_config", "run_seeds"]

_VISUALIZERS = {"segmentation": "SegLocalVisualizer", "detection": "DetLocalVisualizer"}


def run_config(
    path: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    work_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    resume: bool = False,
    methods: Sequence[str] = (),
    options: dict[str, Any] | None = None,
    launcher: str = "none",
    draw: int = 0,
    answers: bool = True,
    twins: bool = False,
    below: str = "",
    told: Callable[[str], Any] = lambda words: None,
) -> list[Path]:
    """Run a benchmark config and return the result files, one a method row.

    Args:
        path: an mmengine config with a ``bench`` key.
        out: folder of the results; files go to ``<out>/<data set>/<architecture>/<row>.json``.
        work_dir: logs, checkpoints and the partial state; by default as :func:`default_work_dir` says.
        limit: test on the first ``limit`` samples only.
        resume: go on from an interrupted test pass, and keep result files that hold all their points.
        methods: only rows whose label contains one of these words; a whole label means that row alone.
        options: changes of the config, ``{"train_cfg.max_iters": 100}``.
        launcher: ``"none"``, or ``"pytorch"``, ``"slurm"``, ``"mpi"`` where that started the process.
        draw: pictures of the first ``draw`` test samples, source and converted network side by side; of episodes, a
            video for each network.
        answers: keep the answers to every sample in a file beside each result.
        twins: only put the quantised networks beside stored points that have none, where this run gives their metric.
        below: folder below ``<out>/<data set>/<architecture>`` for the files.
        told: gets one line before the work: what will run, and where results go.

    Raises:
        BenchError: a config or option that cannot be run, or no row that converts.
        snnbench.results.ResultError: a result file that cannot be written, or that is damaged: before any work.
        snnbench.data.roots.DataRootError: data that is not there.
    """
    if launcher not in LAUNCHERS:
        raise BenchError(f"launcher is one of {', '.join(LAUNCHERS)}, got {launcher!r}")
    config = load_config(path, options)
    bench = config.bench
    config.work_dir = str(work_dir or default_work_dir(path))
    config.launcher = launcher
    chosen = _chosen(bench.methods, methods)
    start_processes(launcher)
    folder = Path(out) / results.slug(bench.dataset) / results.slug(bench.architecture) / below
    if is_main_process():
        some = f"{limit:,} samples of " if limit else ""
        rows_of = f"{len(chosen)} rows" if len(chosen) > 1 else "1 row"
        told(f"{bench.architecture} on {some}{bench.dataset}: {what_trains(config)}; then {rows_of} to {folder}")
    with refused_as(BenchError), nothing_imported(config), naming(config.work_dir):
        return _run(config, chosen, folder, limit, resume, draw, answers, twins)


def run_seeds(
    path: str | os.PathLike[str],
    seeds: Sequence[int],
    *,
    out: str | os.PathLike[str],
    work_dir: str | os.PathLike[str] | None = None,
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> list[Path]:
    """:func:`run_config` once a seed: trained anew where the config trains, converted and tested.

    The first seed's files are where they are without seeds, the others' in a folder ``seed-<n>`` beside them and below
    the work folder; tables show their mean. Of a run that was interrupted, ``resume`` keeps the seeds that are done.

    Args:
        seeds: none: the config's own.
        path, out, work_dir, options, settings: as for :func:`run_config`.
    """
    if not seeds:
        return run_config(path, out=out, work_dir=work_dir, options=options, **settings)
    written: list[Path] = []
    place = Path(work_dir or default_work_dir(path))
    for seed, own in folders(seeds):
        chosen = {**(options or {}), "randomness.seed": seed}
        written += run_config(path, out=out, work_dir=place / own, options=chosen, below=own, **settings)
    return written


def _run(
    config: Config,
    chosen: list[dict[str, Any]],
    folder: Path,
    limit: int | None,
    resume: bool,
    draw: int,
    answers: bool,
    twins: bool,
) -> list[Path]:
    """The rows ``chosen`` of a config, one file each in ``folder``."""
    bench = config.bench
    places = [results.path_of(folder, str(row.get("label", row["type"]))) for row in chosen]
    if is_main_process():
        for place in places:
            results.check_place(place)
    if twins and not any(place.exists() for place in places):
        raise BenchError(f"{folder} holds none of these rows, and --twins adds to stored ones; run without it")
    weights, training = trained_weights(config)
    if limit is not None:
        config.test_dataloader.dataset = first(config.test_dataloader.dataset, int(limit))
    runner = _test_runner(config, chosen)
    model = bare_model(runner.model)
    if weights is not None:
        load_weights(model, weights)
    runner._has_loaded = True  # mmengine would initialise the weights again
    loop: SNNTestLoop = runner.test_loop
    samples = len(loop.dataloader.dataset)
    digest = results.digest(model)
    every = [Row.of(row, folder, config, digest, samples, limit) for row in chosen]
    rows = [row for row in every if not (resume and row.is_finished())]
    if twins:
        rows = [row for row in every if row.lacks_twins()]
    loop.keep_state(
        Path(config.work_dir) / "partial",
        resume,
        results.config_hash({"rows": [{**row.config, "row": results.plain(row.settings)} for row in every]}),
    )
    if not rows:
        loop.forget_finished()
        return [row.path for row in every]
    next(hook for hook in runner.hooks if isinstance(hook, ConvertHook)).rows = [row.settings for row in rows]
    pictures: Any = None
    if draw and bench.task == "control":
        seeds = [loop.dataloader.dataset[i]["inputs"] for i in range(min(draw, samples))]
        pictures = EpisodeVideos(Path(config.work_dir) / "videos", seeds, model)
    elif draw:
        pictures = SideBySide(Path(config.work_dir) / "pictures", draw, runner.visualizer)
    if pictures is not None and is_main_process():
        loop.on_prediction = pictures.add
    runner.test()
    if pictures is not None:
        pictures.finish()
    written: list[Path] = []
    left: list[str] = []
    if is_main_process():
        if twins:
            written, left = add_twins(rows, config, loop)
            for sentence in left:
                runner.logger.warning(sentence)
        else:
            write_results(rows, config, loop, training, answers)
            written = [row.path for row in every if row.path.exists() and row.label not in loop.failures]
    loop.finish()
    for label, reason in loop.failures.items():
        runner.logger.warning(f"{label}: no result: {reason}")
    if is_main_process() and twins and not written:
        raise BenchError("no stored point was given a quantised network: " + "; ".join(left or ["they have none"]))
    if is_main_process() and not written:
        raise BenchError("no row was converted: " + "; ".join(f"{k}: {v}" for k, v in loop.failures.items()))
    return written


def _chosen(rows: Sequence[dict[str, Any]], words: Sequence[str]) -> list[dict[str, Any]]:
    rows = [dict(row) for row in rows]
    if not any(map(results.slug, words)):
        return rows
    labels = [str(row.get("label", row["type"])) for row in rows]
    kept = list(compress(rows, results.chosen(labels, words)))
    if not kept:
        raise BenchError(f"--methods {','.join(words)} matches none of: {', '.join(labels)}")
    return kept


def _forget_start(model: Any) -> None:
    """Drop what only training needs, which may be gone: the trained weights replace what it started from."""
    model.pop("regularizer", None)
    model.pop("checkpoint", None)
    if model.network.get("type") == "Prepared":
        model.network.checkpoint = None


def _test_runner(config: Config, rows: list[dict[str, Any]]) -> Runner:
    testing = copy.deepcopy(config)
    bench = testing.bench
    for name in ("train_cfg", "train_dataloader", "optim_wrapper", "param_scheduler", "val_cfg", "val_dataloader"):
        testing.pop(name, None)
    testing.pop("val_evaluator", None)
    testing.load_from, testing.resume = None, False
    if bench.task in _VISUALIZERS and "visualizer" not in testing:
        testing.visualizer = dict(type=_VISUALIZERS[bench.task], vis_backends=[], name="visualizer")
    if testing.model.get("type") == "ImageClassifier" and bench.get("weights") != "model":
        _forget_start(testing.model)
    testing.log_level = "WARNING"  # the table of results is what is read; the log file holds no more either
    calibration = dict(bench.get("calibration") or {})
    if "dataset" not in calibration:
        if "train_dataloader" not in config:
            raise BenchError("bench.calibration needs a dataset: this config has no train_dataloader to take it from")
        calibration["dataset"] = copy.deepcopy(config.train_dataloader.dataset)
        tested = config.test_dataloader.dataset
        for dataset in (tested, tested.get("dataset", {})):  # one of the user's own may have none
            if "pipeline" in dataset:
                calibration.setdefault("pipeline", dataset.pipeline)
    hook = dict(
        type="ConvertHook",
        methods=rows,
        calibration=calibration,
        scope=bench.get("scope", "dense"),
        input=bench.get("input", "constant"),
        strict=bench.get("strict", False),
        profile_images=bench.get("profile_images", 2),
        skip_failed=bench.get("skip_failed", True),
        twins=bench.get("twins", True),
    )
    testing.custom_hooks = [hook]
    hooks = testing.setdefault("default_hooks", {})
    hooks.pop("checkpoint", None)
    hooks["logger"] = None
    testing.test_cfg = dict(type="SNNTestLoop")
    return Runner.from_cfg(for_processor(testing))
