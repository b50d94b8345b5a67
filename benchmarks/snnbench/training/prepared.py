"""Networks with trained activations in configs: building, calibrating, both stages of rate norm training."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS, LOOPS
from mmengine.runner import BaseLoop
from torch import Tensor, nn

import snnconv
from snnbench.data.roots import resolve
from snnbench.registry import MODELS
from snnbench.testing.calibration_data import CalibrationData
from snnbench.testing.convert_hook import bare_model
from snnconv import activations, training
from snnconv.files.untrusted import load_weights
from snnconv.training import quantise_weights
from snnconv.training.prepare import calibrate

__all__ = ["CalibrateHook", "RateScaleLoop", "distillation", "prepared_network", "training_progress"]

MODELS.register_module(name="BitSparsity", module=training.BitSparsity)
MODELS.register_module(name="InferenceRate", module=training.InferenceRate)

ACTIVATIONS = ("QCFS", "QuantReLU", "RateNorm")


@MODELS.register_module(name="Prepared")
def prepared_network(
    network: Any, activation: dict[str, Any], checkpoint: str | None = None, weights: dict[str, Any] | None = None
) -> nn.Module:
    """A network with a trained activation at every ReLU, by :func:`snnconv.prepare`; `CalibrateHook` sets thresholds.

    Args:
        network: config of the network with ReLUs.
        activation: ``dict(type="QuantReLU", levels=7)``, also ``QCFS`` or ``RateNorm``, with their arguments;
            ``shared=True`` gives a ``RateNorm`` network one scale.
        checkpoint: weights of the network with ReLUs, from which training starts; may be a ``dataset:`` string.
        weights: ``dict(bits=4, ends=8)``: quantised weights, see :func:`snnconv.training.quantise_weights`.

    Raises:
        ValueError: an unknown activation.
        CheckpointError: weights of another network.

    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> prepared_network(network, dict(type="QuantReLU", levels=3))[1]
    QuantReLU(levels=3, clips=1)
    """
    settings = dict(activation)
    name = settings.pop("type", None)
    if name not in ACTIVATIONS:
        raise ValueError(f"activation.type must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    if settings.get("shared") is True:
        settings["shared"] = nn.Parameter(torch.tensor(1.0 if settings.get("scale") == "abs" else 4.0))
    module = MODELS.build(network) if isinstance(network, dict) else network
    if checkpoint is not None:
        load_weights(module, resolve(checkpoint))
    if weights is not None:
        module = quantise_weights(module, **weights)
    return snnconv.prepare(module, getattr(activations, name)(**settings))


@MODELS.register_module(name="Distillation")
def distillation(teacher: Any, checkpoint: str | None = None, **settings: Any) -> training.Distillation:
    """:class:`snnconv.training.Distillation` with the teacher as a config.

    Args:
        teacher: config of the network, or the network.
        checkpoint: its weights; may be a ``dataset:`` string.
        settings: ``coefficient``, ``temperature``, ``schedule``, ``span``.

    Raises:
        CheckpointError: weights of another network.

    >>> distillation(nn.Linear(2, 2), temperature=2.0).temperature
    2.0
    """
    module = MODELS.build(teacher) if isinstance(teacher, dict) else teacher
    if checkpoint is not None:
        load_weights(module, resolve(checkpoint))
    return training.Distillation(module, **settings)


def training_progress() -> float:
    """The part of the training that is done, 0 to 1, as mmengine's runner counts it; 1 where there is none."""
    hub = MessageHub.get_current_instance()
    done, total = hub.get_info("iter", 0), hub.get_info("max_iters", 0)
    return min(1.0, done / total) if total else 1.0


@HOOKS.register_module()
class CalibrateHook(Hook):
    """Before training, sets the thresholds of trained activations from training data, see :func:`snnconv.prepare`.

    A run that is resumed takes them from its checkpoint afterwards.

    Args:
        images: how many, spread evenly over the training set, with the validation pipeline.
        batch_size: images a batch.
    """

    priority = "VERY_HIGH"  # before hooks that copy the model

    def __init__(self, images: int = 512, batch_size: int = 64) -> None:
        self.images = images
        self.batch_size = batch_size

    def before_run(self, runner: Any) -> None:
        """Calibrate where the runner trains."""
        config = runner.cfg
        if config.get("train_dataloader") is None:
            return
        pipeline = (config.get("val_dataloader") or {}).get("dataset", {}).get("pipeline")
        data = CalibrationData(config.train_dataloader.dataset, self.images, self.batch_size, pipeline)
        model = bare_model(runner.model)
        inputs = [batch["inputs"] for batch in data.batches(model)]
        network = getattr(model, "network", model)
        calibrate(network, inputs, distributed=get_world_size() > 1, progress=None if is_main_process() else False)


@LOOPS.register_module()
class RateScaleLoop(BaseLoop):
    """``train_cfg`` of the second stage of rate norm training, see :func:`snnconv.train_rate_scale`.

    The accuracy that ends it is measured on images of the training set, never on the test set. Every process does the
    same work.

    Args:
        runner, dataloader: as mmengine gives them.
        validation: number of these images.
        settings: ``weight``, ``epochs``, ``learning_rate``, ``tolerance``, ``every``, ``distance``, ``statistics``.
    """

    def __init__(self, runner: Any, dataloader: Any, validation: int = 5000, **settings: Any) -> None:
        super().__init__(runner, dataloader)
        self.validation = validation
        self.settings = settings
        self.epoch = self.iter = 0
        self.max_epochs = int(settings.get("epochs", 1))
        self.max_iters = self.max_epochs * len(self.dataloader)

    def run(self) -> nn.Module:
        """Train, and put the network's new scales in place."""
        runner = self.runner
        runner.call_hook("before_train")
        model = bare_model(runner.model)
        source: Any = model.network
        held = _Held(model, runner.cfg.train_dataloader.dataset, runner.cfg.get("val_dataloader"), self.validation)
        network, report = snnconv.train_rate_scale(
            source, _Batches(model, self.dataloader), held, progress=None if is_main_process() else False,
            **self.settings,
        )  # fmt: skip
        source.load_state_dict(network.state_dict())
        for stage in report.stages:
            runner.logger.info(f"step {stage.step}: {stage.accuracy:.2f} %, mean K {stage.mean_k:.3f}")
        runner.logger.info(f"taken: step {report.chosen}")
        self.epoch, self.iter = self.max_epochs, report.stages[-1].step
        chosen = next(stage for stage in report.stages if stage.step == report.chosen)
        runner.message_hub.update_scalar("val/accuracy_in_training", chosen.accuracy)
        runner.message_hub.update_scalar("val/mean_k", chosen.mean_k)
        runner.call_hook("after_train")
        return runner.model


class _Batches:
    """Preprocessed batches of a data loader, as pairs of inputs and labels."""

    def __init__(self, model: nn.Module, dataloader: Any) -> None:
        self.model = model
        self.dataloader = dataloader

    def __len__(self) -> int:
        return len(self.dataloader)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        for batch in self.dataloader:
            data = self.model.data_preprocessor(batch, False)  # type: ignore[operator]
            yield data["inputs"], data["data_samples"]


class _Held(_Batches):
    """Images of the training set through the validation pipeline."""

    def __init__(self, model: nn.Module, dataset: Any, val_dataloader: Any, images: int) -> None:
        pipeline = (val_dataloader or {}).get("dataset", {}).get("pipeline")
        self.data = CalibrationData(copy.deepcopy(dataset), images, 100, pipeline)
        super().__init__(model, None)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        for data in self.data.batches(self.model):
            yield data["inputs"], data["data_samples"]
