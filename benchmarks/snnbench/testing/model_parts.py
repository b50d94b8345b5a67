"""Which parts of an mmseg, mmdet or classification model are converted, and how the result is put in their place.

A **part** is a pure function of tensors: the ``dense`` part runs from the image to the raw maps of the head, or to the
scores and boxes of a detection transformer's queries (all that follows, resizing, box decoding and non-maximum
suppression, stays with the model's own code); a two-stage detector's ``roi`` parts run from pooled features to class
scores and box offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

__all__ = ["Dense", "Part", "Queries", "find_parts", "replaced"]

Scope = Literal["dense", "backbone"]


class Dense(nn.Module):
    """Backbone, neck and head as one function: image ``[B, 3, H, W]`` to the head's raw maps.

    Args:
        backbone: image to features.
        neck: features to features, or ``None``.
        head: features to raw maps, or ``None`` (the output is then the features).
        keep_features: return ``(features, maps)``: a two-stage detector pools its features again.

    >>> import torch
    >>> Dense(nn.Conv2d(3, 4, 1), None, nn.Conv2d(4, 2, 1))(torch.zeros(1, 3, 5, 5)).shape
    torch.Size([1, 2, 5, 5])
    """

    def __init__(
        self, backbone: nn.Module, neck: nn.Module | None, head: nn.Module | None, keep_features: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.keep_features = keep_features

    def forward(self, inputs: Any) -> Any:
        features = self.backbone(inputs)
        if self.neck is not None:
            features = self.neck(features)
        if self.head is None:
            return features
        maps = self.head(features)
        return (features, maps) if self.keep_features else maps

    @contextmanager
    def replaced(self, model: Any, function: Callable[[Any], Any]) -> Iterator[None]:
        """While active, ``model`` has ``function`` in place of its backbone, neck and head."""
        maps: list[Any] = []

        def extract(inputs: Any) -> Any:
            out = function(inputs)
            features, found = out if self.keep_features else (None, out)
            maps[:] = [found]
            return features

        with _attribute(model, "extract_feat", extract), _attribute(self.head, "forward", lambda *_, **__: maps[0]):
            yield


class Queries(nn.Module):
    """A detection transformer of mmdet (DETR and its successors) as one function: image to what its queries say.

    Its encoder reads which pixels are padding. Here none are: the images of a batch have one size.

    Args:
        model: the detector.

    Returns of a call:
        Scores ``[B, 1, queries, classes]`` and boxes ``[B, 1, queries, 4]``, of the decoder's last layer.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        from mmengine.structures import BaseDataElement

        model: Any = self.model
        size = tuple(inputs.shape[-2:])
        samples = [BaseDataElement(metainfo={"img_shape": size, "batch_input_shape": size})]
        read = model.forward_transformer(model.extract_feat(inputs), samples)
        with _attribute(model.bbox_head, "predict_by_feat", lambda *outputs, **_: outputs):
            outputs = model.bbox_head.predict(**read, batch_data_samples=samples, rescale=False)
        return tuple(value.transpose(0, 1) for value in outputs)  # the batch first, then the one layer

    @contextmanager
    def replaced(self, model: Any, function: Callable[[Any], Any]) -> Iterator[None]:
        """While active, ``model`` has ``function`` in place of all that comes before boxes are scaled to the image."""
        head = model.bbox_head

        def transformer(outputs: Any, samples: Any) -> dict[str, Any]:
            for sample in samples:
                if tuple(sample.img_shape) != tuple(sample.batch_input_shape):
                    raise ValueError(
                        f"an image of {sample.img_shape} in a batch of {sample.batch_input_shape}: which pixels are "
                        f"padding is no input of a converted {type(model).__name__}; resize all images to one size "
                        "(keep_ratio=False) and set pad_size_divisor=1"
                    )
            return {"outputs": outputs}

        def predict(outputs: Any, batch_data_samples: Any, rescale: bool = True) -> Any:
            metas = [sample.metainfo for sample in batch_data_samples]
            layers = [value.transpose(0, 1) for value in outputs]
            return head.predict_by_feat(*layers, batch_img_metas=metas, rescale=rescale)

        with (
            _attribute(model, "extract_feat", function),
            _attribute(model, "forward_transformer", transformer),
            _attribute(head, "predict", predict),
        ):
            yield


