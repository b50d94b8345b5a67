"""benchmarks.zoo exact: published networks are the quantised network at every layer, and what is not is seen."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from benchmarks.zoo import __main__ as zoo
from benchmarks.zoo import exact
from benchmarks.zoo.networks import NETWORKS, Network
from tests import networks as nets

GATE = [
    ("torchvision/vit_b_16_small", 8),
    ("torchvision/mobilenet_v3_small", 4),
    ("timm/convnext_atto", 8),
    ("timm/levit_128s", 4),
    ("transformers/bert", 8),
    ("mmdet/mask_rcnn_boxes", 8),
]


def small() -> tuple[torch.nn.Module, torch.Tensor]:
    return nets.TinyViT(), torch.randn(4, 3, 12, 12)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "timesteps"), GATE)
def test_a_published_network_is_the_quantised_network(name: str, timesteps: int) -> None:
    torch.set_num_threads(1)
    line = exact.tried(name, timesteps)
    if "skipped" in line:
        pytest.skip(line["skipped"])
    assert "refused" not in line, line["refused"]
    assert exact.holds(line), line


def test_every_named_network_is_listed_once() -> None:
    packages = {network.package for network in NETWORKS.values()}
    assert packages == {"torchvision", "timm", "transformers", "mmdet", "mmseg"}
    assert all(name == network.name for name, network in NETWORKS.items())


def test_what_is_off_at_one_site_is_seen() -> None:
    model, x = Network("small", "tests", small).build()
    model, x = model.double(), x.double()
    snn = exact.converted(model, x, 4)
    assert max(exact.double(snn, x)) < 1e-9
    name = list(snn.neurons)[2]
    rounded = exact.rounded
    try:
        exact.rounded = lambda net, site, z: rounded(net, site, z * (1.1 if site == name else 1.0))
        assert exact.double(snn, x)[0] > 1e-3
        assert exact.single(snn, x) > 1e-3
    finally:
        exact.rounded = rounded


def test_an_encoder_that_is_taken_out_is_seen_by_the_audit() -> None:
    model, x = Network("small", "tests", small).build()
    snn = exact.converted(model, x, 4)
    assert exact.encoders(snn)
    assert any("reads analog" in failure for failure in exact.audit_without(snn, x).failures)


def test_a_process_of_its_own_is_asked_for_one_network_and_one_number_of_steps(monkeypatch) -> None:
    asked = []

    def run(command: list[str], **how: object) -> object:
        asked.append(command[3:])
        return type("Done", (), {"returncode": 0, "stdout": json.dumps({"name": "small"})})

    monkeypatch.setattr(zoo.subprocess, "run", run)
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr(zoo, "check_all", lambda *what: given.append(what) or 1)
    zoo.apart("small", "exact", "--here", "--timesteps", "8")
    assert zoo.main(asked[0]) == 0, "its line says what is wrong"
    names, timesteps, _, here = given[0]
    assert (names, timesteps, here) == (["small"], [8], True)
    assert zoo.main(["exact", "small"]) == 1
    assert zoo.apart("small") == {"name": "small"}
    assert asked[1] == ["one", "small"]


def test_the_command_writes_a_line_and_tries_again_what_does_not_hold(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(NETWORKS, "small", Network("small", "tests", small))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        good = exact.tried("small", 3)
    assert exact.holds(good), good
    answers = [{"name": "small", "refused": "ended with 1"}, good]
    monkeypatch.setattr(zoo, "apart", lambda *command: dict(answers.pop(0)))
    out = tmp_path / "exact.jsonl"
    assert zoo.check_all(["small"], [3], out, here=False) == 1
    assert zoo.check_all(["small"], [3], out, here=False) == 0
    assert zoo.check_all(["small"], [3], out, here=False) == 0
    assert [line["holds"] for line in map(json.loads, out.read_text().splitlines())] == [False, True]


def test_the_table_says_what_was_run_and_what_came_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    equal = {"double": 1e-16, "single": 2e-7, "output": 3e-16, "audit": "passed", "removed": "reads analog"}
    known = {"name": "small", "T": 4, "way": "torch.fx", "sites": 5, "encoders": 2}
    lines = [
        {"name": "small", "T": 4, "refused": "an old line", "holds": False},
        known | equal | {"holds": True},
        {"name": "other", "T": 8, "refused": "no graph", "holds": False},
    ]
    file = tmp_path / "exact.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert zoo.main(["table", str(file)]) == 0
    table = capsys.readouterr().out
    assert "1 networks, 1 of 2 runs equal" in table
    assert "| small | torch.fx | 5 | 2 | 3e-16, 2e-07 | not run |" in table
    assert "| other |  |  |  | not run | no graph |" in table
