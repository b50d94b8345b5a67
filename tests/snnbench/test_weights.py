"""Weights with a model card."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import snnconv
from snnbench.weights.card import ModelCard, load_weights, read_card, save_weights
from snnconv.activations import QuantReLU, RateNorm
from snnconv.files.untrusted import read_safetensors

X = torch.randn(32, 4)
CARD = ModelCard(
    "a small network",
    "noise",
    seed=3,
    metrics={"top1": 91.25},
    training={"iterations": 10, "epochs": 2, "seconds": "1.5"},
    config={"lr": 0.1, "levels": (3, 7)},
)


def prepared(activation, data=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    return snnconv.prepare(model, activation, data, progress=False).eval()


@pytest.mark.parametrize(
    "activation",
    [QuantReLU(3), QuantReLU(3, per_channel=True), RateNorm(), RateNorm(shared=nn.Parameter(torch.tensor(2.0)))],
    ids=["scalar", "per channel", "rate norm", "shared"],
)
def test_a_prepared_network_comes_back(activation, tmp_path):
    network = prepared(activation, X)
    save_weights(network, tmp_path / "net.safetensors", CARD)
    twin = prepared(activation)
    card = load_weights(twin, tmp_path / "net.safetensors")
    assert torch.equal(twin(X), network(X))
    assert card == read_card(tmp_path / "net.safetensors")
    assert (card.architecture, card.seed, card.metrics) == ("a small network", 3, {"top1": 91.25})
    assert card.config == {"lr": 0.1, "levels": [3, 7]}
    assert torch.__version__.startswith(card.versions["torch"])


def test_the_card_is_a_readable_file_beside_the_weights(tmp_path):
    save_weights(prepared(QuantReLU(3)), tmp_path / "net.safetensors", CARD)
    text = (tmp_path / "net.md").read_text()
    assert text.startswith("# a small network\n")
    for line in (
        "- Data set: noise",
        "- Seed: 3",
        "- Validation: top1 91.25",
        "- Training: iterations 10",
        '"lr": 0.1',
    ):
        assert line in text
    assert f"torch {torch.__version__.partition('+')[0]}" in text


def test_a_file_without_a_card_has_none(tmp_path):
    network = prepared(QuantReLU(3))
    save_file(network.state_dict(), str(tmp_path / "net.safetensors"))
    assert load_weights(network, tmp_path / "net.safetensors") is None


def test_files_that_do_not_fit(tmp_path):
    network = prepared(QuantReLU(3))
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        save_weights(network, tmp_path / "net.pth", CARD)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_weights(network, tmp_path / "none.safetensors")
    save_weights(prepared(RateNorm()), tmp_path / "other.safetensors", CARD)
    with pytest.raises(ValueError, match="not the weights of the given"):
        load_weights(network, tmp_path / "other.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_weights(network, tmp_path / "half.safetensors")


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("metrics", "{", "metrics: line 1, column 2: not JSON"),
        ("metrics", "3", "metrics is 3"),
        ("architecture", "null", "architecture is None"),
        ("seed", '"0"', "seed is '0'"),
        ("config", "[" * 100_000, "config: .*nested too deep"),
    ],
)
def test_a_damaged_card_is_named_with_its_field(tmp_path: Path, field: str, text: str, reason: str) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(nn.Linear(3, 2), path, ModelCard("one layer"))
    tensors, metadata = read_safetensors(path)
    save_file(tensors, path, {**metadata, field: text})
    with pytest.raises(
        ValueError, match=rf"net\.safetensors: its model card is damaged \({reason}.*\); save the weights"
    ):
        read_card(path)


def test_a_card_lacks_no_network(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "net.safetensors", {"card": "snnconv/1"})
    with pytest.raises(ValueError, match=r"its model card is damaged \(architecture is missing\)"):
        read_card(tmp_path / "net.safetensors")


def test_a_card_without_versions_gets_none_of_today(tmp_path: Path) -> None:
    metadata = {"card": "snnconv/1", "architecture": '"net"'}
    save_file({"a": torch.ones(1)}, tmp_path / "net.safetensors", metadata)
    card = read_card(tmp_path / "net.safetensors")
    assert card is not None
    assert card.versions == {}
