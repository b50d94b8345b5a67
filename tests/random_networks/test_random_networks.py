"""Networks drawn at random convert, or are refused with a sentence: short for ``python tests/random_networks``."""

from __future__ import annotations

import pytest
import torch

from tests.random_networks.generator import drawn
from tests.random_networks.properties import LONG, QUICK, exported, failures

SEEDS = range(60)
EXPORTED = range(0, 120, 10)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_conversion_keeps_shapes_values_spikes_and_streams(seed: int) -> None:
    torch.set_num_threads(1)
    network = drawn(seed)
    failed, _ = failures(network, QUICK)
    assert not failed, "\n".join([*network.network.described(), *(f"{name}: {how}" for name, how in failed.items())])


@pytest.mark.parametrize("seed", EXPORTED)
def test_a_graph_of_torch_export_has_the_same_properties(seed: int) -> None:
    torch.set_num_threads(1)
    network = drawn(seed)
    with exported():
        failed, _ = failures(network, QUICK)
    assert not failed, "\n".join([*network.network.described(), *(f"{name}: {how}" for name, how in failed.items())])


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_conversion_approaches_its_source_in_every_backend_framework_and_file(seed: int) -> None:
    torch.set_num_threads(1)
    network = drawn(seed)
    failed, _ = failures(network, LONG)
    assert not failed, "\n".join([*network.network.described(), *(f"{name}: {how}" for name, how in failed.items())])
