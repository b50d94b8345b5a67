"""What users bring: an own config on a package's base, an own data set, an own result."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import snnconv
from snnbench import packages, results
from snnbench.config import BenchError, _advice, load_config
from snnconv import methods
from snnconv.cli.app import app
from tests.command_line import Runner

mmengine = pytest.importorskip("mmengine")


@pytest.fixture
def without_pkg_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a setuptools that has none: an installed one is not found."""
    monkeypatch.delitem(sys.modules, "pkg_resources", raising=False)
    monkeypatch.setattr(
        sys, "meta_path", [finder for finder in sys.meta_path if not isinstance(finder, packages._Finder)]
    )

    kept = list(sys.meta_path)

    class Hiding:
        """Hands on to the finders, for every other module."""

        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> object:
            if name == "pkg_resources":
                return None
            for finder in kept:
                spec = finder.find_spec(name, path, target)  # type: ignore[arg-type]
                if spec is not None:
                    return spec
            return None

    monkeypatch.setattr(sys, "meta_path", [Hiding])


def test_a_base_of_mmdet_is_found_without_pkg_resources(tmp_path: Path, without_pkg_resources: None) -> None:
    pytest.importorskip("mmdet")
    (tmp_path / "mine.py").write_text(
        "_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n"
        "bench = dict(task='detection', dataset='mine', architecture='RetinaNet', metric='coco/bbox_mAP', methods=[])\n"
    )
    config = load_config(tmp_path / "mine.py")
    assert config.model.type == "RetinaNet"
    assert "pkg_resources" not in sys.modules, "what others take for the whole of it"


def test_the_stand_in_answers_what_mmengine_asks(without_pkg_resources: None) -> None:
    from mmengine.utils import get_installed_path, is_installed

    with packages.found():
        assert is_installed("torch")
        assert is_installed("mmengine")
        assert not is_installed("no-such-package")
        assert Path(get_installed_path("mmengine")) == Path(mmengine.__file__).parent
        with pytest.raises(Exception, match="no-such-package"):
            get_installed_path("no-such-package")
    with pytest.raises(ModuleNotFoundError):
        is_installed("torch")


def test_advice_fits_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("custom_imports = dict(imports=['my_networks'], allow_failed_imports=False)\n")
    with pytest.raises(BenchError, match=r"my_networks.*in the folder that the command runs in, in PYTHONPATH"):
        load_config(tmp_path / "a.py")
    error = ModuleNotFoundError("No module named 'mmdet'", name="mmdet.models")
    assert _advice(error) == 'pip install "snnconv-plugin[bench]"'


OWN = """
import torch
from torch import nn
from torch.utils.data import Dataset
from mmengine.registry import DATASETS, MODELS

@MODELS.register_module(force=True)
class OwnNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

@DATASETS.register_module(force=True)
class OwnSet(Dataset):
    # no folder, no pipeline: bright and dark pictures out of nothing

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        label = index % 2
        picture = torch.randint(0, 60, (3, 8, 8), generator=torch.Generator().manual_seed(index)) + 150 * label
        return {"inputs": picture.to(torch.uint8), "data_samples": torch.tensor(label)}
"""
CONFIG = """
default_scope = "snnbench"
custom_imports = dict(imports=["own_module"], allow_failed_imports=False)
model = dict(type="ImageClassifier", network=dict(type="OwnNet"))
train_dataloader = dict(batch_size=8, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=True),
                        dataset=dict(type="OwnSet", count=64))
test_dataloader = dict(batch_size=8, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
                       dataset=dict(type="OwnSet", count=20))
test_evaluator = dict(type="TopK", ks=(1,))
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.05))
train_cfg = dict(by_epoch=True, max_epochs=1)
test_cfg = dict()
bench = dict(task="classification", dataset="own set", split="test", architecture="own net", metric="top1",
             methods=[dict(label="signed IF", type="SignedIF", timesteps=[8])])
"""


def test_a_config_that_is_no_python_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("bench = dict(\n")
    with pytest.raises(BenchError, match=r"a\.py:1: '\(' was never closed"):
        load_config(tmp_path / "a.py")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A config and its module in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_module.py").write_text(OWN)
    (tmp_path / "own.py").write_text(CONFIG)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own.py"
    sys.modules.pop("own_module", None)


