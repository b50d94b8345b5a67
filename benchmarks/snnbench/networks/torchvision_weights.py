"""torchvision's networks for dense prediction, with random weights, its own, or those of a file."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torchvision

from snnconv.files.untrusted import read_pickle

__all__ = ["torchvision_network"]


def torchvision_network(
    owner: str, module: ModuleType, name: str, weights: str | None, unfit: tuple[str, ...] = (), **options: Any
) -> Any:
    """The network ``name`` of a module such as ``torchvision.models.segmentation``.

    Args:
        owner: who asks, for messages.
        module: where torchvision has it.
        name: of the network.
        weights: ``None`` (random), an entry of torchvision's weights enum such as ``"DEFAULT"`` (it downloads them), or
            the path of such a ``.pth`` file.
        unfit: beginnings of names that ``owner`` has no place for.
        options: of the network.

    Raises:
        ValueError: an unknown name, a file that is not there.

    >>> from torchvision.models import segmentation
    >>> type(torchvision_network("docs", segmentation, "fcn_resnet50", None, num_classes=3)).__name__
    'FCN'
    """
    usable = [n for n in torchvision.models.list_models(module=module) if not n.startswith(unfit)]
    if name not in usable:
        raise ValueError(f"{owner}: name must be one of {', '.join(usable)}; got {name!r}")
    if weights is not None and weights.endswith((".pth", ".pt")) and not Path(weights).is_file():
        raise ValueError(f"{owner}: weights names {weights}, which is no file; leave it None or 'DEFAULT'")
    # built without weights, so that BatchNorm is BatchNorm: with weights torchvision's detectors have a frozen layer
    network = torchvision.models.get_model(name, weights=None, weights_backbone=None, **options)
    if weights is None:
        return network
    if weights.endswith((".pth", ".pt")):
        state = read_pickle(weights)
        if not isinstance(state, dict):
            raise ValueError(f"{owner}: weights {weights} hold no state dictionary")
    else:
        state = torchvision.models.get_model_weights(name)[weights].get_state_dict(progress=False, check_hash=True)
    missing, unexpected = network.load_state_dict(state, strict=False)
    foreign = [key for key in missing if not key.endswith("num_batches_tracked")] + unexpected
    if foreign:
        raise ValueError(f"{owner}: weights {weights} are of another network than {name}: {foreign[0]} does not fit")
    return network
