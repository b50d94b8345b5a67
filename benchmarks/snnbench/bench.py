"""Run a benchmark config: find the data, train where there are no weights, convert, test, write result files."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from snnbench import results
from snnbench.config import BenchError, default_work_dir, load_config
from snnbench.results.provenance import portable
from snnbench.results.rows import Row, write_results
from snnbench.testing.convert_hook import ConvertHook, bare_model
from snnbench.testing.episode_video import EpisodeVideos
from snnbench.testing.picture import SideBySide
from snnbench.testing.test_loop import SNNTestLoop
from snnbench.weights.card import ModelCard, read_card, save_weights
from snnconv.files.untrusted import (
    UntrustedFileError,
    load_weights,
    read_header,
    read_pickle,
    refused_as,
)

__all__ = ["LAUNCHERS", "BenchError", "default_work_dir", "load_config", "run_config", "train"]

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
WEIGHTS = "weights.safetensors"
_VISUALIZERS = {"segmentation": "SegLocalVisualizer", "detection": "DetLocalVisualizer"}
# the variables in which a launcher tells a process its rank, the number of ranks, and its rank on the machine
_RANKS = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


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
    _start_processes(launcher)
    folder = Path(out) / results.slug(bench.dataset) / results.slug(bench.architecture)
    if is_main_process():
        for row in chosen:
            results.check_place(results.path_of(folder, str(row.get("label", row["type"]))))
    weights, training = _weights(config)
    if limit is not None:
        config.test_dataloader.dataset["indices"] = int(limit)
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
    if not rows:
        return [row.path for row in every]
    next(hook for hook in runner.hooks if isinstance(hook, ConvertHook)).rows = [row.settings for row in rows]
    loop.keep_state(
        Path(config.work_dir) / "partial",
        resume,
        results.config_hash({"rows": [{**row.config, "row": results.plain(row.settings)} for row in rows]}),
    )
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
    if is_main_process():
        write_results(rows, config, loop, training)
        written = [row.path for row in every if row.path.exists() and row.label not in loop.failures]
    loop.finish()
    for label, reason in loop.failures.items():
        runner.logger.warning(f"{label}: no result: {reason}")
    if is_main_process() and not written:
        raise BenchError("no row was converted: " + "; ".join(f"{k}: {v}" for k, v in loop.failures.items()))
    return written


def _start_processes(launcher: str) -> None:
    """Join the process group on processors; mmengine itself does so where there are accelerators.

    Raises:
        BenchError: not started by the launcher.
    """
    if launcher == "none" or torch.cuda.is_available() or torch.distributed.is_initialized():
        return
    rank, size, local = _RANKS[launcher]
    if rank not in os.environ or size not in os.environ:
        how = {"pytorch": "torchrun", "slurm": "srun", "mpi": "mpirun"}[launcher]
        raise BenchError(f"--launcher {launcher}: start the command with {how}, which sets {rank} and {size}")
    os.environ.update(
        RANK=os.environ[rank], WORLD_SIZE=os.environ[size], LOCAL_RANK=os.environ.get(local, os.environ[rank])
    )
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    torch.distributed.init_process_group("gloo")


def _chosen(rows: Sequence[dict[str, Any]], words: Sequence[str]) -> list[dict[str, Any]]:
    rows = [dict(row) for row in rows]
    if not any(map(results.slug, words)):
        return rows
    labels = [str(row.get("label", row["type"])) for row in rows]
    kept = list(compress(rows, results.chosen(labels, words)))
    if not kept:
        raise BenchError(f"--methods {','.join(words)} matches none of: {', '.join(labels)}")
    return kept


# --- training ----------------------------------------------------------------------------------------------


def _weights(config: Config) -> tuple[str | None, dict[str, Any] | None]:
    """The weights to test and how they were trained: given, in the model itself, or trained here."""
    given = config.bench.get("weights")
    if given == "model" or config.model.get("policy") is not None:  # the network's own builder loads them
        return None, None
    if given is not None:
        if not Path(given).is_file():
            raise BenchError(f"bench.weights: there is no file {given}")
        return str(given), None
    path = Path(config.work_dir) / WEIGHTS
    if not path.is_file():
        train(config)
    card = read_card(path)
    if card is not None and card.dataset != str(config.bench.dataset):
        raise BenchError(f"{path} was trained on {card.dataset}, not {config.bench.dataset}: name another --work-dir")
    return str(path), _training(path)


class _Clock(Hook):
    """Seconds of a training, with those of its interrupted runs: each checkpoint says how many there were."""

    def __init__(self) -> None:
        self.start, self.before = time.perf_counter(), 0.0

    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.start

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["seconds"] = self.seconds()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self.before = checkpoint.get("seconds", 0.0)


def train(config: Config) -> Path:
    """Train as the config says, going on from its last checkpoint, and store the weights with how they came about.

    Raises:
        BenchError: a config that does not train, or a last checkpoint that is damaged or not there.

    Returns:
        ``weights.safetensors`` in the work folder, with a model card in its header and beside it in ``weights.md``.
    """
    path = Path(config.work_dir) / WEIGHTS
    if "train_cfg" not in config or config.train_cfg is None:
        raise BenchError(f"this config does not train: name trained weights in bench.weights, or put them at {path}")
    training = copy.deepcopy(config)
    for name in ("bench", "test_cfg", "test_dataloader", "test_evaluator"):
        training.pop(name, None)
    _start_processes(config.get("launcher", "none"))
    training.resume = True  # from the last checkpoint in the work folder, where there is one
    _check_last(Path(config.work_dir))
    clock = _Clock()
    runner = Runner.from_cfg(_for_processor(training))
    runner.register_hook(clock)
    model = bare_model(runner.model)
    if config.get("channels_last"):  # a quarter faster on processors; torch's backward may crash on maps of one pixel
        model.to(memory_format=torch.channels_last)
    runner.train()
    clock.before = getattr(runner.train_loop, "seconds_before", clock.before)  # a loop with checkpoints of its own
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):  # what was validated is what is kept
            hook.before_val_epoch(runner)
    card = ModelCard(
        architecture=str(config.bench.architecture),
        dataset=str(config.bench.dataset),
        seed=config.get("randomness", {}).get("seed"),
        metrics=_validated(runner),
        training={
            "iterations": runner.iter,
            "epochs": runner.epoch,
            "seconds": f"{clock.seconds():.1f}",
            "ranks": get_world_size(),
        },
        config=portable(training.to_dict()),
    )
    if is_main_process():
        save_weights(model, path, card)
    barrier()
    return path


def _validated(runner: Runner) -> dict[str, float]:
    """The last validation's figures."""
    scalars = runner.message_hub.log_scalars
    return {
        name.removeprefix("val/"): float(values.current())
        for name, values in scalars.items()
        if name.startswith("val/") and not name.endswith("time")
    }


