"""Calibrate once: one object from which every method and T converts as from the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import nn

import snnconv
from snnconv import Calibration, ConversionError, methods
from snnconv.conversion import statistics
from snnconv.files.seal import UNSEALED, sealed
from snnconv.files.untrusted import read_safetensors

IMAGES = torch.rand(96, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 16), nn.ReLU(),
        nn.Linear(16, 5),
    ).eval()  # fmt: skip


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.a(x) + self.b(y)) * mask)


class NoTrace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x))) if float(x.sum()) > -1e9 else x


EVERY = [
    methods.IF(8),
    methods.SignedIF(4, thresholds="99.9%"),
    methods.SRP(8, 4, thresholds="max"),
    methods.ShiftedThreshold(3, per_channel=False),
    methods.ShiftedThreshold(2, correction="reconstruct"),
    methods.LocalThresholdBalancing(16, delay="auto", max_batches=20),
    methods.IF(32, delay="auto", correction="none"),
]


@pytest.mark.parametrize("method", EVERY, ids=lambda m: f"{m.name}-{m.thresholds}-{m.correction}")
def test_it_converts_as_the_data_do(method: methods.Method, tmp_path: Path) -> None:
    model = network()
    seen = snnconv.calibrate(model, IMAGES)
    seen.save(tmp_path / "seen.safetensors")
    direct = snnconv.convert(model, method, IMAGES, progress=False)
    for calibration in (seen, Calibration.load(tmp_path / "seen.safetensors")):
        snn = snnconv.convert(model, method, calibration, progress=False)
        assert torch.equal(snn(IMAGES), direct(IMAGES))
        assert snn.delay == direct.delay
        assert snn.report.calibration_samples == 96


def test_the_network_does_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    seen = snnconv.calibrate(model, IMAGES, samples=16)
    monkeypatch.setattr(statistics, "histograms", None)
    monkeypatch.setattr("snnconv.conversion.calibration.histograms", None)
    snnconv.convert(model, methods.SignedIF(4), seen, progress=False)


@pytest.mark.parametrize("make", [Two, NoTrace])
def test_several_inputs_and_networks_that_do_not_trace(make: type[nn.Module], tmp_path: Path) -> None:
    model, x = make().eval(), torch.randn(40, 6)
    data = {"x": x, "y": torch.randn(40, 4), "mask": torch.rand(8)} if make is Two else x
    seen = snnconv.calibrate(model, data)
    seen.save(tmp_path / "seen.safetensors")
    loaded = Calibration.load(tmp_path / "seen.safetensors")
    direct = snnconv.convert(model, methods.SignedIF(8), data, progress=False)
    snn = snnconv.convert(model, methods.SignedIF(8), loaded, progress=False)
    given = (data["x"], data["y"], data["mask"]) if isinstance(data, dict) else (x,)
    assert torch.equal(snn(*given), direct(*given))


def test_another_network_is_refused() -> None:
    seen = snnconv.calibrate(network(), IMAGES)
    with pytest.raises(ConversionError, match=r"of another network, or of other weights.*snnconv\.calibrate"):
        snnconv.convert(network(seed=1), methods.IF(4), seen)


def test_without_samples_only_what_runs_on_none_converts() -> None:
    model = network()
    seen = snnconv.calibrate(model, IMAGES, samples=0)
    with pytest.raises(ConversionError, match="correction='bias' runs on inputs, and this calibration keeps none"):
        snnconv.convert(model, methods.IF(4), seen)
    with pytest.raises(ConversionError, match="thresholds='ltb' runs on inputs"):
        snnconv.convert(model, methods.IF(4, thresholds="ltb", correction="none"), seen)
    snn = snnconv.convert(model, methods.IF(4, correction="none"), seen, progress=False)
    assert torch.equal(snn(IMAGES), snnconv.convert(model, methods.IF(4, correction="none"), IMAGES)(IMAGES))
    assert any("not checked against the model" in note for note in snn.report.notes)


def test_limits_and_wrong_arguments() -> None:
    seen = snnconv.calibrate(network(), [IMAGES[:40], IMAGES[40:]], samples=50, limit=70)
    assert (seen.count, sum(map(len, seen.samples))) == (70, 50)
    with pytest.raises(ValueError, match="samples is -1"):
        snnconv.calibrate(network(), IMAGES, samples=-1)
    with pytest.raises(ConversionError, match="already converted"):
        snnconv.calibrate(snnconv.convert(network(), methods.IF(4), seen), IMAGES)


class TestFiles:
    def test_something_else_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="does not exist"):
            Calibration.load(tmp_path / "absent.safetensors")
        (tmp_path / "text").write_text("no tensors")
        save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
        for name, sentence in (("text", "not a readable safetensors file"), ("other.safetensors", "not a file of Cal")):
            with pytest.raises(ConversionError, match=sentence):
                Calibration.load(tmp_path / name)

    @pytest.mark.parametrize(
        ("key", "change"),
        [
            ("bins/2", lambda v: v - 1),
            ("bins/2", lambda v: v[:, 1:]),
            ("bins/2", lambda v: v.float()),
            ("peak/2", lambda v: v * 100),
            ("peak/6", lambda v: v[None]),
            ("scale/6", lambda v: v * torch.inf),
            ("samples/0/", None),
            ("samples/0/", lambda v: v[:0]),
            ("samples/0/", lambda v: v.flatten()[0]),
            ("samples/0/", lambda v: v * torch.nan),
            ("bins/2", lambda v: v * 0),
            ("bins/2", lambda v: torch.cat([v[:1] * 2, v[1:]])),
            ("scale/6", lambda v: v > 0),
            ("peak/2", None),
        ],
    )
    def test_damage_is_refused(self, tmp_path: Path, key: str, change: object) -> None:
        path = tmp_path / "seen.safetensors"
        snnconv.calibrate(network(), IMAGES).save(path)
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        changed = tensors.pop(key)
        if callable(change):
            tensors[key] = change(changed).contiguous()
        path.write_bytes(sealed(save(tensors, {**metadata, "digest": UNSEALED.decode()})))
        with pytest.raises(ConversionError, match=r"seen\.safetensors: damaged .*calibrate again"):
            Calibration.load(path)

    @pytest.mark.parametrize(
        "change",
        [
            {"means": {}}, {"means": {"2": float("nan"), "6": 0.0}}, {"means": {"2": "0.5", "6": 0.0}}, {"count": 0},
            {"count": 2.5}, {"sites": ["2"]}, {"sites": ["2", "6", "6"]}, {"seen": "26"}, {"more": 1}, {"samples": []},
            {"samples": [{"names": ["input"], "kinds": {}, "plain": {}}]}, {"samples": [{}]}, {"source_digest": None},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_header_that_contradicts_itself_is_refused(self, tmp_path: Path, change: dict[str, object]) -> None:
        path = tmp_path / "seen.safetensors"
        snnconv.calibrate(network(), IMAGES).save(path)
        tensors, metadata = read_safetensors(path)
        header = json.loads(metadata["calibration"])
        assert header["seen"] == ["2", "6"]
        texts = {"calibration": json.dumps(header | change), "digest": UNSEALED.decode()}
        path.write_bytes(sealed(save(tensors, metadata | texts)))
        with pytest.raises(ConversionError, match=r"seen\.safetensors: damaged .*calibrate again"):
            Calibration.load(path)

    @pytest.mark.parametrize("samples", [0, 8])
    def test_channels_of_another_network_are_refused(self, tmp_path: Path, samples: int) -> None:
        path = tmp_path / "seen.safetensors"
        snnconv.calibrate(network(), IMAGES, samples=samples).save(path)
        tensors, metadata = read_safetensors(path)
        for what in ("peak/6", "scale/6", "bins/6"):
            tensors[what] = tensors[what][:-1].contiguous()
        path.write_bytes(sealed(save(tensors, metadata | {"digest": UNSEALED.decode()})))
        seen = Calibration.load(path)
        with pytest.raises(ConversionError, match="6: the calibration saw 15 channels, and the network has 16"):
            snnconv.convert(network(), methods.IF(4, correction="none"), seen, example=IMAGES[:2], progress=False)

    def test_a_changed_bit_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "seen.safetensors"
        snnconv.calibrate(network(), IMAGES).save(path)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ConversionError, match=r"seen\.safetensors: damaged: it is not what its digest says"):
            Calibration.load(path)


def test_the_seed_reaches_reconstruction() -> None:
    model, method = network(), methods.ShiftedThreshold(2, correction="reconstruct")
    one, again, other = (snnconv.convert(model, method, IMAGES, seed=s, progress=False)(IMAGES) for s in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
