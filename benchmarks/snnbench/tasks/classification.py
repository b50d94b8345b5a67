"""Image classification on mmengine's runner: model, preprocessor and metric.

A config with ``default_scope = "snnbench"`` finds everything here by name, the data sets, augmentation, pretrained
networks and optimiser wrapper included; other configs with the scope before it (``"snnbench.TopK"``).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from snnbench.data import augment
from snnbench.data.image_datasets import SKIPPED, ImageFolder, InMemoryImages
from snnbench.data.images import IMAGENET_MEAN, IMAGENET_STD, normalise
from snnbench.data.roots import resolve
from snnbench.registry import METRICS, MODELS
from snnbench.training import optim, prepared
from snnbench.weights import pretrained
from snnconv.files.untrusted import CheckpointError, load_weights
from snnconv.training import Distillation
from snnconv.training.losses import Regularizer

__all__ = [
    "ImageClassifier",
    "ImageFolder",
    "ImagePreprocessor",
    "InMemoryImages",
    "TopK",
    "augment",
    "optim",
    "prepared",
    "pretrained",
]


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """uint8 images to normalised float batches on the model's device.

    Args:
        mean, std: of the pixels scaled to [0, 1], one a channel.
        channels_last: memory format of the batch, and of the network's weights in `ImageClassifier`.

    Shapes: ``inputs`` uint8 ``[B, C, H, W]`` or a list of ``[C, H, W]``, ``data_samples`` labels ``[B]``, a list of
    labels, or class weights ``[B, classes]``; out come tensors.

    Raises:
        TypeError: images that are not uint8.
        ValueError: images of several sizes, or of another number of channels.

    >>> data = {"inputs": [torch.zeros(3, 8, 8, dtype=torch.uint8)], "data_samples": [torch.tensor(2)]}
    >>> ImagePreprocessor()(data)["inputs"].shape
    torch.Size([1, 3, 8, 8])
    """

    item_dim = 3
    memory_format = torch.channels_last

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        channels_last: bool = False,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean and std need one number a channel, std above zero; got {mean} and {std}")
        self.mean, self.std = tuple(mean), tuple(std)
        self.channels_last = channels_last

    def forward(self, data: Any, training: bool = False) -> dict[str, Any]:
        data = dict(self.cast_data(data))
        images = _joined(data["inputs"], self.item_dim)
        if images.dtype != torch.uint8:
            raise TypeError(f"images are uint8 until they are normalised here, got {images.dtype}")
        if images.shape[1] != len(self.mean):
            raise ValueError(f"images of {images.shape[1]} channels, but mean has {len(self.mean)} numbers")
        images = normalise(images, self.mean, self.std)
        if self.channels_last:
            images = images.contiguous(memory_format=self.memory_format)
        labels = data.get("data_samples")
        return data | {"inputs": images, "data_samples": None if labels is None else _joined(labels, item_dim=0)}


def _joined(items: Any, item_dim: int) -> Tensor:
    """One batch of a batch, a list of samples of ``item_dim`` axes, or a list of batches."""
    if isinstance(items, Tensor):
        return items
    items = [torch.as_tensor(item) for item in items]
    if len(items) == 1 and items[0].dim() > item_dim:
        return items[0]
    if len({item.shape for item in items}) > 1:
        sizes = sorted({tuple(item.shape) for item in items})
        raise ValueError(f"images of several sizes in one batch ({sizes[:3]}): resize or crop them in the pipeline")
    return torch.stack(items)


def _build(config: Any) -> Any:
    """A module from its config, by the names of this scope whatever the default one is; a module as it is."""
    if not isinstance(config, dict):
        return config
    with MODELS.switch_scope_and_registry(MODELS.scope) as registry:
        return registry.build(config)


def _with_teacher(regularizer: Any, network: Any, checkpoint: str | None) -> Any:
    """The config of a regularizer, with the teacher that follows from the network's where it names none."""
    if not isinstance(regularizer, dict) or regularizer.get("type") != "Distillation" or "teacher" in regularizer:
        return regularizer
    if not isinstance(network, dict) or network.get("type") != "Prepared":
        raise ValueError("Distillation needs a teacher where the network is not a Prepared one: regularizer.teacher")
    if checkpoint is not None and network.get("checkpoint") is None:
        raise ValueError(f"Distillation needs a teacher: {checkpoint} starts the student alone: regularizer.teacher")
    return {"checkpoint": network.get("checkpoint"), **regularizer, "teacher": network["network"]}


