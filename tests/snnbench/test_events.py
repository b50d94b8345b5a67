"""Pictures as recordings of an event camera, and a frame network that follows them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from snnbench.data.events import saccade, tonic_frames


def test_events_come_where_and_when_the_light_changes() -> None:
    picture = torch.zeros(1, 1, 12, 12)
    picture[..., 4:8, 4:8] = 1.0
    events = saccade(picture, 20, noise=0.0)
    assert events.shape == (20, 1, 2, 12, 12)
    assert float(events.sum()) > 0
    assert float(events[:, 0, :, :1].sum()) == 0, "nothing changes far from the edges"
    assert float(saccade(torch.full((1, 1, 12, 12), 0.5), 20, noise=0.0).sum()) == 0


def test_polarities_take_turns_as_the_picture_comes_back() -> None:
    picture = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    counts = saccade(picture, 40, noise=0.0, mismatch=0.0).sum((0, 1))
    on, off = counts[0].sum(), counts[1].sum()
    assert float((on - off).abs() / (on + off)) < 0.1


def test_noise_has_its_rate_and_both_polarities() -> None:
    events = saccade(torch.full((50, 1, 10, 10), 0.5), 40, noise=0.02)
    assert float(events[:, :, 0].mean()) == pytest.approx(0.02, rel=0.1)
    assert float(events[:, :, 1].mean()) == pytest.approx(0.02, rel=0.1)


def test_the_seed_says_all() -> None:
    picture = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(saccade(picture, 10, seed=3), saccade(picture, 10, seed=3))
    assert not torch.equal(saccade(picture, 10, seed=3), saccade(picture, 10, seed=4))


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="values from 0 to 1"):
        saccade(torch.full((1, 1, 4, 4), 2.0), 4)
    with pytest.raises(ValueError, match=r"\[B, C, H, W\]"):
        saccade(torch.zeros(4, 4), 4)


def test_recordings_in_files_of_n_mnist_come_by_tonic(tmp_path: Path) -> None:
    """Five bytes an event: x, y, the polarity with the first bits of the time, the rest of it.

    tonic's frames end before the last event.
    """
    datasets = pytest.importorskip("tonic", reason="tonic (GPL-3) is not installed").datasets
    events = [[(3, 5, 1, 100), (3, 5, 0, 40_000), (33, 0, 1, 70_000), (9, 9, 1, 70_100)],
              [(0, 33, 0, 7), (0, 33, 0, 8), (1, 1, 1, 8_000), (9, 9, 1, 9_000)]]  # fmt: skip
    for label, recording in zip((2, 7), events, strict=True):
        folder = tmp_path / "Two" / "Test" / str(label)
        folder.mkdir(parents=True)
        rows = [(x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255) for x, y, p, t in recording]
        (folder / "00001.bin").write_bytes(bytes(value for row in rows for value in row))

    class Two(datasets.NMNIST):  # type: ignore[misc, name-defined]
        def _check_exists(self) -> bool:
            return True  # of 10,000 files; nothing is fetched

    frames, labels = tonic_frames(Two(str(tmp_path), train=False), steps=2)
    assert frames.shape == (2, 2, 2, 34, 34)
    assert labels.tolist() == [2, 7]
    counts = {tuple(place): float(frames[tuple(place)]) for place in frames.nonzero().tolist()}
    # sample, half of the recording, polarity, row, column
    assert counts == {
        (0, 0, 1, 5, 3): 1, (0, 1, 0, 5, 3): 1, (0, 1, 1, 0, 33): 1, (1, 0, 0, 33, 0): 2, (1, 1, 1, 1, 1): 1,
    }  # fmt: skip


def test_without_tonic_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tonic.transforms", None)
    with pytest.raises(ImportError, match=r"needs tonic: pip install tonic \(GPL-3\)"):
        tonic_frames([], steps=2)
