"""A detector that finds nothing anywhere scores zero; mmdet's COCO metric gives no figure then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmengine")
pytest.importorskip("mmdet")
from mmengine.config import ConfigDict
from mmengine.evaluator import Evaluator

from snnbench.mmcv_ops import install as operators
from snnbench.testing.test_loop import ANN, SNNTestLoop

KEY = ("signed IF", (0, 4))


@pytest.fixture
def annotations(tmp_path: Path) -> str:
    path = tmp_path / "instances.json"
    content = {
        "images": [{"id": 1, "height": 32, "width": 32, "file_name": "1.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 9, 9], "area": 81, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cell"}],
    }
    path.write_text(json.dumps(content))
    return str(path)


def evaluator(annotations: str, boxes: list[list[float]]) -> Evaluator:
    operators.install()
    from mmdet.evaluation import CocoMetric

    metric = CocoMetric(ann_file=annotations, metric="bbox", classwise=False)
    metric.dataset_meta = {"classes": ("cell",)}
    found = {
        "img_id": 1,
        "bboxes": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "scores": np.full(len(boxes), 0.9, dtype=np.float32),
        "labels": np.zeros(len(boxes), dtype=np.int64),
    }
    metric.results.append(({"img_id": 1, "width": 32, "height": 32}, found))
    result = Evaluator(metric)
    result.dataset_meta = {"classes": ("cell",)}
    return result


def scores(evaluators: dict) -> tuple[dict, list[str]]:
    loop = SNNTestLoop.__new__(SNNTestLoop)
    loop.dataloader, loop.evaluators, loop.notes, loop.variants = ConfigDict(dataset=[0]), evaluators, [], []
    loop.samples, loop.errors = {}, {}
    return loop._evaluate(), loop.notes


def test_one_that_finds_nothing_scores_zero_in_every_figure(annotations: str) -> None:
    whole, nothing = evaluator(annotations, [[4, 4, 13, 13]]), evaluator(annotations, [])
    results, notes = scores({(ANN, (0, 0)): whole, KEY: nothing})
    assert results[ANN, (0, 0)]["bbox_mAP_50"] == 1.0
    assert results[KEY] == dict.fromkeys(results[ANN, (0, 0)], 0.0)
    assert notes == ["signed IF: no detection in any image"]


def test_where_no_network_finds_anything_the_mean_is_zero(annotations: str) -> None:
    empty = evaluator(annotations, [])
    results, notes = scores({(ANN, (0, 0)): empty})
    assert results == {(ANN, (0, 0)): {"bbox_mAP": 0.0}}
    assert len(notes) == 1
