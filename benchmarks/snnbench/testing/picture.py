"""Predictions drawn on the images: the source model and every network side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnconv.files.atomic import write_whole

__all__ = ["SideBySide"]


class SideBySide:
    """Collects predictions of the first samples and writes one PNG a sample.

    Args:
        folder: where the pictures go.
        count: how many samples.
        visualizer: mmengine's visualizer of the task (mmseg's or mmdet's), which draws one prediction.
        score: detections below it are not drawn.
    """

    def __init__(self, folder: Path, count: int, visualizer: Any, score: float = 0.3) -> None:
        self.folder = folder
        self.count = count
        self.visualizer = visualizer
        self.score = score
        self.panels: dict[str, list[tuple[str, np.ndarray]]] = {}

    def add(self, name: str, samples: Sequence[Any], data: dict[str, Any]) -> None:
        """Draw the predictions ``samples`` of network ``name``."""
        for sample in samples:
            path = str(getattr(sample, "img_path", ""))
            known = path in self.panels
            if not path or (not known and len(self.panels) >= self.count):
                continue
            panels = self.panels.setdefault(path, [])
            if not panels:
                panels.append(("annotation", self._draw(path, sample, truth=True)))
            if all(title != name for title, _ in panels):  # one readout of a network
                panels.append((name, self._draw(path, sample, truth=False)))

    def _draw(self, path: str, sample: Any, truth: bool) -> np.ndarray:
        import mmcv

        image = mmcv.imread(path, channel_order="rgb")
        options: dict[str, Any] = {"draw_gt": truth, "draw_pred": not truth, "show": False}
        if "pred_instances" in sample:
            options["pred_score_thr"] = self.score
        else:
            options["with_labels"] = False
        self.visualizer.add_datasample("sample", image, sample, **options)
        return np.asarray(self.visualizer.get_image())

    def finish(self) -> list[Path]:
        """Write the pictures; returns their files."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        self.folder.mkdir(parents=True, exist_ok=True)
        written = []
        for path, panels in self.panels.items():
            columns = min(4, len(panels))
            rows = -(-len(panels) // columns)
            height = 3.0 * panels[0][1].shape[0] / panels[0][1].shape[1] + 0.25
            figure, axes = plt.subplots(rows, columns, figsize=(3.0 * columns, height * rows), squeeze=False)
            for axis in axes.flat:
                axis.axis("off")
            for axis, (title, image) in zip(axes.flat, panels, strict=False):
                axis.imshow(image)
                axis.set_title(title, fontsize=8)
            figure.tight_layout(pad=0.3)
            file = self.folder / f"{Path(path).stem}.png"
            content = io.BytesIO()
            figure.savefig(content, format="png", dpi=150)
            plt.close(figure)
            write_whole(file, content.getvalue())
            written.append(file)
        return written
