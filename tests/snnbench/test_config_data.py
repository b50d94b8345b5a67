"""YAML and JSON configs are data: nothing of them is run, and what would run code is refused by name."""

from __future__ import annotations

import ast
import copy
import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmengine", reason="mmengine is not installed (the extra 'bench' has it)")

from PIL import Image
from typer.testing import CliRunner

from snnbench.config import BenchError, load_config
from snnbench.config_data import MOST_VALUES, read_config
from snnconv.cli.app import app
from snnconv.files.untrusted import UntrustedFileError, read_json, read_yaml
from tests.command_line import Runner

BENCH = {
    "task": "classification", "dataset": "none", "architecture": "none", "metric": "top1",
    "methods": [{"type": "IF", "timesteps": 4}],
}  # fmt: skip


TRAINING: dict[str, Any] = {
    "bench": BENCH,
    "model": {"type": "ImageClassifier", "network": {"type": "CifarResNet", "depth": 20}},
    "train_cfg": {"by_epoch": True, "max_epochs": 1},
    "train_dataloader": {
        "batch_size": 2, "num_workers": 0, "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": {"type": "InMemoryImages", "root": "pictures", "split": "train", "pipeline": []},
    },
    "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.1}},
}  # fmt: skip
CALLS = {
    "eval", "exec", "__import__", "import_module", "fromfile", "get_object_from_string", "rmtree", "system", "Popen",
    "check_call", "check_output", "getoutput",
}  # fmt: skip
"""Functions that run what they are given, or remove it."""
REVIEWED = {
    # refused: the classes in them are in DANGEROUS, what they read goes by its suffix, names are registered ones alone
    "mmcv.cnn.rfsearch.search", "mmdet.datasets.openimages", "mmdet.evaluation.metrics.cityscapes_metric",
    "mmdet.evaluation.metrics.mot_challenge_metric", "mmdet.models.detectors.kd_one_stage",
    "mmdet.models.task_modules.tracking.camera_motion_compensation", "mmengine.fileio.handlers.pickle_handler",
    "mmengine.fileio.handlers.yaml_handler", "mmengine.registry.registry", "mmengine.visualization.vis_backend",
    "mmseg.evaluation.metrics.citys_metric", "mmseg.utils.io", "mmcv.ops.nms",
    # for configs that are programs, which no config of data has for a base
    "mmengine.config.config", "mmengine.config.lazy", "mmdet.utils.misc",
    # not called by a training or a test: inference by a config's name, tests of the packages, set-up
    "mmdet.apis.inference", "mmdet.testing._utils", "mmengine.hub.hub", "mmengine.infer.infer",
    "mmengine.testing.runner_test_case", "mmseg.apis.inference", "mmseg.apis.remote_sense_inferencer",
    "mmengine.utils.misc", "mmengine.utils.package_utils", "mmcv.utils.ext_loader",
    # names of a table of their own, programs of a fixed name, what the process itself has stored
    "mmdet.evaluation.functional.class_names", "mmseg.utils.class_names", "mmcv.utils.env",
    "mmengine.utils.dl_utils.collect_env", "mmengine.utils.version_utils", "mmengine.runner.checkpoint",
    "mmengine.dataset.base_dataset", "mmengine.dist.dist", "mmengine.dist.utils", "mmdet.utils.dist_utils",
    "mmdet.evaluation.metrics.base_video_metric", "mmengine.fileio.backends.local_backend", "mmengine.fileio.io",
    "mmengine.hooks.checkpoint_hook",
}  # fmt: skip
"""Modules with such calls that were looked at."""


