"""Recordings in benchmark configs: with ``bench.input = "sequence"`` a network reads a frame a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("mmengine", reason="needs the bench extra")
pytest.importorskip("sklearn", reason="needs the bench extra")

import snnconv
from snnbench import results
from snnbench.config import BenchError, load_config
from snnbench.data.event_datasets import EventDigits
from snnbench.data.events import digit_recordings
from snnbench.run import run_config
from snnbench.tasks.classification import ImageClassifier
from snnbench.tasks.events import EventClassifier, EventPreprocessor
from snnbench.testing.model_parts import find_parts
from snnbench.testing.readouts import readouts
from snnconv import methods

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/events/digits/frame_network.py"


def frame_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()


def recordings(steps: int = 12) -> torch.Tensor:
    return (torch.rand(5, steps, 2, 2, 2, generator=torch.Generator().manual_seed(1)) > 0.6).float()


def test_recordings_have_a_label_and_are_the_same_every_time() -> None:
    data = EventDigits("test", steps=6, indices=20)
    sample = data[3]
    assert sample["inputs"].shape == (6, 2, 16, 16)
    assert len(data) == 20
    assert torch.equal(sample["inputs"], EventDigits("test", steps=6, indices=20)[3]["inputs"])
    with pytest.raises(ValueError, match="'train' or 'test', got 'val'"):
        digit_recordings("val", 6)


def test_accumulated_they_are_their_mean_frame() -> None:
    whole, mean = EventDigits("test", 6, indices=4), EventDigits("test", 6, accumulate=True, indices=4)
    torch.testing.assert_close(mean[2]["inputs"], whole[2]["inputs"].mean(0, keepdim=True))


def test_recordings_of_several_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="recordings of several sizes in one batch"):
        EventPreprocessor()({"inputs": [torch.ones(5, 2, 4, 4), torch.ones(6, 2, 4, 4)]})


def test_the_classifier_answers_to_the_mean_frame() -> None:
    network, x = frame_network(), recordings()
    torch.testing.assert_close(EventClassifier(network)(x), network(x.mean(1)))


def test_the_converted_network_reads_what_the_classifier_is_given_frame_by_frame() -> None:
    network, x = frame_network(), recordings()
    model = EventClassifier(network).eval()
    (part,) = find_parts(model, input="sequence")
    assert part.module is network
    snn = snnconv.convert(network, methods.SignedIF(12), x, input="sequence", progress=False)
    with part.replaced(lambda inputs: readouts(snn, inputs, [(1, 12)])[0]):
        found = model(x)
    torch.testing.assert_close(found, snn(x.transpose(0, 1)))
    torch.testing.assert_close(model(x), network(x.mean(1)))  # and the source network is back


def test_readouts_are_those_of_the_sequence() -> None:
    x = recordings()
    snn = snnconv.convert(frame_network(), methods.SignedIF(12), x, input="sequence", progress=False)
    seq = x.transpose(0, 1)
    half, late, whole = readouts(snn, x, [(1, 6), (7, 12), (1, 12)])
    torch.testing.assert_close(half, snn.run_sequence(seq[:6]).final)
    torch.testing.assert_close(late, snn.run_sequence(seq, window=6).final)
    torch.testing.assert_close(whole, (half + late) / 2, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="step 13 is asked for, and the recordings have 12 frames"):
        readouts(snn, x, [(1, 13)])
    bits = snnconv.convert(frame_network(), methods.ShiftedThreshold(4), x, input="sequence", progress=False)
    torch.testing.assert_close(readouts(bits, x, [(1, 4)])[0], bits(seq))  # all frames, each by itself
    with pytest.raises(ValueError, match="a part of the steps is no readout"):
        readouts(bits, x, [(1, 2)])


@pytest.mark.parametrize(
    ("model", "input", "words"),
    [
        (EventClassifier, "constant", "EventClassifier takes recordings: set bench.input to 'sequence'"),
        (ImageClassifier, "sequence", "ImageClassifier does not take recordings: EventClassifier does"),
    ],
)
def test_an_input_that_the_model_does_not_take_is_refused(model: Any, input: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find_parts(model(frame_network()), input=input)


def test_another_input_is_refused_by_field() -> None:
    with pytest.raises(BenchError, match="input"):
        load_config(CONFIG, {"bench.input": "video"})


def test_a_run_trains_converts_and_reads_out_after_several_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    options = {
        "epochs": 4, "train_dataloader.dataset.indices": 128, "train_dataloader.dataset.steps": 8,
        "test_dataloader.dataset.steps": 8, "val_dataloader.dataset.indices": 20, "bench.calibration.images": 32,
        "bench.calibration.dataset.steps": 8,
        "bench.methods": [
            {"label": "signed IF", "type": "SignedIF", "timesteps": [4, 8]},
            {"label": "bits", "type": "ShiftedThreshold", "timesteps": [4]},
            {"label": "too long", "type": "SRP", "timesteps": [8], "pre_timesteps": 4},
        ],
    }  # fmt: skip
    files = run_config(CONFIG, out=tmp_path / "out", work_dir=tmp_path / "work", limit=30, options=options)
    assert sorted(path.stem for path in files) == ["bits", "signed-if"]  # SRP cannot follow a sequence, and says so
    record = results.read(next(path for path in files if path.stem == "signed-if"))
    assert [point["timesteps"] for point in record["points"]] == [4, 8]
    assert any("spikes and operations were not counted: of recordings they are not" in n for n in record["notes"])
