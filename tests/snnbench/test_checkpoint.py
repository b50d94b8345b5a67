"""Checkpoints load without running code from them: mmengine's resume, and weights from any kind of file."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from snnconv import limits
from snnconv.files.untrusted import (
    CheckpointError,
    UntrustedFileError,
    allow_checkpoint_globals,
    load_weights,
    read_pickle,
)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture(autouse=True)
def _globals_as_before() -> Iterator[None]:
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


# --- files that load ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model": w, "optimizer": {}},
        lambda w: {"state_dict": {f"module.{name}": value for name, value in w.items()}},
        lambda w: {f"network.{name}": value for name, value in w.items()},
        lambda w: {"state_dict": w, "loss": np.float64(0.5), "classes": np.arange(3), "mask": np.ones(2, bool)},
    ],
    ids=["bare", "state_dict", "model", "data-parallel", "classifier", "numpy"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_kind_of_checkpoint_loads(tmp_path: Path, wrap: Callable[[Any], Any], zipped: bool) -> None:
    source, target = network(), network()
    path = tmp_path / "net.pth"
    torch.save(wrap(source.state_dict()), path, _use_new_zipfile_serialization=zipped)
    load_weights(target, path)
    assert same(source, target)


def test_safetensors_load(tmp_path: Path) -> None:
    source, target = network(), network()
    save_file(source.state_dict(), tmp_path / "net.safetensors")
    load_weights(target, str(tmp_path / "net.safetensors"))
    assert same(source, target)


def test_numpy_of_before_version_2_loads(tmp_path: Path) -> None:
    source, target = network(), network()
    path = tmp_path / "net.pth"
    content = {"state_dict": source.state_dict(), "lr": np.float32(0.1), "classes": np.arange(3)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.", b"numpy.core."))
    load_weights(target, path)
    assert same(source, target)


def test_loading_leaves_the_allowed_globals_as_they_were(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "net.pth")
    load_weights(network(), tmp_path / "net.pth")
    assert torch.serialization.get_safe_globals() == []
    allow_checkpoint_globals()
    allowed = set(torch.serialization.get_safe_globals())
    load_weights(network(), tmp_path / "net.pth")
    allow_checkpoint_globals()
    assert set(torch.serialization.get_safe_globals()) == allowed


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.random.default_rng(0).normal(size=(3, 2))),
        np.zeros(0),
        np.arange(3, dtype=">i2"),
        np.array(["a", "bc"]),
        np.array([True, False]),
        np.array(1 + 2j),
    ],
    ids=lambda v: f"{v.dtype} {v.shape}",
)
def test_arrays_are_what_numpy_makes_of_them(tmp_path: Path, value: np.ndarray) -> None:
    allow_checkpoint_globals()
    torch.save({"array": value, "scalars": list(value.ravel())}, tmp_path / "a.pth")
    loaded = torch.load(tmp_path / "a.pth")
    found = loaded["array"]
    expected = pickle.loads(pickle.dumps(value, protocol=2))
    assert np.array_equal(found, value)
    assert (found.dtype, found.shape, found.strides) == (expected.dtype, expected.shape, expected.strides)
    assert [(type(x), x) for x in loaded["scalars"]] == [(type(x), x) for x in value.ravel()]
    assert type(np.append(found, found)) is type(pickle.loads(pickle.dumps(found))) is np.ndarray


# --- files that do not fit ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("0.bias"), r"not the weights of the given Sequential: 0\.bias is not in the file"),
        (lambda w: w.update(extra=torch.ones(1)), "extra is only in the file"),
        (lambda w: w.update({"3.weight": torch.ones(5, 8)}), r"3\.weight is 5x8 in the file and 2x8 in the model"),
        (lambda w: w.update({"1.num_batches_tracked": torch.ones(2)}), "is 2 in the file and a single number in"),
        (lambda w: w.update({f"more.{i}": torch.ones(1) for i in range(9)}), "and 5 more"),
    ],
)
def test_other_weights_are_named_and_not_loaded(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    weights, target = network().state_dict(), network()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    change(weights)
    torch.save(weights, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=message):
        load_weights(target, tmp_path / "net.pth")
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(2), {"state_dict": {"a": "b"}}, None]
)
def test_a_file_without_weights_is_told(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"net\.pth: holds no weights"):
        load_weights(network(), tmp_path / "net.pth")


def test_missing_weights_of_another_config_are_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/task").mkdir(parents=True)
    (tmp_path / "configs/task/net.py").touch()
    with pytest.raises(FileNotFoundError, match=r"does not exist: `snnconv train configs/task/net\.py` makes it$"):
        load_weights(network(), "work_dirs/task/net/weights.safetensors")
    with pytest.raises(FileNotFoundError, match=r"does not exist$"):
        load_weights(network(), "work_dirs/task/other/weights.safetensors")


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pth does not exist"):
        load_weights(network(), tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_weights(network(), tmp_path)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"a text\n" * 50, b"PK\x03\x04" + bytes(100), bytes(200), b"\x80\x02."])
def test_what_is_no_checkpoint_is_told_in_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}(: not a (checkpoint|readable)| is damaged)") as caught:
        load_weights(network(), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["net.pth", "old.pth", "net.safetensors"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_told(tmp_path: Path, name: str, part: float) -> None:
    path = tmp_path / name
    if name == "net.safetensors":
        save_file(network().state_dict(), path)
    else:
        torch.save(network().state_dict(), path, _use_new_zipfile_serialization=name == "net.pth")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CheckpointError, match=rf"{name}(: not a (checkpoint|readable)| is damaged)"):
        load_weights(network(), path)


def test_a_changed_bit_of_a_weight_is_told(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.ones(64)}, path)
    whole = path.read_bytes()
    at = whole.index(torch.ones(64).numpy().tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert torch.load(path, weights_only=True)["a"][0] != 1  # torch does not see it
    with pytest.raises(UntrustedFileError, match=r"net\.pth is damaged .* is not what its checksum says"):
        read_pickle(path)


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(2)}, path)
    finally:
        torch.serialization.set_crc32_options(before)
    assert read_pickle(path)["a"].tolist() == [1, 1]


def test_weights_that_grow_without_measure_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, path = io.BytesIO(), tmp_path / "net.pth"
    torch.save({"a": torch.zeros(2**18)}, source)
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    monkeypatch.setattr(limits, "UNPACKED", 2**16)
    with pytest.raises(UntrustedFileError, match=r"net\.pth is refused: its .* bytes would grow to"):
        read_pickle(path)


# --- files that want to run code ---------------------------------------------------------------------------


class Call:
    """Pickled as a call: unpickling makes it."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class State:
    """Pickled as ``value`` with another state."""

    def __init__(self, value: Any, state: Any) -> None:
        self.value, self.state = value, state

    def __reduce__(self) -> tuple[Any, Any, Any]:
        function, args, *_ = self.value.__reduce__()
        return function, args, self.state