def modules_that_run_code(package: str) -> Iterator[str]:
    """Names of the modules of a package that call one of :data:`CALLS`, or read pickles, by their text."""
    folder = Path(importlib.import_module(package).__file__ or "").parent
    for path in sorted(folder.rglob("*.py")):
        name = ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        if ".mim." in name or not re.search(r"pickle|yaml|dill|" + "|".join(CALLS), text):
            continue
        if any(runs(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            yield name


def runs(call: ast.Call) -> bool:
    """Whether a call runs what it is given."""
    of = call.func
    name = of.attr if isinstance(of, ast.Attribute) else getattr(of, "id", "")
    owner = getattr(of.value, "id", "") if isinstance(of, ast.Attribute) else ""
    if (name in ("eval", "exec") and isinstance(of, ast.Attribute)) or owner in ("platform", "np"):
        return False  # a network's mode; the name of the system; numbers
    pickled = name in ("load", "loads") and owner in ("pickle", "yaml", "dill")
    arrays = any(word.arg == "allow_pickle" and getattr(word.value, "value", False) for word in call.keywords)
    return name in CALLS or pickled or arrays


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


class TestWhatIsRead:
    def test_bases_are_merged_as_mmengine_merges_them(self, tmp_path: Path) -> None:
        written(tmp_path / "a.json", {"model": {"depth": 18, "width": 64}, "seed": 1})
        written(tmp_path / "b.yml", "lr: 0.5\n")
        path = written(
            tmp_path / "c.yaml", "_base_: [a.json, ./b.yml]\nmodel: {depth: 34}\nseed: {_delete_: true, a: 2}\n"
        )
        config = read_config(path)
        assert config.to_dict() == {"model": {"depth": 34, "width": 64}, "seed": {"a": 2}, "lr": 0.5}
        assert config.filename == str(path)

    def test_a_data_config_loads_with_the_registries_of_its_scope(self, tmp_path: Path) -> None:
        model = {"type": "ImageClassifier", "network": {"type": "Prepared"}}
        loaded = load_config(written(tmp_path / "c.json", {"bench": BENCH, "model": model}), {"bench.limit": 3})
        assert loaded.bench.methods[0].type == "IF"
        assert loaded.bench.limit == 3

    def test_a_detectors_operators_are_known(self, tmp_path: Path) -> None:
        pytest.importorskip("mmdet", reason="needs the bench extra")
        model = {"type": "RetinaNet", "test_cfg": {"nms": {"type": "nms"}}, "roi": {"roi_layer": {"type": "RoIAlign"}}}
        content = {"bench": BENCH, "default_scope": "mmdet", "model": model}
        assert load_config(written(tmp_path / "c.json", content)).model.test_cfg.nms.type == "nms"

    @pytest.mark.parametrize("suffix", [".py", ".json"])
    def test_it_is_written_out_without_a_formatter(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
    ) -> None:
        """A runner writes its config twice, and yapf takes seconds for one of mmdetection's."""
        content = json.dumps({"bench": BENCH, "seed": 1})
        lines = f"bench = {json.dumps(BENCH)}\nseed = 1\n" if suffix == ".py" else content
        config = copy.deepcopy(load_config(written(tmp_path / f"c{suffix}", lines), {"bench.limit": 3}))
        monkeypatch.setattr("mmengine.config.config.FormatCode", None)  # calling it fails
        found: dict[str, Any] = {}
        exec(config.pretty_text, found)
        assert found["bench"] == {**BENCH, "limit": 3}


class TestWhatWouldRunCode:
    @pytest.mark.parametrize("command", ["bench", "train"])
    def test_a_yaml_tag(self, tmp_path: Path, command: str) -> None:
        made = tmp_path / "made"
        path = written(tmp_path / "c.yaml", f"bench: 1\na: !!python/object/apply:os.mkdir ['{made}']\n")
        result = Runner().invoke(app, [command, str(path), "--work-dir", str(tmp_path / "work")])
        assert result.exit_code == 2
        assert f"{path}: line 2: refused, and nothing of it was run: it asks for !!python/object/apply:os.mkdir" in (
            " ".join(result.output.split())
        )
        assert not made.exists()

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ({"_base_": "base.py"}, r"_base_: \S+base\.py is no YAML or JSON"),
            ({"_base_": "mmdet::yolo.py"}, r"_base_: \S+ is no YAML or JSON"),
            ({"custom_imports": {"imports": ["evil"]}}, r"custom_imports: runs the modules that it names"),
            ({"a": {"custom_imports": {}}}, r"a\.custom_imports: runs"),
            ({"a": ["{{ fileDirname }}"]}, r"a\[0\]: a placeholder, '\{\{ fileDirname \}\}'"),
            ({"default_scope": "evil"}, r"default_scope: 'evil' is not one of snnbench, mmdet"),
            ({"model": {"_scope_": "evil"}}, r"model\._scope_: 'evil' is not one of"),
            ({"model": {"type": "os.mkdir"}}, r"model\.type: 'os\.mkdir' is registered nowhere"),
            ({"model": {"type": "evil"}}, r"model\.type: 'evil' is registered nowhere"),
            ({"model": {"type": "mmengine.load"}}, r"model\.type: 'mmengine\.load' is registered nowhere"),
            ({"data": {"ann_file": "all.PKL"}}, r"data\.ann_file: mmengine reads 'all\.PKL' by running"),
            ({"data": {"ann_file": "all.yaml"}}, r"data\.ann_file: mmengine reads 'all\.yaml' by running"),
            ({"model": {"env": "evil:Env-v0"}}, r"model\.env: 'evil:Env-v0' imports a module"),
            ({"model": {"teacher_config": "evil.py"}}, r"model\.teacher_config: mmengine reads 'evil\.py' by running"),
            ({"model": {"type": 3}}, r"model\.type: 3 is no name"),
        ],
    )
    def test_is_refused_by_field(self, tmp_path: Path, content: dict[str, Any], reason: str) -> None:
        written(tmp_path / "base.py", f"open({str(tmp_path / 'made')!r}, 'w')\n")
        written(tmp_path / "evil.py", f"open({str(tmp_path / 'made')!r}, 'w')\n")
        path = written(tmp_path / "c.json", {"bench": BENCH, **content})
        with pytest.raises(BenchError, match=rf"c\.json: {reason}"):
            load_config(path)
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize(
        ("kind", "settings", "reason"),
        [
            ("CameraMotionCompensation", {"warp_mode": "open(MADE, 'w')"}, "runs the text of its warp_mode"),
            ("RFSearchHook", {"config": {"search": {"ops": ["x"]}}}, "runs the names of layers"),
            ("mmdet.LAD", {"teacher_config": "evil.json"}, "runs the config that its teacher_config names"),
            ("OpenImagesChallengeDataset", {"hierarchy_file": "evil.np"}, "by running what it asks for"),
            ("mmdet.CityScapesMetric", {"outfile_prefix": "/home"}, "removes a folder"),
            ("DVCLiveVisBackend", {}, "starts a program"),
        ],
    )
    def test_a_class_that_runs_what_it_is_given(
        self, tmp_path: Path, kind: str, settings: dict[str, Any], reason: str
    ) -> None:
        pytest.importorskip("mmdet", reason="needs the bench extra")
        made = tmp_path / "made"
        settings = json.loads(json.dumps(settings).replace("MADE", repr(str(made))))
        content = {"bench": BENCH, "default_scope": "mmdet", "model": {"parts": [{"type": kind, **settings}]}}
        with pytest.raises(BenchError, match=rf"c\.json: model\.parts\[0\]\.type: \w+ {reason}|.*{reason}"):
            load_config(written(tmp_path / "c.json", content))
        assert not made.exists()

    @pytest.mark.parametrize(
        "field",
        [
            {"optim_wrapper": {"constructor": "evil_names.X"}},
            {"custom_hooks": [{"type": "EMAHook", "ema_type": "evil_names.X"}]},
        ],
        ids=["constructor", "ema_type"],
    )
    def test_a_path_in_a_module_is_not_imported_whatever_field_names_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: dict[str, Any]
    ) -> None:
        made = tmp_path / "made"
        written(tmp_path / "evil_names.py", f"open({str(made)!r}, 'w').close()\nclass X: pass\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SNNCONV_CACHE", str(tmp_path / "cache"))
        for label in "ab":
            (tmp_path / "pictures" / label).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / label / "1.png")
        own = {
            name: {**TRAINING.get(name, {}), **value} if isinstance(value, dict) else value
            for name, value in field.items()
        }
        content = {**TRAINING, **own}
        result = CliRunner().invoke(app, ["train", str(written(tmp_path / "c.json", content)), "--work-dir", "work"])
        assert result.exit_code == 2
        assert "'evil_names.X' is registered nowhere" in " ".join(result.output.split())
        assert not made.exists()

    def test_calls_that_run_code_in_the_packages_that_a_config_names_are_known(self) -> None:
        pytest.importorskip("mmdet", reason="needs the bench extra")
        found = {name for package in ("mmengine", "mmdet", "mmseg", "mmcv") for name in modules_that_run_code(package)}
        assert found - REVIEWED == set(), "look whether a config reaches them; if so, add the class to DANGEROUS"


