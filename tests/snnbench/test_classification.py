"""Classification on mmengine's runner: model, metric, training, configs, the ImageNet pipeline."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("mmengine")
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from safetensors.torch import save_file

from snnbench.data.image_datasets import SKIPPED
from snnbench.data.roots import DataRootError, resolve, resolve_config
from snnbench.registry import MODELS, TRANSFORMS
from snnbench.tasks.classification import ImageClassifier, ImagePreprocessor, TopK, _forward
from snnbench.training.optim import AutocastOptimWrapper
from snnconv import training
from snnconv.dynamics.kernels import processor
from snnconv.files.untrusted import CheckpointError, allow_checkpoint_globals

CONFIGS = sorted((Path(__file__).parents[2] / "configs/classification").glob("*/*.py"))


@MODELS.register_module(force=True)
class TinyNet(nn.Sequential):
    """Learns to tell dark images from bright ones."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, num_classes)
        )


def images(count: int = 3, size: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


class TestPreprocessor:
    def test_normalises_by_channel(self) -> None:
        x = images()
        out = ImagePreprocessor(mean=(0.1, 0.2, 0.3), std=(1, 2, 4), channels_last=True)({"inputs": x})["inputs"]
        assert torch.allclose(out[:, 2], (x[:, 2] / 255 - 0.3) / 4)
        assert out.is_contiguous(memory_format=torch.channels_last)

    def test_float_images_are_refused(self) -> None:
        with pytest.raises(TypeError, match="uint8 until they are normalised"):
            ImagePreprocessor()({"inputs": images().float()})

    def test_images_of_several_sizes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="several sizes in one batch"):
            ImagePreprocessor()({"inputs": [images(1, 8)[0], images(1, 9)[0]]})

    def test_other_channels_are_refused(self) -> None:
        with pytest.raises(ValueError, match="images of 1 channels, but mean has 3"):
            ImagePreprocessor()({"inputs": images()[:, :1]})


class TestClassifier:
    def test_modes(self) -> None:
        model = ImageClassifier({"type": "TinyNet"}, label_smoothing=0.1).eval()
        x, labels = torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 1])
        logits = model(x)
        assert torch.equal(logits, model.network(x))
        loss = model(x, labels, mode="loss")["loss"]
        assert torch.equal(loss, nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))
        samples = model(x, labels, mode="predict")
        assert [int(s.gt_label) for s in samples] == [0, 1, 1]
        assert torch.allclose(torch.stack([s.pred_scores for s in samples]), logits.softmax(1))
        assert [int(s.pred_label) for s in samples] == logits.argmax(1).tolist()
        assert "gt_label" not in model(x, mode="predict")[0]

    def test_class_weights_as_labels(self) -> None:
        model = ImageClassifier({"type": "TinyNet"}).eval()
        x, labels = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
        soft = nn.functional.one_hot(labels, 2).float()
        assert torch.allclose(model(x, soft, mode="loss")["loss"], model(x, labels, mode="loss")["loss"])

    def test_unreadable_images_do_not_train(self) -> None:
        model = ImageClassifier({"type": "TinyNet"}).eval()
        x = torch.randn(2, 3, 8, 8)
        both = model(x, torch.tensor([1, SKIPPED]), mode="loss")["loss"]
        assert torch.allclose(both, model(x[:1], torch.tensor([1]), mode="loss")["loss"])

    @pytest.mark.parametrize("wrap", [lambda y: y, lambda y: {"logits": y}, lambda y: SimpleNamespace(logits=y)])
    def test_the_network_may_be_swapped_for_anything_that_gives_logits(self, wrap: Any) -> None:
        class Converted(nn.Module):
            def forward(self, x: torch.Tensor) -> Any:
                return wrap(x.flatten(1)[:, :2])

        model = ImageClassifier({"type": "TinyNet"})
        model.network = Converted()
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(model(x), x.flatten(1)[:, :2])

    def test_an_output_without_logits_is_refused(self) -> None:
        model = ImageClassifier({"type": "TinyNet"})
        model.network.forward = lambda x: [x]
        with pytest.raises(TypeError, match="the network gave list; it must give logits"):
            model(torch.randn(1, 3, 8, 8))

    @pytest.mark.parametrize("form", ["bare.safetensors", "bare.pth", "whole.safetensors", "whole.pth"])
    def test_checkpoint_of_the_network_or_of_the_classifier(self, tmp_path: Path, form: str) -> None:
        source = ImageClassifier({"type": "TinyNet"})
        state = (source.network if form.startswith("bare") else source).state_dict()
        path = tmp_path / form
        if path.suffix == ".pth":
            torch.save({"state_dict": state}, path)
        else:
            save_file(state, str(path))
        model = ImageClassifier({"type": "TinyNet"}, checkpoint=str(path))
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), source.parameters(), strict=True))

    @pytest.mark.parametrize("classes", [2, 3])
    def test_checkpoint_of_another_network_is_named(self, tmp_path: Path, classes: int) -> None:
        path = tmp_path / "other.pth"
        state = ImageClassifier({"type": "TinyNet", "num_classes": classes}).network.state_dict()
        torch.save(state if classes == 3 else {"x": torch.zeros(1)}, path)
        with pytest.raises(CheckpointError, match=r"other\.pth"):
            ImageClassifier({"type": "TinyNet"}, checkpoint=str(path))

    def test_pretrained_weights_are_not_initialised_again(self) -> None:
        model = ImageClassifier({"type": "TimmModel", "name": "resnet10t", "num_classes": 2})
        before = copy.deepcopy(model.state_dict())
        model.init_weights()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    @pytest.mark.parametrize("kind", ["TorchvisionModel", "TimmModel"])
    def test_unknown_network(self, kind: str) -> None:
        with pytest.raises(ValueError, match="has no model 'resnet1800'"):
            ImageClassifier({"type": kind, "name": "resnet1800"})

    def test_weights_that_cannot_be_fetched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from urllib.error import URLError

        def refuse(*_: object, **__: object) -> None:
            raise URLError("no network")

        monkeypatch.setattr("torchvision.models.get_model", refuse)
        with pytest.raises(RuntimeError, match=r"resnet18 cannot be fetched from https://.*checkpoint="):
            ImageClassifier({"type": "TorchvisionModel", "name": "resnet18", "weights": "DEFAULT"})


