"""Networks drawn at random convert, or are refused with a sentence: short for ``python tests/random_networks``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.random_networks import record
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


def test_the_record_is_of_the_networks_that_are_drawn_now() -> None:
    path = Path(record.__file__).with_name("tried.json")
    assert json.loads(path.read_text())["generator"] == record.generator(), (
        "the networks are drawn otherwise now: try them again, python tests/random_networks --all --record"
    )


def test_a_record_counts_a_seed_once_and_none_that_failed(tmp_path: Path) -> None:
    here = {"commit": "a1", "torch": "2.9", "processor": "P", "failed": {}, "refused": {}}
    path = tmp_path / "tried.json"
    record.add(path, [{**here, "seed": seed} for seed in (4, 5, 9)])
    wrong = {**here, "seed": 7, "failed": {"audit_is_right": "AssertionError"}}
    again = {**here, "commit": "b2", "seed": 5}
    refused = {**here, "seed": 6, "refused": {"quantised_is_lossless": "a sentence"}}
    found = record.add(path, [wrong, again, refused, {**here, "commit": "b2", "seed": 0}])
    assert found == record.read(path)
    assert [(run["commit"], run["seeds"], run["refused"]) for run in found["runs"]] == [
        ("a1", [[4, 7], [9, 10]], 1),
        ("b2", [[0, 1]], 0),
    ]
    assert record.seeds_of(found) == {0, 4, 5, 6, 9}


def test_a_record_of_networks_that_were_drawn_otherwise_is_none(tmp_path: Path) -> None:
    path = tmp_path / "tried.json"
    path.write_text(json.dumps({"generator": "0", "runs": [{"seeds": [[0, 5000]]}]}))
    assert record.seeds_of(record.read(path)) == set()