def attacks(mark: Path) -> dict[str, Any]:
    command = f"open({str(mark)!r}, 'w')"
    return {
        "system": Call(os.system, f"touch {mark}"),
        "exec": Call(exec, command),
        "eval": Call(eval, command),
        "getattr": Call(getattr, np.ndarray, "tofile"),
        "statistic": Call(getattr, Call(np.dtype, "f4"), "newbyteorder"),
        "objects": np.array([Call(exec, command)], dtype=object),
        "object type": np.dtype("O"),
        "namespace": argparse.Namespace(lr=0.1),
        "load": Call(np.load, str(mark), None, True),
        "address": Call(np.ndarray, (1,), "O", b"12345678"),  # an object at an address that the file names
        "address by type": Call(np.ndarray, (1,), np.dtype("f8"), b"12345678"),
        "structure": np.zeros(1, [("a", "f4")]),
        "state of a type": State(np.dtype("f8"), (4, "|", ("O", (1,)), None, None, 8, 8, 0)),
        "state of an array": State(np.zeros(1), (1, (1,), "O", False, [1])),
    }


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "as delivered"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", attacks(Path()))
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, name: str, zipped: bool, allowed: bool) -> None:
    mark, path = tmp_path / "ran", tmp_path / "net.pth"
    content = {"state_dict": network().state_dict(), "meta": attacks(mark)[name]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if allowed:
        allow_checkpoint_globals()
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path)
    with pytest.raises(
        CheckpointError, match=r"net\.pth: refused, and nothing of it was run: it asks for \S+"
    ) as caught:
        load_weights(network(), path)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "net.pth"
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(attacks(mark)["system"], protocol=protocol))
        with pytest.raises(CheckpointError):
            load_weights(network(), path)
    assert not mark.exists()


# --- mmengine ----------------------------------------------------------------------------------------------


class Data(torch.utils.data.Dataset):
    @property
    def metainfo(self) -> dict[str, Any]:
        return {"classes": ("a", "b"), "palette": np.zeros((2, 3), np.uint8)}

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.randn(4), index % 2