class TestTheLayout:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ({"bench": 3}, r"bench is 3, it must be of type object"),
            ({"bench": {**BENCH, "methods": 0.5}}, r"bench\.methods is 0\.5, it must be of type array"),
            ({"bench": {**BENCH, "methods": ["IF"]}}, r"bench\.methods\[0\] is 'IF', it must be of type object"),
            ({"bench": {**BENCH, "scope": "all"}}, r"bench\.scope is 'all', it must be one of dense, backbone"),
            ({"bench": {k: v for k, v in BENCH.items() if k != "metric"}}, r"bench\.metric is missing"),
            ({"bench": BENCH, "train_cfg": True}, r"train_cfg is True, it must be of type object or null"),
            ({"bench": BENCH, "test_dataloader": {"dataset": 3}}, r"test_dataloader\.dataset is 3"),
            ({"bench": BENCH, "model": 0.5}, r"model is 0\.5"),
        ],
    )
    def test_a_field_of_another_kind_is_named(self, tmp_path: Path, content: dict[str, Any], reason: str) -> None:
        with pytest.raises(BenchError, match=rf"c\.json: {reason}"):
            load_config(written(tmp_path / "c.json", content))

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"bench.methods.7.type": "IF"}, r"--cfg-options bench\.methods\.7\.type='IF' fits nowhere"),
            ({"bench.task.name": 1}, r"--cfg-options bench\.task\.name=1 fits nowhere"),
            ({"epochs": "many"}, r"epochs='many': a whole number from 1 on"),
            ({"epochs": 2}, r"epochs=2: this config's training has no max_epochs"),
        ],
    )
    def test_an_option_that_fits_nowhere_is_named(self, tmp_path: Path, options: dict[str, Any], reason: str) -> None:
        with pytest.raises(BenchError, match=rf"c\.json: {reason}"):
            load_config(written(tmp_path / "c.json", {"bench": BENCH}), options)

    def test_the_suites_own_networks_are_known(self, tmp_path: Path) -> None:
        model = {"type": "ImageClassifier", "network": {"type": "CifarResNet", "depth": 20}}
        assert load_config(written(tmp_path / "c.json", {"bench": BENCH, "model": model})).model.network.depth == 20