def _terms(regularizer: Any, network: Any, checkpoint: str | None) -> list[Regularizer]:
    """The terms for the loss: none, one, or one of each kind."""
    given = regularizer if isinstance(regularizer, (list, tuple)) else [] if regularizer is None else [regularizer]
    terms = [_build(_with_teacher(term, network, checkpoint)) for term in given]
    if len({term.name for term in terms}) < len(terms):
        raise ValueError(f"two regularizers of one kind: {', '.join(type(term).__name__ for term in terms)}")
    return terms


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """A network that maps images to logits, as mmengine trains and tests it.

    Args:
        network: config of a network (``TorchvisionModel``, ``TimmModel``, or one that ``custom_imports`` registers),
            or the module itself. It stays at ``.network``, where a converted one may take its place: anything that
            maps ``[B, C, H, W]`` to logits ``[B, classes]``, a mapping with ``logits`` or an object with ``.logits``.
        data_preprocessor: `ImagePreprocessor` config.
        label_smoothing: of the cross entropy (Szegedy et al., arXiv 1512.00567, section 7).
        checkpoint: weights of the network: safetensors, or a torch file read with ``weights_only=True``; may be a
            ``dataset:`` string.
        regularizer: config of a term for the loss (``BitSparsity``, ``Distillation``, ``InferenceRate``), or the module
            itself, or a list of them; each is logged by its name. A ``Distillation`` config without a ``teacher``
            learns from the network that a ``Prepared`` one was made from, with the weights that it starts from.
        compiled: train through ``torch.compile``: some seconds to a minute at first, then shorter steps. Networks are
            saved, tested and converted as without. A CPU needs a C++ compiler. Not together with a regularizer that
            looks into the network (``BitSparsity``, ``InferenceRate``).

    ``forward(inputs, data_samples, mode)`` gives the logits for "tensor", ``{"loss": ...}`` for "loss" and one
    `BaseDataElement` an image for "predict", with ``pred_scores`` ``[classes]``, ``pred_label`` and ``gt_label``.
    A state dict of the bare network loads as well as one of the classifier.

    Raises:
        CheckpointError: a checkpoint that cannot be read or does not fit.
        ValueError: ``compiled`` with such a regularizer; no teacher where the network is not ``Prepared``; two
            regularizers of one kind.
        RuntimeError: a network that does not compile, or no compiler.

    >>> model = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))
    >>> model(torch.zeros(1, 3, 2, 2)).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        network: Any,
        data_preprocessor: Any = None,
        label_smoothing: float = 0.0,
        checkpoint: str | None = None,
        regularizer: Any = None,
        compiled: bool = False,
    ) -> None:
        preprocessor = {"type": "ImagePreprocessor"} if data_preprocessor is None else data_preprocessor
        super().__init__(_build(preprocessor))
        self.network: nn.Module = _build(network)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.regularizers = _terms(regularizer, network, checkpoint)
        inside = [type(term).__name__ for term in self.regularizers if term.looks_inside]
        if compiled and inside:
            raise ValueError(f"{inside[0]} looks into the network: train it with compiled=False")
        self._compiled = torch.compile(_forward) if compiled else None
        for term in self.regularizers:
            if compiled and isinstance(term, Distillation):
                term.teacher.compile()
        if compiled and not torch.cuda.is_available():
            self.data_preprocessor.channels_last = False  # compiled code for a CPU is faster without
        self.register_load_state_dict_pre_hook(_accept_bare_network)
        if checkpoint is not None:
            self._load(resolve(checkpoint))
        if getattr(self.data_preprocessor, "channels_last", False):
            self.network.to(memory_format=self.data_preprocessor.memory_format)

    def _load(self, checkpoint: str) -> None:
        try:
            load_weights(self, checkpoint)
        except RuntimeError as error:  # shapes that differ
            raise CheckpointError(
                f"{checkpoint} does not fit this network: {str(error).splitlines()[-1].strip()}"
            ) from error

    def init_weights(self) -> None:
        """Nothing: networks come initialised, and mmengine would overwrite the weights of pretrained ones."""

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        if mode == "loss" and self.regularizers:
            return self._regularised(inputs, data_samples)
        logits = self._run(inputs, training=mode == "loss")
        if mode == "tensor":
            return logits
        labels = None if data_samples is None else torch.as_tensor(data_samples, device=logits.device)
        if mode == "predict":
            return self.to_samples(logits, labels)
        if mode != "loss":
            raise ValueError(f"mode is 'tensor', 'predict' or 'loss', got {mode!r}")
        if labels is None:
            raise ValueError("training needs labels: the data set gave none")
        return {"loss": self._loss(logits.float(), labels)}

    def _run(self, inputs: Tensor, training: bool) -> Tensor:
        """Logits of the network, compiled in training. Its hooks are called as ever."""
        if self._compiled is None or not (training and self.training):
            return _logits(self.network(inputs))
        self.network.forward = functools.partial(self._compiled, self.network)
        try:
            return _logits(self.network(inputs))
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split()[:40])
            raise RuntimeError(f"it does not compile ({reason}): train it with model.compiled=False") from error
        finally:
            del self.network.forward

    def _regularised(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        """All losses, and what the terms count."""
        if data_samples is None:
            raise ValueError("training needs labels: the data set gave none")
        with ExitStack() as stack:
            found = [stack.enter_context(term.watch(self.network)) for term in self.regularizers]
            logits = self._run(inputs, training=True)
        labels = torch.as_tensor(data_samples, device=logits.device)
        losses = {"loss": self._loss(logits.float(), labels)}
        for term, values in zip(self.regularizers, found, strict=True):
            losses[f"loss_{term.name}"] = term(values, prepared.training_progress())
            losses[term.name] = term.amount(values).detach()
        return losses

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if labels.dim() == 2:
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return F.cross_entropy(logits, labels, ignore_index=SKIPPED, label_smoothing=self.label_smoothing)

    @staticmethod
    def to_samples(logits: Tensor, labels: Tensor | None = None) -> list[BaseDataElement]:
        """Predictions of a batch, one an image."""
        scores = logits.detach().float().softmax(1)
        fields: list[dict[str, Any]] = [
            {"pred_scores": row, "pred_label": label} for row, label in zip(scores, scores.argmax(1), strict=True)
        ]
        if labels is not None:
            for field, label in zip(fields, labels, strict=True):
                field["gt_label"] = label
        return [BaseDataElement(**field) for field in fields]


def _forward(network: nn.Module, inputs: Tensor) -> Any:
    """The forward of the network's class: an instance may have another one for a moment."""
    return type(network).forward(network, inputs)