def test_an_own_data_set_needs_neither_hooks_nor_pipeline(own: str) -> None:
    from snnbench.run import run_config

    (path,) = run_config(own, out="results", work_dir="work")
    found = results.read(path)
    assert (found["dataset"], found["samples"], found["metric"]) == ("own set", 20, "top1")
    assert path.as_posix() == "results/own-set/own-net/signed-if.json"


def test_commands_say_first_what_they_will_do_and_print_what_they_found(own: str) -> None:
    trained = Runner().invoke(app, ["train", own, "--work-dir", "work", "--json"])
    assert trained.exit_code == 0, trained.stderr
    found = json.loads(trained.stdout)
    assert found["weights"] == "work/weights.safetensors"
    assert found["training"]["epochs"] == 1
    assert "own net on own set: training for 1 epoch, logs and checkpoints in work" in trained.stderr
    assert "next:\nsnnconv bench own.py --work-dir work\n" in trained.stderr
    done = Runner().invoke(app, ["bench", own, "--work-dir", "work", "--out", "results", "--limit", "4", "--json"])
    assert done.exit_code == 0, done.stderr
    (row,) = json.loads(done.stdout)["results"]
    assert (row["label"], row["samples"]) == ("signed IF", 4)
    plan = "own net on 4 samples of own set: weights of work/weights.safetensors; then 1 row to results/own-set/own-net"
    assert done.stderr.startswith(plan)
    assert "next:\nsnnconv leaderboard --folder .\n" in done.stderr
    board = Runner().invoke(app, ["leaderboard", "--folder", ".", "--json"])
    assert json.loads(board.stdout) == {"files": ["LEADERBOARD.md", "leaderboard.html"]}
    checked = Runner().invoke(app, ["leaderboard", "--folder", ".", "--check", "--json"])
    assert json.loads(checked.stdout) == {"up_to_date": True, "outdated": []}


class TestOwnResult:
    @pytest.fixture
    def measured(self) -> tuple[object, ...]:
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
        x = torch.randn(80, 4)
        snn = snnconv.convert(model, methods.SRP(4, 2), x, progress=False)
        with torch.no_grad():
            labels = model(x).argmax(1)
        return snn, model, snnconv.evaluate(snn, (x, labels), model=model), snnconv.profile(model, snn, x)

    def test_is_a_row_with_everything_that_is_known(self, tmp_path: Path, measured: tuple[object, ...]) -> None:
        path = results.record(*measured, dataset="my data", architecture="my MLP", folder=tmp_path, label="SRP 2 + 4")  # type: ignore[arg-type]
        assert path.relative_to(tmp_path).as_posix() == "my-data/my-mlp/srp-2-4.json"
        row = results.read(path)  # checked against the schema
        (point,) = row["points"]
        assert (point["timesteps"], point["pre_timesteps"], point["latency"]) == (4, 2, 6)
        assert row["ann"]["metrics"] == {"top1": 100.0}
        assert point["sops"] > 0
        assert point["thresholds"]
        assert row["method"]["name"] == "SRP"
        assert row["weights"] == results.digest(measured[1])  # type: ignore[arg-type]

    def test_points_of_one_row_gather_in_one_file(self, tmp_path: Path) -> None:
        model, x = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval(), torch.randn(80, 4)
        with torch.no_grad():
            labels = model(x).argmax(1)
        for steps in (4, 8):
            snn = snnconv.convert(model, methods.SignedIF(steps), x, progress=False)
            found = snnconv.evaluate(snn, (x, labels), model=model, timesteps=[steps])
            path = results.record(snn, model, found, dataset="d", architecture="a", folder=tmp_path)
        row = results.read(path)
        assert [point["timesteps"] for point in row["points"]] == [4, 8]
        assert row["points"][0]["sops"] is None

    def test_what_is_missing_is_said(self, tmp_path: Path, measured: tuple[object, ...]) -> None:
        snn, model = measured[0], measured[1]
        x = torch.randn(8, 4), torch.zeros(8, dtype=torch.long)
        names = {"dataset": "d", "architecture": "a", "folder": tmp_path}
        with pytest.raises(results.ResultError, match="model=model"):
            results.record(snn, model, snnconv.evaluate(snn, x), **names)  # type: ignore[arg-type]
        with pytest.raises(results.ResultError, match="T = 4, is missing"):
            results.record(snn, model, snnconv.evaluate(snn, x, model=model, timesteps=[2]), **names)  # type: ignore[arg-type]
