"""Pictures as recordings of an event camera, and a frame network that follows them."""

from __future__ import annotations

import pytest
import torch

from snnbench.data.events import saccade


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