@dataclass(frozen=True)
class Part:
    """One convertible part.

    Attributes:
        name: ``network``, ``dense``, ``backbone``, or ``roi`` (``roi.0`` … for a cascade).
        module: the function to convert.
        model: the model it belongs to.
        once: called once an image, whatever the readout, so that one run serves every readout.
        samples: calibration inputs to take of those that the source network sees, where it is called more often.
        input: what the converted network's calls take: ``"constant"``, or ``"sequence"``: recordings, a frame a step.
    """

    name: str
    module: nn.Module
    model: nn.Module
    once: bool = True
    samples: int = 512
    input: str = "constant"

    @contextmanager
    def replaced(self, function: Callable[[Any], Any]) -> Iterator[None]:
        """While active, the model's own ``predict`` runs ``function`` instead of this part."""
        with ExitStack() as stack:
            if isinstance(self.module, Dense | Queries):
                stack.enter_context(self.module.replaced(self.model, function))
            elif self.input == "sequence":
                stack.enter_context(_attribute(self.model, "of_recordings", function))
            else:
                stack.enter_context(_attribute(self.module, "forward", function))
            yield


@contextmanager
def replaced(functions: dict[Part, Callable[[Any], Any]]) -> Iterator[None]:
    """Several parts at once."""
    with ExitStack() as stack:
        for part, function in functions.items():
            stack.enter_context(part.replaced(function))
        yield


@contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Shadow a method of one object, and take the shadow away again."""
    object.__setattr__(owner, name, value)  # a module in the place of a method is no part of its owner
    try:
        yield
    finally:
        object.__delattr__(owner, name)


def find_parts(model: nn.Module, scope: Scope = "dense", input: str = "constant") -> list[Part]:
    """The parts of ``model`` to convert.

    Args:
        model: a classifier or policy with a ``network``, an mmseg ``EncoderDecoder``, an mmdet single- or two-stage
            detector or detection transformer, or any model with a ``backbone``, an optional ``neck``, a head of one of
            these names, and ``extract_feat``.
        scope: ``"dense"``: up to the head's last layer; ``"backbone"``: the backbone alone.
        input: ``"sequence"`` for a classifier of recordings (one with ``of_recordings``), whose converted network
            reads them frame by frame.

    Raises:
        ValueError: a model without these parts, or that does not take this input; the message names what was looked
            for.
    """
    if scope not in ("dense", "backbone"):
        raise ValueError(f"scope is 'dense' or 'backbone', got {scope!r}")
    name = type(model).__name__
    if (input == "sequence") != hasattr(model, "of_recordings"):
        raise ValueError(
            f"bench.input is 'sequence', and {name} does not take recordings: EventClassifier does"
            if input == "sequence"
            else f"{name} takes recordings: set bench.input to 'sequence'"
        )
    network = getattr(model, "network", None)
    if isinstance(network, nn.Module):
        # a policy's answer decides what it sees next: every readout runs its own course
        loop = bool(getattr(model, "closed_loop", False))
        return [Part("network", network, model, once=not loop, samples=1024 if loop else 512, input=input)]
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ValueError(f"{name} has neither a network nor a backbone, so there is nothing to convert")
    if scope == "backbone":
        return [Part("backbone", backbone, model)]
    if hasattr(model, "forward_transformer"):
        return [Part("dense", Queries(model), model)]
    neck = getattr(model, "neck", None)
    head, two_stage = _head(model, name)
    parts = [Part("dense", Dense(backbone, neck, head, keep_features=two_stage), model)]
    if two_stage:
        box_head = getattr(model.roi_head, "bbox_head", None)
        if isinstance(box_head, nn.ModuleList):
            parts += [Part(f"roi.{i}", h, model, once=False) for i, h in enumerate(box_head)]
        elif isinstance(box_head, nn.Module):
            parts.append(Part("roi", box_head, model, once=False))
    return parts


def _head(model: nn.Module, name: str) -> tuple[nn.Module, bool]:
    if isinstance(getattr(model, "roi_head", None), nn.Module):
        head = getattr(model, "rpn_head", None)
        if isinstance(head, nn.Module):
            return head, True
    for attribute in ("decode_head", "bbox_head"):
        head = getattr(model, attribute, None)
        if isinstance(head, nn.ModuleList):
            raise ValueError(
                f"{name}.{attribute} is a cascade whose stages read each other's outputs: convert scope='backbone'"
            )
        if isinstance(head, nn.Module):
            return head, False
    raise ValueError(f"{name} has no decode_head, bbox_head or rpn_head: convert scope='backbone'")
