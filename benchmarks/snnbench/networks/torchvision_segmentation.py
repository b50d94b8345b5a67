"""torchvision's segmentation networks as mmseg segmentors, with torchvision's own weights where wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import BaseSegmentor, EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn
from torchvision.models import segmentation

from snnbench.networks.torchvision_weights import torchvision_network

__all__ = ["TorchvisionHead", "TorchvisionSegmentor"]


class TorchvisionHead(BaseDecodeHead):
    """A torchvision classifier (``FCNHead``, ``DeepLabHead``) with mmseg's loss and prediction.

    Args:
        classifier: maps ``[B, C, h, w]`` to logits ``[B, classes, h, w]``; its last convolution is the classifier.
        in_index: which feature map it reads.
        loss_weight: weight of its cross-entropy.
    """

    def __init__(self, classifier: nn.Sequential, in_index: int, loss_weight: float) -> None:
        last = classifier[-1]
        first = next(m for m in classifier.modules() if isinstance(m, nn.Conv2d))
        super().__init__(
            in_channels=first.in_channels,
            channels=last.in_channels,
            num_classes=last.out_channels,
            in_index=in_index,
            align_corners=False,
            dropout_ratio=0,
            loss_decode=dict(type="CrossEntropyLoss", loss_weight=loss_weight),
            init_cfg=None,  # torchvision has initialised or loaded it
        )
        del self.conv_seg  # the classifier holds its own
        self.classifier = classifier

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return self.classifier(self._transform_inputs(inputs))


class TorchvisionBackbone(nn.Module):
    """torchvision's feature extractor, its dictionary turned into a tuple: ``(aux, out)`` or ``(out,)``."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.layers(x)
        return tuple(features[name] for name in ("aux", "out") if name in features)


@MODELS.register_module()
class TorchvisionSegmentor(EncoderDecoder):
    """A network of ``torchvision.models.segmentation`` (FCN, DeepLabv3) under mmseg's training and evaluation.

    Backbone features are ``(auxiliary, out)``; ``decode_head`` reads the last, ``auxiliary_head`` (training only)
    the first. torchvision's weights expect RGB images normalised with the ImageNet mean and std, and know the 21
    classes of Pascal VOC in mmseg's order (they are trained on COCO images with these classes).

    Args:
        name: ``fcn_resnet50``, ``fcn_resnet101``, ``deeplabv3_resnet50``, ``deeplabv3_mobilenet_v3_large`` ...
        weights: ``None`` (random), a name that torchvision knows such as ``"DEFAULT"`` (it downloads them), or the
            path of such a ``.pth`` file.
        num_classes: classes of the two heads; 21 with torchvision's weights.
        aux_weight: weight of the auxiliary loss.
        data_preprocessor, train_cfg, test_cfg, init_cfg: as in mmseg's ``EncoderDecoder``.

    Raises:
        ValueError: torchvision has no such segmentation network, or a file of weights that does not exist.

    >>> import torch
    >>> model = TorchvisionSegmentor("fcn_resnet50", test_cfg=dict(mode="whole")).eval()
    >>> model.decode_head(model.extract_feat(torch.rand(1, 3, 32, 32))).shape
    torch.Size([1, 21, 4, 4])
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        num_classes: int = 21,
        aux_weight: float = 0.5,
        data_preprocessor: Any = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        init_cfg: Any = None,
    ) -> None:
        BaseSegmentor.__init__(self, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        network = torchvision_network(
            "TorchvisionSegmentor", segmentation, name, weights, ("lraspp",), num_classes=num_classes, aux_loss=True
        )
        self.backbone = TorchvisionBackbone(network.backbone)
        self.decode_head = TorchvisionHead(network.classifier, in_index=-1, loss_weight=1.0)
        if network.aux_classifier is not None:
            self.auxiliary_head = TorchvisionHead(network.aux_classifier, in_index=0, loss_weight=aux_weight)
        self.align_corners = False
        self.num_classes = self.out_channels = num_classes
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
