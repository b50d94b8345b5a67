"""The networks of ``python -m benchmarks.quick`` and the rows that each is measured with."""

from __future__ import annotations

import pytest
import torch

import snnconv
from benchmarks.quick import entries
from snnbench import results
from snnbench.networks.digits import NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_rows_of_files_of_their_own(name: str) -> None:
    network = NETWORKS[name]
    rows = entries(network, None if network.rate_norm is None else network.rate_norm())
    files = [results.slug(row.label) for row in rows]
    assert len(files) == len(set(files)) >= 3
    assert network.make()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_architectures_are_told_apart_by_their_folders() -> None:
    assert len({results.slug(network.architecture) for network in NETWORKS.values()}) == len(NETWORKS)


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_the_rows_of_activations_that_are_no_relus_have_neurons_for_them(name: str) -> None:
    torch.manual_seed(0)
    model, x = NETWORKS[name].make().eval(), torch.rand(16, 1, 8, 8)
    for row in entries(NETWORKS[name], None):
        method = row.methods[0]
        assert snnconv.convert(model, method, x, progress=False).report.analog == [], row.label
