"""What is made of pictures: the transform of the weights, changed by options, or one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from snnconv.cli.inputs import InputError
from snnconv.cli.preprocessing import Preprocessing, find

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("torchvision")
from torchvision import models, transforms  # noqa: E402

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))


def plain(**options: Any) -> Preprocessing:
    return find("net.py:net", None, False, **options)


def test_the_default_is_imagenets_usual() -> None:
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    usual = transforms.Compose([*steps, transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    assert torch.equal(plain().picture(PICTURE), usual(PICTURE))
    assert plain().words.startswith("pictures: resized to 256, cropped to 224, mean 0.485,0.456,0.406, std 0.229")


def test_options_change_it() -> None:
    steps = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()])
    found = plain(resize=40, crop=32, mean="0,0,0", std="1,1,1")
    assert torch.equal(found.picture(PICTURE), steps(PICTURE))
    assert plain(size=28).picture(PICTURE).shape == (3, 28, 28)
    assert "resized to 32, cropped to 28" in plain(size=28).words
    assert plain(resize=100).picture(PICTURE).shape == (3, 100, 100)


def test_torchvisions_weights_bring_their_transform() -> None:
    preset = models.get_model_weights("regnet_y_400mf").DEFAULT.transforms()
    found = find("torchvision:regnet_y_400mf", None, True)
    assert torch.equal(found.picture(PICTURE), preset(PICTURE))
    assert "torchvision's RegNet_Y_400MF_Weights.IMAGENET1K_V2" in found.words
    changed = find("torchvision:regnet_y_400mf", None, True, mean="0,0,0", crop=64)
    assert changed.picture(PICTURE).shape == (3, 64, 64)
    assert list(changed.mean) == [0, 0, 0]
    assert list(changed.std) == list(preset.std)
    assert torch.equal(find("torchvision:regnet_y_400mf", None, False).picture(PICTURE), plain().picture(PICTURE))


def test_timms_networks_bring_their_configuration() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnet10t")
    config = timm.data.resolve_data_config(model=model)
    found = find("timm:resnet10t", model, False)
    assert torch.equal(found.picture(PICTURE), timm.data.create_transform(**config)(PICTURE))
    assert "timm's configuration of resnet10t" in found.words
    assert find("timm:resnet10t", model, False, size=64, std="1,1,1").picture(PICTURE).shape == (3, 64, 64)


def test_ones_own_function(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy, torch\n"
        "def tensor(image): return torch.from_numpy(numpy.asarray(image).copy()).permute(2, 0, 1).float()\n"
        "def array(image): return numpy.asarray(image)\n"
    )
    found = plain(transform=f"{path}:tensor")
    assert torch.equal(found.picture(PICTURE), torch.from_numpy(np.array(PICTURE)).permute(2, 0, 1).float())
    with pytest.raises(InputError, match=r"mine\.py:array gives ndarray for a picture; a tensor \[C, H, W\] is needed"):
        plain(transform=f"{path}:array").picture(PICTURE)
    with pytest.raises(InputError, match="has no function 'other'; it has: tensor, array"):
        plain(transform=f"{path}:other")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": 8, "crop": 8}, "give one of --size and --crop"),
        ({"crop": 10, "resize": 8}, "--crop 10 is larger than --resize 8"),
        ({"mean": "0,0", "std": "1"}, "--mean has 2 numbers, --std 1"),
        ({"mean": "a"}, "--mean takes numbers"),
        ({"std": "0,1,1"}, "--std needs numbers above zero"),
        ({"transform": "mine.py:f", "size": 8}, "--transform does it all"),
        ({"transform": "mine"}, "--transform takes FILE.py:NAME"),
        ({"transform": "none.py:f"}, "none.py does not exist"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        plain(**options)


def test_a_network_is_needed_for_timms_alone() -> None:
    assert "ImageNet's usual" in find("timm:resnet10t", None, False).words
    assert "ImageNet's usual" in find("net.py:net", nn.Identity(), True).words
