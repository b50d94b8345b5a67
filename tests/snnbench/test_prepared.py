"""Prepared networks in configs: building, calibration at the start, regularisers, both stages, bench rows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("mmengine")
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from safetensors.torch import save_file

from snnbench import config as config_files
from snnbench import results, run
from snnbench.data.roots import resolve_config
from snnbench.registry import MODELS
from snnbench.tasks.classification import ImageClassifier
from snnbench.training.prepared import prepared_network, training_progress
from snnbench.weights.card import read_card
from snnconv.activations import QuantReLU, RateNorm
from snnconv.files.untrusted import CheckpointError, allow_checkpoint_globals
from snnconv.training import BitSparsity

QUANT = {"type": "QuantReLU", "levels": 7}


@MODELS.register_module(force=True)
class SmallNet(nn.Sequential):
    """Learns to tell dark images from bright ones."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2),
        )  # fmt: skip


def prepared(activation: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"type": "Prepared", "network": {"type": "SmallNet"}, "activation": activation, **settings}


def built(config: dict[str, Any]) -> Any:
    """A module by the names of this scope, whatever another test's config left as the default."""
    with MODELS.switch_scope_and_registry(MODELS.scope) as registry:
        return registry.build(config)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A config that trains on bright and dark images, and tests by three rows."""
    monkeypatch.setenv("SNNCONV_DATA", str(tmp_path))
    monkeypatch.setenv("SNNCONV_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    allow_checkpoint_globals()
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 15)):
        for name, low in (("bright", 90), ("dark", 0)):
            (tmp_path / "light" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(low, low + 145, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "light" / split / name / f"{number}.png")

    def loader(split: str, shuffle: bool) -> dict[str, Any]:
        data = {"type": "InMemoryImages", "root": f"dataset:light/{split}", "split": split, "pipeline": []}
        sampler = {"type": "DefaultSampler", "shuffle": shuffle}
        return {"batch_size": 8, "num_workers": 0, "sampler": sampler, "dataset": data}

    trained = {"thresholds": "trained", "correction": "none"}
    values = Config(
        {
            "default_scope": "snnbench",
            "model": {"type": "ImageClassifier", "network": prepared(QUANT)},
            "train_dataloader": loader("train", True),
            "val_dataloader": loader("test", False),
            "test_dataloader": loader("test", False),
            "val_evaluator": {"type": "TopK"},
            "test_evaluator": {"type": "TopK"},
            "optim_wrapper": {"type": "AutocastOptimWrapper", "optimizer": {"type": "SGD", "lr": 0.02}},
            "param_scheduler": [{"type": "CosineAnnealingLR", "begin": 0, "end": 2, "T_max": 2}],
            "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 2, "val_interval": 1},
            "custom_hooks": [{"type": "CalibrateHook", "images": 40}, {"type": "EMAHook", "momentum": 0.2}],
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1, "max_keep_ckpts": 1}},
            "val_cfg": {"type": "ValLoop"},
            "test_cfg": {"type": "TestLoop"},
            "randomness": {"seed": 0},
            "work_dir": str(tmp_path / "work"),
            "log_level": "ERROR",
            "bench": {
                "task": "classification",
                "dataset": "light",
                "split": "test",
                "architecture": "small",
                "metric": "top1",
                "scope": "dense",
                "weights": None,
                "calibration": {"images": 16},
                "methods": [
                    {"label": "shifted threshold", "type": "ShiftedThreshold", "timesteps": [3], **trained},
                    {"label": "signed IF", "type": "SignedIF", "timesteps": [7], **trained},
                    {
                        "label": "fine-tuned",
                        "type": "SignedIF",
                        "timesteps": [7],
                        "finetune": {"images": 40},
                        **trained,
                    },
                ],
            },
        }
    )
    yield values
    DefaultScope._instance_dict.clear()


def without_bench(config: Config) -> Config:
    config = copy.deepcopy(config)
    config.pop("bench")
    resolve_config(config)
    return config


class TestBuilding:
    def test_every_relu_is_replaced(self) -> None:
        network = built(prepared(QUANT))
        assert [type(network[k]) for k in (2, 4)] == [QuantReLU, QuantReLU]
        assert network[2].levels == 7

    def test_starts_from_weights_of_the_network_with_relus(self, tmp_path: Path) -> None:
        source = SmallNet()
        save_file(source.state_dict(), str(tmp_path / "net.safetensors"))
        network = built(prepared(QUANT, checkpoint=str(tmp_path / "net.safetensors")))
        assert torch.equal(network[0].weight, source[0].weight)
        save_file(nn.Linear(2, 2).state_dict(), str(tmp_path / "other.safetensors"))
        with pytest.raises(CheckpointError, match="other"):
            built(prepared(QUANT, checkpoint=str(tmp_path / "other.safetensors")))

    def test_one_scale_for_the_network(self) -> None:
        network = built(prepared({"type": "RateNorm", "shared": True}))
        assert isinstance(network[2], RateNorm)
        assert network[2].p is network[4].p

    def test_weights_are_quantised_on_request(self) -> None:
        network = built(prepared(QUANT, weights={"bits": 3, "ends": None}))
        layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        inner = [len(m.weight.abs().unique()) for m in layers[1:-1]]
        assert inner
        assert all(count <= 4 for count in inner)

    def test_an_unknown_activation(self) -> None:
        with pytest.raises(ValueError, match="must be one of QCFS, QuantReLU, RateNorm, got 'Tanh'"):
            prepared_network(SmallNet(), {"type": "Tanh"})


class TestCalibration:
    def test_clips_come_from_training_data(self, config: Config) -> None:
        config.train_cfg.max_epochs = 1
        config.optim_wrapper.optimizer.lr = 0.0
        runner = Runner.from_cfg(without_bench(config))
        before = runner.model.network[2].clip.item()
        runner.train()
        clip = runner.model.network[2].clip.item()
        assert before == 4.0
        assert clip != before

    def test_a_resumed_run_ends_like_one_that_was_not_stopped(self, config: Config, tmp_path: Path) -> None:
        def train(folder: str, epochs: int, resume: bool = False) -> dict[str, torch.Tensor]:
            own = without_bench(config)
            own.work_dir, own.resume, own.experiment_name = str(tmp_path / folder), resume, f"{folder}-{epochs}"
            own.train_cfg.max_epochs = epochs
            runner = Runner.from_cfg(own)
            runner.train()
            return runner.model.state_dict()

        whole = train("whole", 2)
        train("parts", 1)
        resumed = train("parts", 2, resume=True)
        assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


class TestRegularizer:
    def test_the_term_is_a_loss_and_what_it_counts_is_logged(self) -> None:
        torch.manual_seed(0)
        network = prepared_network(SmallNet(), QUANT)
        plain = ImageClassifier(network)
        model = ImageClassifier(network, regularizer={"type": "BitSparsity", "coefficient": 0.5})
        x, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 1, 0])
        found = model.eval()(x, labels, mode="loss")
        assert set(found) == {"loss", "loss_one_bits", "one_bits"}
        assert found["loss_one_bits"].item() == pytest.approx(0.5 * found["one_bits"].item())
        assert torch.equal(found["loss"], plain.eval()(x, labels, mode="loss")["loss"])
        assert not found["one_bits"].requires_grad
        assert len(model(x, labels, mode="predict")) == 4
        with pytest.raises(ValueError, match="training needs labels"):
            model(x, mode="loss")

    def test_the_schedule_follows_the_runner(self) -> None:
        hub = MessageHub.get_current_instance()
        hub.update_info("iter", 5)
        hub.update_info("max_iters", 20)
        try:
            assert training_progress() == 0.25
            assert BitSparsity(1.0, "linear").coefficient(training_progress()) == 0.25
        finally:
            hub.update_info("max_iters", 0)
        assert training_progress() == 1.0

    def test_the_teacher_is_neither_trained_nor_saved(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        source = SmallNet()
        save_file(source.state_dict(), tmp_path / "teacher.safetensors")
        term = {"type": "Distillation", "teacher": SmallNet(), "checkpoint": str(tmp_path / "teacher.safetensors")}
        model = ImageClassifier(prepared_network(copy.deepcopy(source), QUANT), regularizer=term)
        plain = ImageClassifier(prepared_network(copy.deepcopy(source), QUANT))
        assert set(model.state_dict()) == set(plain.state_dict())
        assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
        x, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 1, 0])
        found = model.train()(x, labels, mode="loss")
        assert set(found) == {"loss", "loss_divergence", "divergence"}
        teacher = model.regularizers[0].teacher
        assert not teacher.training
        assert all(torch.equal(v, source.state_dict()[k]) for k, v in teacher.state_dict().items())
        sum(v for k, v in found.items() if k.startswith("loss")).backward()
        assert all(p.grad is None for p in teacher.parameters())

    def test_the_teacher_is_the_network_that_a_prepared_one_came_from(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        source = SmallNet()
        save_file(source.state_dict(), tmp_path / "start.safetensors")
        term = {"type": "Distillation", "temperature": 2.0}
        model = built(
            {
                "type": "ImageClassifier",
                "network": prepared(QUANT, checkpoint=str(tmp_path / "start.safetensors")),
                "regularizer": term,
            }
        )
        teacher = model.regularizers[0].teacher
        assert all(torch.equal(v, source.state_dict()[k]) for k, v in teacher.state_dict().items())
        assert not any(isinstance(m, QuantReLU) for m in teacher.modules())
        assert model.regularizers[0].temperature == 2.0
        assert term == {"type": "Distillation", "temperature": 2.0}
        other = dict(term, teacher=SmallNet())
        torch.manual_seed(1)
        model = ImageClassifier(prepared(QUANT), regularizer=other)
        assert model.regularizers[0].teacher is other["teacher"]

    def test_no_teacher(self) -> None:
        with pytest.raises(ValueError, match=r"needs a teacher .* regularizer\.teacher"):
            ImageClassifier({"type": "SmallNet"}, regularizer={"type": "Distillation"})
        with pytest.raises(ValueError, match=r"needs a teacher: student\.safetensors starts the student alone"):
            ImageClassifier(prepared(QUANT), checkpoint="student.safetensors", regularizer={"type": "Distillation"})

    def test_several_terms_are_summed(self) -> None:
        torch.manual_seed(0)
        network = prepared_network(SmallNet(), QUANT)
        terms = [{"type": "BitSparsity", "coefficient": 0.5}, {"type": "Distillation", "teacher": SmallNet()}]
        both = ImageClassifier(network, regularizer=terms).eval()
        x, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 1, 0])
        expected: dict[str, torch.Tensor] = {}
        for term in both.regularizers:
            expected |= ImageClassifier(network, regularizer=term).eval()(x, labels, mode="loss")
        found = both(x, labels, mode="loss")
        assert set(found) == {"loss", "loss_one_bits", "one_bits", "loss_divergence", "divergence"}
        assert all(torch.equal(value, expected[name]) for name, value in found.items())
        with pytest.raises(ValueError, match="two regularizers of one kind: BitSparsity, BitSparsity"):
            ImageClassifier(network, regularizer=[terms[0], terms[0]])
        with pytest.raises(ValueError, match="BitSparsity looks into the network"):
            ImageClassifier(network, regularizer=both.regularizers, compiled=True)

    def test_trains(self, config: Config) -> None:
        config.model.regularizer = {"type": "BitSparsity", "coefficient": 1e-3, "schedule": "linear"}
        runner = Runner.from_cfg(without_bench(config))
        runner.train()
        assert "train/loss_one_bits" in runner.message_hub.log_scalars


class TestBench:
    def run(self, config: Config, folder: Path, **options: Any) -> dict[str, dict]:
        path = folder / "small.py"
        config.dump(str(path))
        files = run.run_config(path, out=folder / "out", work_dir=folder / "work", **options)
        return {record["label"]: record for record in map(results.read, files)}

    def test_trains_converts_and_leaves_a_model_card(self, config: Config, tmp_path: Path) -> None:
        found = self.run(config, tmp_path)
        assert set(found) == {"shifted threshold", "signed IF", "fine-tuned"}
        shifted = found["shifted threshold"]
        assert shifted["points"][0]["metrics"]["top1"] == shifted["ann"]["metrics"]["top1"]
        assert found["fine-tuned"]["config"]["settings"]["finetune"] == {"images": 40}
        (note,) = [n for n in found["fine-tuned"]["notes"] if "fine-tuning" in n]
        assert "of 2 layers kept their new weights; accuracy on its 40 images went from" in note
        card = read_card(tmp_path / "work/weights.safetensors")
        assert card is not None
        assert card.metrics["accuracy/top1"] == pytest.approx(shifted["ann"]["metrics"]["top1"])
        assert (card.architecture, card.dataset, card.seed) == ("small", "light", 0)
        assert card.training["epochs"] == 2
        assert str(tmp_path) not in (tmp_path / "work/weights.md").read_text()
        assert shifted["training"]["iterations"] == card.training["iterations"]

    def test_what_training_started_from_may_be_gone_afterwards(self, config: Config, tmp_path: Path) -> None:
        start = tmp_path / "start.safetensors"
        save_file(SmallNet().state_dict(), start)
        config.model.network.checkpoint = str(start)
        config.model.regularizer = {"type": "Distillation"}
        config.bench.methods = config.bench.methods[:1]
        first = self.run(config, tmp_path)
        start.unlink()
        again = self.run(config, tmp_path)
        assert again["shifted threshold"]["points"][0]["metrics"] == first["shifted threshold"]["points"][0]["metrics"]
        (tmp_path / "work/weights.safetensors").unlink()
        with pytest.raises(Exception, match=r"start\.safetensors"):
            self.run(config, tmp_path)

    def test_another_number_of_epochs(self, config: Config, tmp_path: Path) -> None:
        config.dump(str(tmp_path / "small.py"))
        loaded = config_files.load_config(tmp_path / "small.py", {"epochs": 5})
        assert (loaded.train_cfg.max_epochs, loaded.param_scheduler[-1].end, loaded.param_scheduler[-1].T_max) == (
            5,
            5,
            5,
        )
        config.train_cfg = {"type": "RateScaleLoop", "epochs": 2}
        config.dump(str(tmp_path / "stage2.py"))
        with pytest.raises(config_files.BenchError, match="epochs=5: this config's training has no max_epochs"):
            config_files.load_config(tmp_path / "stage2.py", {"epochs": 5})

    def test_second_stage_of_rate_norm_training(self, config: Config, tmp_path: Path) -> None:
        config.model.network = prepared({"type": "RateNorm", "scaled": True})
        config.bench.methods = [{"label": "RNL", "type": "RateNorm", "timesteps": [4, 8]}]
        self.run(config, tmp_path)
        first = copy.deepcopy(config)
        first.model.checkpoint = str(tmp_path / "work/weights.safetensors")
        first.train_cfg = {"type": "RateScaleLoop", "epochs": 2, "learning_rate": 0.1, "every": 4, "validation": 20}
        first.param_scheduler = None
        first.custom_hooks = []
        (tmp_path / "two").mkdir()
        found = self.run(first, tmp_path / "two")
        assert [p["timesteps"] for p in found["RNL"]["points"]] == [4, 8]
        from safetensors.torch import load_file

        one, two = (load_file(tmp_path / f"{part}work/weights.safetensors") for part in ("", "two/"))
        changed = {name for name in one if not torch.equal(one[name], two[name])}
        assert changed == {"network.2.p", "network.4.p"} | {
            f"network.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
        }  # BatchNorm's statistics move, as the authors' do
        card = read_card(tmp_path / "two/work/weights.safetensors")
        assert card is not None
        assert card.metrics["mean_k"] > 0