def _training(path: Path) -> dict[str, Any] | None:
    """What a weights file says about its training."""
    with refused_as(BenchError):
        metadata = read_header(path)
    if "iterations" not in metadata:
        return None
    try:
        return {
            "iterations": int(metadata["iterations"]),
            "epochs": float(metadata.get("epochs", 0)),
            "seconds": float(metadata["seconds"]),
        }
    except (KeyError, ValueError) as error:
        raise BenchError(f"{path}: what it says of its training is damaged ({error}); train it again") from error


def _check_last(work_dir: Path) -> None:
    """Refuse a checkpoint that a training cannot go on from, before mmengine reads it.

    Raises:
        BenchError: it is not there, or damaged.
    """
    note = work_dir / "last_checkpoint"
    if not note.is_file():
        return
    name = note.read_text(encoding="utf-8", errors="replace").strip()
    checkpoint = Path(name)
    if not name or not checkpoint.is_file():
        raise BenchError(
            f"{note} names {name or 'nothing'!r}, which is no file: write a checkpoint's path into it, or remove "
            "it to train anew"
        )
    try:
        read_pickle(checkpoint)
    except UntrustedFileError as error:
        raise BenchError(f"{error}; or name an earlier one in {note}, or remove that file to train anew") from error


def _for_processor(config: Config) -> Config:
    """Without an accelerator, a distributed model must not be tied to a device number."""
    if config.get("launcher", "none") != "none" and not torch.cuda.is_available():
        config.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None)
        config.setdefault("env_cfg", {}).setdefault("dist_cfg", {})["backend"] = "gloo"
    return config


# --- testing -----------------------------------------------------------------------------------------------


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
        if "pipeline" in config.test_dataloader.dataset:  # one of the user's own may have none
            calibration.setdefault("pipeline", config.test_dataloader.dataset.pipeline)
    hook = dict(
        type="ConvertHook",
        methods=rows,
        calibration=calibration,
        scope=bench.get("scope", "dense"),
        strict=bench.get("strict", False),
        profile_images=bench.get("profile_images", 2),
        skip_failed=bench.get("skip_failed", True),
    )
    testing.custom_hooks = [hook]
    hooks = testing.setdefault("default_hooks", {})
    hooks.pop("checkpoint", None)
    hooks["logger"] = None
    testing.test_cfg = dict(type="SNNTestLoop")
    return Runner.from_cfg(_for_processor(testing))