def _logits(output: Any) -> Tensor:
    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    elif not isinstance(output, Tensor) and hasattr(output, "logits"):
        output = output.logits
    if not isinstance(output, Tensor):
        raise TypeError(f"the network gave {type(output).__name__}; it must give logits, or something with .logits")
    return output


def _accept_bare_network(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before loading: put ``network.`` before the names of a state dict that lacks it."""
    if any(key.startswith(f"{prefix}network.") for key in state):
        return
    for key in list(module.network.state_dict()):  # type: ignore[union-attr]
        if prefix + key in state:
            state[f"{prefix}network.{key}"] = state.pop(prefix + key)


@METRICS.register_module()
class TopK(BaseMetric):
    """Share of images, in percent, whose label is among the k highest scores: ``top1``, ``top5``.

    Each image is one entry of ``results``, so that mmengine collects them over ranks and drops those that a sampler
    repeated. Images labelled `SKIPPED` do not count; ``skipped`` says how many there were, if any.

    Args:
        ks: the values of k.
        settings: of mmengine's ``BaseMetric``.

    Raises:
        ValueError: no image with a label, or a label that is none of the network's outputs.

    >>> metric = TopK()
    >>> metric.process({}, [{"pred_scores": torch.tensor([0.1, 0.7, 0.2]), "gt_label": torch.tensor(2)}])
    >>> metric.compute_metrics(metric.results)
    {'top1': 0.0, 'top5': 100.0}
    """

    default_prefix = "accuracy"

    def __init__(self, ks: Sequence[int] = (1, 5), **settings: Any) -> None:
        super().__init__(**settings)
        self.ks = tuple(ks)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        if any("gt_label" not in sample for sample in data_samples):
            raise ValueError("TopK needs labels: the data set gave none")
        scores = torch.stack([torch.as_tensor(sample["pred_scores"]) for sample in data_samples])
        labels = torch.stack([torch.as_tensor(sample["gt_label"]) for sample in data_samples])
        outside = (labels != SKIPPED) & ((labels < 0) | (labels >= scores.shape[1]))
        if labels.is_floating_point() or bool(outside.any()):
            bad = labels[outside][0] if bool(outside.any()) else labels[0]
            raise ValueError(f"label {bad.item()} is none of the network's {scores.shape[1]} outputs")
        best = scores.topk(min(max(self.ks), scores.shape[1]), dim=1).indices
        # the place of the label among the highest scores, their number where it is not among them
        place = (best == labels[:, None]).int().cummax(1).values.logical_not().sum(1)
        place[labels == SKIPPED] = SKIPPED
        self.results.extend(place.tolist())

    def compute_metrics(self, results: list) -> dict[str, float]:
        counted = [place for place in results if place != SKIPPED]
        if not counted:
            raise ValueError("TopK: not one image has a label")
        found = {f"top{k}": 100 * sum(place < k for place in counted) / len(counted) for k in self.ks}
        return found | ({"skipped": len(results) - len(counted)} if len(counted) < len(results) else {})