def runner(folder: Path, **options: Any) -> Any:
    """A run that has in its checkpoints all that mmengine puts there; no distributed or logging state is shared."""
    from mmengine.evaluator import BaseMetric, Evaluator
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Model(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network()

        def forward(self, x: torch.Tensor, y: torch.Tensor, mode: str = "tensor") -> Any:
            z = self.layers(x)
            return {"loss": nn.functional.cross_entropy(z, y)} if mode == "loss" else list(z)

    class Score(BaseMetric):
        default_prefix = "score"

        def process(self, data_batch: Any, data_samples: Any) -> None:
            self.results.append(1)

        def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
            return {"mean": np.mean([1.0, 2.0]), "single": np.float32(2), "count": np.int64(3)}

    def loader() -> Any:
        return torch.utils.data.DataLoader(Data(), batch_size=4)

    return Runner(
        Model(),
        str(folder),
        train_dataloader=loader(),
        val_dataloader=loader(),
        val_cfg={},
        val_evaluator=Evaluator(Score()),
        optim_wrapper={"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 0.1}},
        param_scheduler=[
            {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 2},
            {"type": "CosineAnnealingLR", "T_max": 2},
            {"type": "ReduceOnPlateauLR", "monitor": "score/mean", "rule": "greater"},
        ],
        custom_hooks=[{"type": "EMAHook"}],
        default_hooks={
            "checkpoint": {"type": "CheckpointHook", "interval": 1, "save_best": "score/mean", "rule": "greater"},
            "logger": {"type": "LoggerHook", "interval": 1},
        },
        randomness={"seed": 1},
        log_level="ERROR",
        experiment_name=f"{folder.name}_{len(options)}_{options.get('resume')}",
        **options,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of one epoch."""
    pytest.importorskip("mmengine", reason="mmengine is not installed (the extra 'bench' has it)")
    folder = tmp_path_factory.mktemp("run")
    runner(folder, train_cfg={"by_epoch": True, "max_epochs": 1}).train()
    return folder


@pytest.mark.filterwarnings("ignore")
def test_a_run_resumes_from_its_checkpoint(trained: Path) -> None:
    with pytest.raises(pickle.UnpicklingError):  # what is to be mended
        torch.load(trained / "epoch_1.pth")
    allow_checkpoint_globals()
    resumed = runner(trained, train_cfg={"by_epoch": True, "max_epochs": 2}, resume=True)
    resumed.train()
    assert resumed.epoch == 2
    history = resumed.message_hub.get_scalar("train/loss")
    assert len(history.data[0]) == 4, "two steps before resuming and two after"
    assert history.statistics("mean") == history.mean()
    assert resumed.message_hub.get_info("best_score") == 1.5


@pytest.mark.filterwarnings("ignore")
def test_weights_of_a_run_load(trained: Path) -> None:
    from mmengine.logging import HistoryBuffer

    statistics = dict(HistoryBuffer._statistics_methods)
    target = nn.Module()
    target.layers = network()
    load_weights(target, trained / "epoch_1.pth")
    allow_checkpoint_globals()
    expected = torch.load(trained / "epoch_1.pth")["state_dict"]
    assert all(torch.equal(value, expected[name]) for name, value in target.state_dict().items())
    assert statistics == HistoryBuffer._statistics_methods


@pytest.mark.parametrize("name", ["register_statistics", "__init__", "__setstate__"])
def test_no_other_method_of_the_history_is_given(tmp_path: Path, name: str) -> None:
    history = pytest.importorskip("mmengine.logging").HistoryBuffer
    allow_checkpoint_globals()
    torch.save(Call(getattr, history, name), tmp_path / "net.pth")
    with pytest.raises(pickle.UnpicklingError, match="getattr"):
        torch.load(tmp_path / "net.pth")


def test_a_fork_that_opens_what_it_is_refused_no_longer_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = pytest.importorskip("mmengine.runner.checkpoint")

    def as_in_onedl_mmengine(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        try:
            return torch.load(file, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError:
            return torch.load(file, map_location=map_location, weights_only=False)

    monkeypatch.setattr(loading, "_safe_torch_load", as_in_onedl_mmengine, raising=False)
    mark, path = tmp_path / "ran", tmp_path / "net.pth"
    torch.save(attacks(mark)["system"], path)
    allow_checkpoint_globals()
    with pytest.raises(pickle.UnpicklingError):
        loading._safe_torch_load(path, map_location="cpu")
    assert not mark.exists()
