"""Training as a config says, and the weights that it leaves."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from snnbench import results
from snnbench.config import BenchError
from snnbench.config_types import nothing_imported
from snnbench.processes import for_processor, start_processes
from snnbench.results.provenance import portable
from snnbench.testing.convert_hook import bare_model
from snnbench.training import checkpoints as checkpoints  # registers its hook
from snnbench.weights.card import ModelCard, read_card, save_weights
from snnbench.work_folder import naming
from snnconv.files.refusal import brief
from snnconv.files.untrusted import UntrustedFileError, read_header, read_pickle, refused_as

__all__ = ["train", "trained_weights", "what_trains"]

WEIGHTS = "weights.safetensors"


def trained_weights(config: Config) -> tuple[str | None, dict[str, Any] | None]:
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


def what_trains(config: Config) -> str:
    """Where the weights will come from, in words: what :func:`trained_weights` is about to do."""
    given = config.bench.get("weights")
    if given == "model" or config.model.get("policy") is not None:
        return "the model's own weights"
    if given is not None:
        return f"weights of {given}"
    work_dir = Path(config.work_dir)
    if (work_dir / WEIGHTS).is_file():
        return f"weights of {work_dir / WEIGHTS}"
    course = config.get("train_cfg") or {}
    units = (("epoch", course.get("max_epochs")), ("iteration", course.get("max_iters")))
    length = next((f" for {count:,} {unit}{'s' * (count != 1)}" for unit, count in units if count), "")
    begun = ", from its last checkpoint on" if (work_dir / "last_checkpoint").is_file() else ""
    return f"training{length}{begun}, logs and checkpoints in {work_dir}"


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
        snnbench.results.ResultError: the work folder cannot be written.

    Returns:
        ``weights.safetensors`` in the work folder, with a model card in its header and beside it in ``weights.md``.
    """
    path = Path(config.work_dir) / WEIGHTS
    if "train_cfg" not in config or config.train_cfg is None:
        raise BenchError(f"this config does not train: name trained weights in bench.weights, or put them at {path}")
    training = copy.deepcopy(config)
    for name in ("bench", "test_cfg", "test_dataloader", "test_evaluator"):
        training.pop(name, None)
    start_processes(config.get("launcher", "none"))
    if is_main_process():
        results.check_out(path)
    training.resume = True  # from the last checkpoint in the work folder, where there is one
    hook = training.setdefault("default_hooks", {}).setdefault("checkpoint", {"type": "CheckpointHook", "interval": 1})
    if hook and hook.get("type") == "CheckpointHook":
        hook["type"] = "snnbench.WholeCheckpointHook"
    _check_last(Path(config.work_dir))
    clock = _Clock()
    with refused_as(BenchError), nothing_imported(training), naming(config.work_dir):
        runner = Runner.from_cfg(for_processor(training))
        runner.register_hook(clock)
        model = bare_model(runner.model)
        if config.get("channels_last"):  # a quarter faster on processors; torch may crash on maps of one pixel
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
        raise BenchError(f"{path}: what it says of its training is damaged ({brief(error)}); train it again") from error
