"""What the metrics of mmengine hold of each sample, as the answers of a result file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.dist import collect_results
from mmengine.evaluator import BaseMetric

from snnbench.data.image_datasets import SKIPPED
from snnbench.results.kinds import KINDS, Arrays, bootstrap_error

__all__ = ["SAMPLED", "Sampled", "bootstrap", "sampled"]


@dataclass(frozen=True)
class Sampled:
    """What a metric holds of each sample.

    Attributes:
        kind, arrays, truth: as in `snnbench.results.answers`: a network's arrays, and what is equal for all networks.
        metric: of the evaluation, which the samples give again; empty where its error needs no bootstrap: a share of
            samples is binomial, a mean has its spread beside it.
        unit: the kind's score over that metric: 100 where that is a share of 1.
    """

    kind: str
    arrays: Arrays
    truth: Arrays = field(default_factory=dict)
    metric: str = ""
    unit: float = 1.0


def sampled(metric: BaseMetric, size: int) -> Sampled | None:
    """What a metric holds of each of ``size`` samples, collected over ranks; None where that is not known.

    To be called before the metric's evaluation, which forgets it; on other ranks than the first it gives None.
    """
    take = next((SAMPLED[cls.__name__] for cls in type(metric).__mro__ if cls.__name__ in SAMPLED), None)
    if take is None:
        return None
    results = collect_results(metric.results, size, metric.collect_device)
    return None if results is None or len(results) != size else take(metric, results)


def bootstrap(found: Sampled, metrics: dict[str, float]) -> dict[str, float]:
    """Metric → its standard error in its unit; nothing where it has an error of another kind.

    Args:
        found: what the metric held.
        metrics: the evaluation's.

    Raises:
        ValueError: the samples do not give the metric again.
    """
    if not found.metric:
        return {}
    samples = len(next(iter(found.truth.values())))
    whole = float(KINDS[found.kind].score(found.arrays, found.truth, np.ones((1, samples)))[0])
    value = metrics[found.metric]
    if abs(whole / found.unit - value) > 0.06 / found.unit:  # evaluations round
        raise ValueError(f"samples give {found.metric} = {whole / found.unit:.4g}, the evaluation {value:.4g}")
    error = bootstrap_error(found.kind, found.arrays, found.truth, samples)
    return {found.metric: error / found.unit}


def _right(metric: Any, results: Sequence[Any]) -> Sampled | None:
    """Of `TopK`: the place of the label among the highest scores; not where samples have no label."""
    if any(isinstance(place, str) or place == SKIPPED for place in results):
        return None
    return Sampled("right", {"right": np.array([place == 0 for place in results], np.uint8)})


def _returns(metric: Any, results: Sequence[Any]) -> Sampled:
    return Sampled("value", {"value": np.array([value for value, _ in results])})


def _areas(metric: Any, results: Sequence[Any]) -> Sampled:
    intersect, union, _, label = (np.stack([np.asarray(a) for a in part]) for part in zip(*results, strict=True))
    arrays = {"intersect": intersect.astype(np.int32), "union": union.astype(np.int32)}
    return Sampled("areas", arrays, {"label": label.astype(np.int32)}, "mIoU")


def _voc_detections(metric: Any, results: Sequence[Any]) -> Sampled | None:
    """Of mmdet's ``VOCMetric``: every detection, and whether it meets an object at each threshold of overlap."""
    from mmdet.evaluation.functional.mean_ap import tpfp_default

    if metric.metric != "mAP" or metric.scale_ranges:
        return None
    classes = len(metric.dataset_meta["classes"])
    positives = np.zeros((len(results), classes), np.int32)
    rows: list[Arrays] = []
    for image, (objects, found) in enumerate(results):
        for kind in range(classes):
            own = objects["bboxes"][objects["labels"] == kind]
            ignored = objects["bboxes_ignore"][objects["labels_ignore"] == kind]
            positives[image, kind] = len(own)
            boxes = found[kind]
            if not len(boxes):
                continue
            marks = [
                tpfp_default(boxes, own, ignored, threshold, use_legacy_coordinate=True)
                for threshold in metric.iou_thrs
            ]
            hit, missed = (np.stack([mark[which][0] for mark in marks], 1) for which in (0, 1))
            counted = ((hit + missed) > 0).any(1)
            rows.append(_detections(image, kind, boxes[counted, -1], hit[counted]))
    kinds = {"area": "detections, area", "11points": "detections, 11 recalls"}
    arrays = _joined(rows, len(metric.iou_thrs))
    return Sampled(kinds[metric.eval_mode], arrays, {"positives": positives}, "mAP", 100.0)


def _coco_detections(metric: Any, results: Sequence[Any]) -> Sampled | None:
    """Of mmdet's ``CocoMetric``: the same by pycocotools, for boxes and objects of any size."""
    from pycocotools.cocoeval import COCOeval

    if "bbox" not in metric.metrics or metric._coco_api is None or metric.metric_items is not None:
        return None
    ids = [int(result["img_id"]) for _, result in results]
    truth = metric._coco_api
    names = metric.dataset_meta["classes"]
    kinds = metric.cat_ids or truth.get_cat_ids(cat_names=names)
    boxes = [
        {"image_id": place, "category_id": kinds[int(label)], "score": float(score),
         "bbox": [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]}
        for place, (_, result) in zip(ids, results, strict=True)
        for box, score, label in zip(result["bboxes"], result["scores"], result["labels"], strict=True)
    ]  # fmt: skip
    if not boxes:
        return None
    evaluation = COCOeval(truth, truth.loadRes(boxes), "bbox")
    settings = evaluation.params
    settings.catIds, settings.imgIds, settings.iouThrs = kinds, sorted(set(ids)), metric.iou_thrs
    settings.maxDets, settings.areaRng, settings.areaRngLbl = [metric.proposal_nums[-1]], [[0, 1e10]], ["all"]
    evaluation.evaluate()
    place = {name: at for at, name in enumerate(settings.imgIds)}
    positives = np.zeros((len(place), len(kinds)), np.int32)
    rows = []
    for found in filter(None, evaluation.evalImgs):
        image, kind = place[found["image_id"]], kinds.index(found["category_id"])
        positives[image, kind] = int((np.asarray(found["gtIgnore"]) == 0).sum())
        ignored = np.asarray(found["dtIgnore"], bool)
        counted = ~ignored.any(0)
        hit = (np.asarray(found["dtMatches"]) > 0).T
        rows.append(_detections(image, kind, np.asarray(found["dtScores"])[counted], hit[counted]))
    arrays = _joined(rows, len(metric.iou_thrs))
    return Sampled("detections, 101 recalls", arrays, {"positives": positives}, "bbox_mAP", 100.0)


def _detections(image: int, kind: int, scores: Any, hit: Any) -> Arrays:
    count = len(scores)
    return {
        "score": np.asarray(scores, np.float32),
        "image": np.full(count, image, np.int32),
        "class": np.full(count, kind, np.int16),
        "hit": np.asarray(hit, np.uint8),
    }


def _joined(rows: Sequence[Arrays], thresholds: int) -> Arrays:
    empty = _detections(0, 0, [], np.zeros((0, thresholds)))
    return {name: np.concatenate([own[name] for own in (empty, *rows)]) for name in empty}


SAMPLED: dict[str, Callable[[Any, Sequence[Any]], Sampled | None]] = {
    "TopK": _right,
    "AverageReturn": _returns,
    "IoUMetric": _areas,
    "VOCMetric": _voc_detections,
    "CocoMetric": _coco_detections,
}
"""Name of a metric's class → ``(metric, results)`` → what it holds of each sample."""
