"""The networks whose speed is measured. Weights are random: the time of a dense layer does not depend on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.fx.experimental.optimization as optimization
from torch import Tensor, nn

from snnbench.networks.models import ResNet20


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import torchvision

        model: nn.Module = torchvision.models.get_model(name, weights=None)
        return model

    return make


def _vit() -> nn.Module:
    """ViT-Tiny: patches of 16, twelve layers of width 192."""
    import torchvision

    model: nn.Module = torchvision.models.VisionTransformer(
        image_size=224, patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768
    )
    return model


@dataclass(frozen=True)
class Network:
    """A network and the shape of one input."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def build(self) -> tuple[nn.Module, Tensor]:
        """The network in evaluation mode, BatchNorms having seen data, and calibration images ``[8, ...]``."""
        torch.manual_seed(0)
        model = self.make()
        x = torch.randn(8, *self.shape)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            model.train()(x)
        return model.eval(), x


NETWORKS = {
    "resnet20": Network(ResNet20, (3, 32, 32)),
    "resnet18": Network(_torchvision("resnet18"), (3, 224, 224)),
    "vgg16": Network(_torchvision("vgg16_bn"), (3, 224, 224)),
    "vit_tiny": Network(_vit, (3, 224, 224)),
}


def folded(model: nn.Module) -> nn.Module:
    """The source network as it is run by people who care for time: BatchNorm folded, channels-last."""
    network: nn.Module = optimization.fuse(model)
    return network.eval().to(memory_format=torch.channels_last)
