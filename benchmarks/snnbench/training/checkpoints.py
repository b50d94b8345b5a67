"""Checkpoints of a training, one of which is whole on disk at any moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from snnbench.registry import HOOKS
from snnconv.files.atomic import write_whole

__all__ = ["WholeCheckpointHook"]


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's, in another order: write the new checkpoint, name it in ``last_checkpoint``, remove the oldest.

    mmengine removes first, and empties ``last_checkpoint`` before it writes it, so that a process killed in between
    leaves nothing to go on from where ``max_keep_ckpts=1``.
    """

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        keeps, old = self.max_keep_ckpts > 0, []
        if keeps and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                old.append(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            # with the one that is still there: a run that goes on from this checkpoint removes it
            runner.message_hub.update_info("keep_ckpt_ids", [*old, *self.keep_ckpt_ids])
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        write_whole(Path(runner.work_dir) / "last_checkpoint", str(self.last_ckpt).encode())
        for gone in old:
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(gone))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