class TestWhatIsNoConfig:
    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("c.yaml", "a: [1", r"not YAML"),
            ("c.yaml", "- 1", r"holds a list, not fields with names"),
            ("c.yaml", "a: 2020-01-01", r"a: a date is no value of a config"),
            ("c.yaml", "a: &a [*a]", r"a\[0\]: holds itself|a: holds itself"),
            ("c.json", "[" * 100_000, r"nested too deep"),
            ("c.json", '{"a": ' + "[" * 200 + "]" * 200 + "}", r"nested in more than 30 lists"),
            ("c.json", "{", r"line 1, column 2: not JSON"),
            ("c.json", '{"_base_": "c.json"}', r"_base_: is its own base"),
            ("c.json", '{"_base_": "none.json"}', r"none\.json: cannot be read"),
            ("c.json", '{"_base_": 3}', r"_base_: 3 names no file"),
            ("c.json", '{"filename": "x"}', r"filename: mmengine keeps this name for itself"),
            ("c.json", '{"_base_": "five.json", "a": {"b": 1}}', r"c\.json: does not fit its _base_: a=.* is of type"),
            ("c.json", '{"_base_": "pipe.json"}', r"pipe\.json: cannot be read \(it is a folder, a pipe"),
        ],
    )
    def test_is_refused(self, tmp_path: Path, name: str, content: str, reason: str) -> None:
        written(tmp_path / "five.json", {"a": 5})
        if hasattr(os, "mkfifo"):
            os.mkfifo(tmp_path / "pipe.json")
        elif "pipe" in content:
            pytest.skip("no pipes here")
        with pytest.raises(UntrustedFileError, match=reason):
            read_config(written(tmp_path / name, content))

    def test_references_that_multiply_end(self, tmp_path: Path) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
        with pytest.raises(UntrustedFileError, match=f"holds more than {MOST_VALUES:,} values"):
            read_config(written(tmp_path / "c.yaml", "\n".join(lines)))

    @pytest.mark.parametrize("suffix", [".txt", ".toml", ""])
    def test_another_kind_of_file(self, tmp_path: Path, suffix: str) -> None:
        with pytest.raises(BenchError, match="a config is a Python file, or"):
            load_config(written(tmp_path / f"c{suffix}", ""))

    def test_numbers_without_end(self) -> None:
        with pytest.raises(UntrustedFileError, match=r"a\.json: not JSON that can be read \(Exceeds the limit"):
            read_json("9" * 5000, "a.json")
        with pytest.raises(UntrustedFileError, match=r"a\.yaml: not YAML that can be read \(Exceeds the limit"):
            read_yaml("9" * 5000, "a.yaml")


def test_the_help_says_which_configs_are_programs() -> None:
    said = Runner().invoke(app, ["bench", "--help"]).output
    assert "A Python config is a program" in " ".join(said.replace("│", " ").split())
