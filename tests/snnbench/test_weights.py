"""Weights with a model card."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import snnconv
from snnbench.weights.card import ModelCard, load_weights, read_card, save_weights
from snnconv.activations import QuantReLU, RateNorm

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