def samples(scores: torch.Tensor, labels: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    return [{"pred_scores": s, "gt_label": y} for s, y in zip(scores, labels, strict=True)]


def evaluate_shard(rank: int, store: str, folder: str, scores: torch.Tensor, labels: torch.Tensor) -> None:
    """One of two ranks, whose sampler repeats samples so that both have as many."""
    import os

    os.chdir(folder)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    places = [*range(len(labels)), 0][: 2 * ((len(labels) + 1) // 2)][rank::2]
    metric = TopK()
    metric.process({}, samples(scores[places], labels[places]))
    result = metric.evaluate(len(labels))
    if rank == 0:
        Path(folder, "result.txt").write_text(str(result["accuracy/top1"]))
    torch.distributed.destroy_process_group()


class TestTopK:
    def test_counts_labels_among_the_highest_scores(self) -> None:
        scores, labels = torch.rand(200, 20), torch.randint(20, (200,))
        metric = TopK(ks=(1, 3, 5))
        metric.process({}, samples(scores[:70], labels[:70]))
        metric.process({}, samples(scores[70:], labels[70:]))
        found = metric.evaluate(200)
        for k in (1, 3, 5):
            best = scores.argsort(1, descending=True)[:, :k]
            expected = 100 * (best == labels[:, None]).any(1).float().mean()
            assert found[f"accuracy/top{k}"] == pytest.approx(float(expected), abs=1e-4)

    def test_unreadable_images_are_counted_apart(self) -> None:
        metric = TopK()
        metric.process({}, samples(torch.eye(3), torch.tensor([0, SKIPPED, 1])))
        assert metric.evaluate(3) == {"accuracy/top1": 50.0, "accuracy/top5": 100.0, "accuracy/skipped": 1}

    def test_samples_repeated_by_a_sampler_count_once(self) -> None:
        metric = TopK()
        metric.process({}, samples(torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 2, 1, 0])))
        assert metric.evaluate(3)["accuracy/top1"] == pytest.approx(100 / 3)

    def test_configs_of_other_scopes_find_it(self) -> None:
        from mmengine.registry import METRICS

        assert isinstance(METRICS.build({"type": "snnbench.TopK", "ks": (1,)}), TopK)

    def test_samples_without_labels(self) -> None:
        with pytest.raises(ValueError, match="needs labels"):
            TopK().process({}, [{"pred_scores": torch.rand(3)}])

    @pytest.mark.slow
    def test_two_ranks_give_what_one_gives(self, tmp_path: Path) -> None:
        scores, labels = torch.rand(31, 4), torch.randint(4, (31,))
        torch.multiprocessing.spawn(
            evaluate_shard, (str(tmp_path / "store"), str(tmp_path), scores, labels), nprocs=2, join=True
        )
        expected = 100 * (scores.argmax(1) == labels).float().mean()
        assert float((tmp_path / "result.txt").read_text()) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("label", [torch.tensor(3), torch.tensor(101), torch.tensor(-2), torch.tensor(0.5)])
def test_a_label_that_is_none_of_the_outputs_is_refused(label: torch.Tensor) -> None:
    metric = TopK()
    with pytest.raises(ValueError, match=rf"label {label.item()} is none of the network's 3 outputs"):
        metric.process({}, [{"pred_scores": torch.tensor([0.1, 0.7, 0.2]), "gt_label": label}])
    metric.process({}, [{"pred_scores": torch.tensor([0.1, 0.7, 0.2]), "gt_label": torch.tensor(SKIPPED)}])


class TestMixedPrecision:
    @pytest.mark.parametrize("native", [True, False])
    def test_forward_runs_in_the_chosen_type_and_weights_stay_float32(
        self, native: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processor, "native_bfloat16", lambda device: native)
        model = ImageClassifier({"type": "TinyNet"})
        seen: list[torch.dtype] = []
        model.network[0].register_forward_hook(lambda *arguments: seen.append(arguments[2].dtype))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        data = {"inputs": images(), "data_samples": torch.tensor([0, 1, 1])}
        for dtype in ("bfloat16", "float32", "auto"):
            model.train_step(dict(data), AutocastOptimWrapper(dtype=dtype, optimizer=optimizer))
        auto = torch.bfloat16 if native else torch.float32
        assert seen == [torch.bfloat16, torch.float32, auto]
        assert {p.dtype for p in model.parameters()} == {torch.float32}

    def test_float16_is_refused(self) -> None:
        with pytest.raises(ValueError, match="float16 needs AmpOptimWrapper"):
            AutocastOptimWrapper(dtype="float16", optimizer=torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1))


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
class TestCompiled:
    def pair(self, **settings: Any) -> tuple[ImageClassifier, ImageClassifier]:
        torch.manual_seed(0)
        plain = ImageClassifier({"type": "TinyNet"}).double()
        fast = ImageClassifier({"type": "TinyNet"}, compiled=True, **settings).double()
        fast.load_state_dict(plain.state_dict())
        return plain, fast

    def test_same_gradients_and_no_trace_is_left(self) -> None:
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)).double()
        plain, fast = self.pair(regularizer=training.Distillation(teacher))
        x, labels = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
        calls: list[torch.Size] = []
        fast.network.register_forward_hook(lambda *arguments: calls.append(arguments[2].shape))
        torch._dynamo.reset()
        losses = fast(x, labels, "loss")
        assert torch._dynamo.utils.counters["frames"]["ok"] > 0
        expected = plain(x, labels, "loss")["loss"]
        torch.testing.assert_close(losses["loss"], expected)
        with torch.no_grad():
            soft = [torch.log_softmax(f(x) / 4, 1) for f in (plain, teacher)]
            divergence = 16 * nn.functional.kl_div(*soft, reduction="batchmean", log_target=True)
        torch.testing.assert_close(losses["divergence"].double(), divergence, rtol=1e-4, atol=1e-6)
        losses["loss"].backward()
        expected.backward()
        for a, b in zip(plain.parameters(), fast.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
        assert calls == [(4, 2)]
        assert "forward" not in vars(fast.network)

    def test_copies_train_their_own_weights(self) -> None:
        _, fast = self.pair()
        x, labels = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
        fast(x, labels, "loss")
        twin = copy.deepcopy(fast)
        twin(x, labels, "loss")["loss"].backward()
        assert all(p.grad is None for p in fast.parameters())
        assert all(p.grad is not None for p in twin.parameters())

    def test_only_training_is_compiled(self) -> None:
        _, fast = self.pair()

        def refused(*_: Any) -> None:
            raise AssertionError("compiled")

        fast._compiled = refused
        x, labels = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
        assert fast(x).shape == (4, 2)
        assert len(fast(x, labels, "predict")) == 4
        assert fast.eval()(x, labels, "loss")["loss"] > 0
        with pytest.raises(AssertionError, match="compiled"):
            fast.train()(x, labels, "loss")

    def test_a_network_that_does_not_compile_says_so(self) -> None:
        def broken(*_: Any) -> Any:
            raise FileNotFoundError("no compiler g++")

        _, fast = self.pair()
        fast._compiled = torch.compile(_forward, backend=broken)
        with pytest.raises(RuntimeError, match=r"no compiler g\+\+.*model\.compiled=False"):
            fast(torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 1, 0]), "loss")
        assert "forward" not in vars(fast.network)

    def test_terms_that_look_inside_are_refused(self) -> None:
        with pytest.raises(ValueError, match="BitSparsity looks into the network: train it with compiled=False"):
            ImageClassifier({"type": "TinyNet"}, compiled=True, regularizer={"type": "BitSparsity", "coefficient": 0.1})

    def test_runs_in_a_config(self, tiny: Config) -> None:
        tiny.model.compiled = True
        resolve_config(tiny)
        runner = Runner.from_cfg(tiny)
        runner.train()
        assert runner.test()["accuracy/top1"] > 80


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Training and test images, dark or bright, and a config that trains on them."""
    monkeypatch.setenv("SNNCONV_DATA", str(tmp_path))
    monkeypatch.setenv("SNNCONV_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    allow_checkpoint_globals()
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 15)):
        for name, low in (("bright", 110), ("dark", 0)):
            (tmp_path / "light" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(low, low + 145, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "light" / split / name / f"{number}.png")

    def loader(split: str, shuffle: bool, pipeline: list[Any]) -> dict[str, Any]:
        data = {"type": "InMemoryImages", "root": f"dataset:light/{split}", "split": split, "pipeline": pipeline}
        sampler = {"type": "DefaultSampler", "shuffle": shuffle}
        return {"batch_size": 8, "num_workers": 0, "sampler": sampler, "dataset": data}

    augmentation = [{"type": "BatchRandomCrop", "padding": 1}, {"type": "BatchFlip"}]
    return Config(
        {
            "default_scope": "snnbench",
            "model": {"type": "ImageClassifier", "network": {"type": "TinyNet"}},
            "train_dataloader": loader("train", True, augmentation),
            "val_dataloader": loader("test", False, []),
            "test_dataloader": loader("test", False, []),
            "val_evaluator": {"type": "TopK"},
            "test_evaluator": {"type": "TopK"},
            "optim_wrapper": {"type": "AutocastOptimWrapper", "optimizer": {"type": "SGD", "lr": 0.02}},
            "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 1, "val_interval": 1},
            "custom_hooks": [{"type": "EMAHook", "momentum": 0.2, "update_buffers": True}],
            "val_cfg": {"type": "ValLoop"},
            "test_cfg": {"type": "TestLoop"},
            "randomness": {"seed": 0},
            "work_dir": str(tmp_path / "work"),
            "log_level": "ERROR",
        }
    )


class TestRunner:
    def test_trains_an_epoch_and_the_metric_is_the_accuracy(self, tiny: Config) -> None:
        resolve_config(tiny)
        runner = Runner.from_cfg(tiny)
        runner.train()
        found = runner.test()
        model, data = runner.model.eval(), runner.test_dataloader.dataset
        with torch.no_grad():
            logits = model(model.data_preprocessor({"inputs": data.images})["inputs"])
        correct = float((logits.argmax(1) == data.labels).float().mean())
        assert found["accuracy/top1"] == pytest.approx(100 * correct)
        assert found["accuracy/top1"] > 80
        assert found["accuracy/top5"] == 100

    def test_a_resumed_run_ends_like_one_that_was_not_stopped(self, tiny: Config, tmp_path: Path) -> None:
        def train(folder: str, epochs: int, resume: bool = False) -> dict[str, torch.Tensor]:
            config = copy.deepcopy(tiny)
            config.work_dir, config.resume = str(tmp_path / folder), resume
            config.experiment_name = f"{folder}-{epochs}"
            config.train_cfg.max_epochs = epochs
            runner = Runner.from_cfg(config)
            runner.train()
            return runner.model.state_dict()

        whole = train("whole", 3)
        train("parts", 2)
        resumed = train("parts", 3, resume=True)
        assert all(torch.equal(value, resumed[name]) for name, value in whole.items())

    def test_absent_data_names_the_place_to_put_it(self, tiny: Config, tmp_path: Path) -> None:
        tiny.train_dataloader.dataset.root = "dataset:cifar10/train|cifar10_train.zip"
        with pytest.raises(DataRootError, match=r"put cifar10 or cifar10\.zip or cifar10_train\.zip in .*cs\.toronto"):
            resolve_config(tiny)


def built(config: Config) -> nn.Module:
    """The model of a config, without the weights that it starts from."""
    model = copy.deepcopy(config.model)
    model.pop("checkpoint", None)
    model.network.pop("checkpoint", None)
    if model.network.get("network", {}).get("weights"):
        model.network.network.weights = None
    terms = model.get("regularizer") or []
    for term in terms if isinstance(terms, list) else [terms]:
        term.pop("checkpoint", None)
    return MODELS.build(model)


def test_no_two_configs_write_the_same_results() -> None:
    from snnbench.results import slug

    seen: dict[tuple[str, str], str] = {}
    for path in CONFIGS:
        bench = Config.fromfile(str(path)).bench
        key = slug(bench.dataset), slug(bench.architecture)
        assert key not in seen, f"{path.stem} and {seen[key]} both write to {key}"
        seen[key] = path.stem


def test_every_config_starts_from_one_that_exists() -> None:
    """A checkpoint in the work folders is left there by the config of that name."""
    known = {f"work_dirs/classification/{p.parent.name}/{p.stem}/weights.safetensors" for p in CONFIGS}

    def checkpoints(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["checkpoint"]] if isinstance(value.get("checkpoint"), str) else []
            return own + [found for item in value.values() for found in checkpoints(item)]
        return [found for item in value for found in checkpoints(item)] if isinstance(value, (list, tuple)) else []

    for path in CONFIGS:
        wanted = [c for c in checkpoints(Config.fromfile(str(path)).model) if c.startswith("work_dirs/")]
        assert set(wanted) <= known, path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
class TestConfigs:
    def test_builds_and_its_rows_are_methods(self, path: Path) -> None:
        from snnbench.testing.convert_hook import ConvertHook

        config = Config.fromfile(str(path))
        bench = config.bench
        assert config.default_scope == "snnbench"
        assert {"task", "dataset", "split", "architecture", "metric", "scope", "weights"} <= set(bench)
        ConvertHook(methods=bench.methods, calibration={})
        transforms = config.test_dataloader.dataset.pipeline
        model = config.model
        if bench.dataset.startswith("ImageNet"):
            if model.network.type == "WheelModel":
                pytest.importorskip("efficientnet_lite_pytorch")
            trains = model.network.type == "Prepared"
            assert bench.weights == (None if trains else "model")
            assert (config.get("train_cfg") is not None) == trains
            network = model.network.network if trains else model.network
            (transform,) = transforms
            assert transform.name == network.name
            assert bench.calibration.dataset.pipeline == transforms
            if trains:
                assert config.val_dataloader.dataset.pipeline == transforms
            network.update({"pretrained": False} if "pretrained" in network else {"weights": None})
            preprocessing = TRANSFORMS.build(transform)
            assert (preprocessing.mean, preprocessing.std) == (
                model.data_preprocessor.mean,
                model.data_preprocessor.std,
            )
            classifier = MODELS.build(model).eval()
            with torch.no_grad():
                assert classifier(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
            return
        classifier = built(config).eval()
        with torch.no_grad():
            data = classifier.data_preprocessor({"inputs": images(1, 32)})
            assert classifier(data["inputs"]).shape == (1, 100 if bench.dataset == "CIFAR-100" else 10)
        assert transforms == []
        if config.param_scheduler is not None:
            assert config.param_scheduler[-1].end == config.train_cfg.max_epochs

    def test_fixed_parameters_are_the_scales_of_rate_norm_layers(self, path: Path) -> None:
        from mmengine.optim import build_optim_wrapper

        from snnconv.activations import RateNorm

        config = Config.fromfile(str(path))
        if "optim_wrapper" not in config:
            pytest.skip("this config does not train")
        init_default_scope(config.default_scope)
        model = built(config)
        optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
        fixed = {id(p) for group in optimizer.param_groups if group["lr"] == 0 for p in group["params"]}
        assert fixed == {id(m.p) for m in model.modules() if isinstance(m, RateNorm)}
        assert bool(fixed) == ("rate_norm" in path.stem)


def test_real_images_go_through_the_imagenet_config(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNNCONV_CACHE", str(tmp_path))
    try:
        root = resolve("dataset:imagenet_samples/val")
    except DataRootError:
        pytest.skip("imagenet_samples is not in SNNCONV_DATA")
    config = Config.fromfile(str(next(p for p in CONFIGS if p.parts[-2:] == ("imagenet", "resnet18.py"))))
    config.model.network.weights = None
    config.test_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    config.test_dataloader.dataset.update(root=root, indices=8)
    config.work_dir, config.log_level = str(tmp_path / "work"), "ERROR"
    runner = Runner.from_cfg(config)
    found = runner.test()
    assert 0 <= found["accuracy/top1"] <= found["accuracy/top5"] <= 100
    data = runner.test_dataloader.dataset
    wnids = sorted(folder.name for folder in Path(root).iterdir())
    assert all(wnids[label] == Path(file).parent.name for file, label in data.files)
    assert data[0]["inputs"].shape == (3, 224, 224)


@pytest.mark.slow
def test_imagenet_network_is_fine_tuned_and_converted(tmp_path: Path) -> None:
    from snnbench import results
    from snnbench.run import run_config

    try:
        root = resolve("dataset:imagenet_samples/val")
    except DataRootError:
        pytest.skip("imagenet_samples is not in SNNCONV_DATA")
    config = Config.fromfile(str(next(p for p in CONFIGS if p.parts[-2:] == ("imagenet", "resnet18_quant15.py"))))
    config.model.network.network.weights = None
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset.update(root=root, indices=8)
    config.custom_hooks[0].images = 4
    config.bench.calibration.update(images=4)
    config.bench.calibration.dataset.update(root=root)
    config.bench.methods = config.bench.methods[:1]
    config.train_cfg.max_epochs, config.log_level = 1, "ERROR"
    config.dump(tmp_path / "resnet18_quant15.py")
    (file,) = run_config(tmp_path / "resnet18_quant15.py", out=tmp_path, work_dir=tmp_path / "work", limit=8)
    record = results.read(file)
    (point,) = record["points"]
    assert point["metrics"]["top1"] == record["ann"]["metrics"]["top1"]
    assert (tmp_path / "work" / "weights.safetensors").exists()


def test_trained_resnet20_reaches_its_accuracy(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (data_folder / "resnet20_cifar10.safetensors").exists():
        pytest.skip("resnet20_cifar10.safetensors is not in SNNCONV_DATA")
    config = Config.fromfile(str(next(p for p in CONFIGS if p.parts[-2:] == ("cifar10", "resnet20.py"))))
    config.model.checkpoint = "dataset:resnet20_cifar10.safetensors"
    config.test_dataloader.dataset.indices = 1000
    config.work_dir, config.log_level = str(tmp_path / "work"), "ERROR"
    for name in ("train_cfg", "train_dataloader", "optim_wrapper", "param_scheduler", "custom_hooks"):
        config.pop(name)
    resolve_config(config)
    assert Runner.from_cfg(config).test()["accuracy/top1"] == pytest.approx(88.6, abs=0.5)
