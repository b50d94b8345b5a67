"""Checkpoints of a training: one is whole on disk, and named, at any moment."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mmengine")

from mmengine.fileio import LocalBackend

from snnbench.training.checkpoints import WholeCheckpointHook


class Stopped(Exception):
    pass


class Training:
    """What the hook asks of a runner; it can be told to stop while it writes."""

    def __init__(self, folder: Path) -> None:
        self.work_dir, self.told, self.stops = str(folder), {}, False
        self.message_hub = SimpleNamespace(update_info=self.told.__setitem__)

    def save_checkpoint(self, folder: str, name: str, *_: Any, **options: Any) -> None:
        (Path(folder) / name).write_text("half")
        if self.stops:
            raise Stopped
        (Path(folder) / name).write_text("whole")


def hook_in(folder: Path, most: int) -> WholeCheckpointHook:
    hook = WholeCheckpointHook(interval=1, max_keep_ckpts=most)
    hook.out_dir, hook.file_backend, hook.keep_ckpt_ids = str(folder), LocalBackend(), deque(maxlen=most)
    hook.filename_tmpl = "epoch_{}.pth"
    return hook


@pytest.mark.parametrize("most", [1, 2])
def test_the_oldest_goes_once_the_new_one_is_named(most: int, tmp_path: Path) -> None:
    hook, training = hook_in(tmp_path, most), Training(tmp_path)
    for step in (1, 2, 3):
        hook._save_checkpoint_with_step(training, step, {})
    kept = [f"epoch_{step}.pth" for step in range(4 - most, 4)]
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == kept
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "epoch_3.pth")
    assert training.told["keep_ckpt_ids"] == list(range(3 - most, 4))  # whoever goes on from it removes the first


def test_a_training_that_ends_while_it_writes_has_the_one_before(tmp_path: Path) -> None:
    hook, training = hook_in(tmp_path, 1), Training(tmp_path)
    hook._save_checkpoint_with_step(training, 1, {})
    training.stops = True
    with pytest.raises(Stopped):
        hook._save_checkpoint_with_step(training, 2, {})
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "epoch_1.pth")
    assert (tmp_path / "epoch_1.pth").read_text() == "whole"
